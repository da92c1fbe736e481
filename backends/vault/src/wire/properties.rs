//! What holds for all that a store can answer in a body: what is read in it is what another parser reads.
//! `fuzz/` looks for a body that breaks this; its seeds are a test here.

use secret_resolver::ExposeSecret;
use serde_json::{Value, json};

use super::*;

/// Whether it is a record.
pub(crate) fn hold(body: &[u8]) -> bool {
    let others = serde_json::from_slice::<Value>(body).ok();
    let read = record(body, ROOM).ok();
    if let Some(read) = &read {
        assert!(read.weight() <= body.len());
        if let Some(others) = &others {
            has_these_fields(read, others);
        }
    }
    if let (Ok(login), Some(others)) = (login(body), &others) {
        is_this_login(&login, others);
    }
    if let (Ok(grant), Some(others)) = (renewal(body), &others) {
        is_this_grant(grant, &others["auth"]["lease_duration"], &others["auth"]);
    }
    if let (Ok(lookup), Some(others)) = (lookup(body), &others) {
        is_this_lookup(lookup, &others["data"]);
    }
    if let Some(others) = others {
        is_taken_in_its_plain_form(&others);
    }
    read.is_some()
}

const ROOM: usize = 1 << 20;

fn has_these_fields(record: &Record, others: &Value) {
    let metadata = &others["data"]["metadata"];
    let version = metadata["version"].as_u64().map(Version::number);
    assert_eq!(Some(record.version()), version.as_ref());
    let Some(fields) = others["data"]["data"].as_object() else {
        panic!("a record is read where no object is");
    };
    for (name, value) in fields {
        let read = record.field(name).ok();
        let read = read.as_ref().map(ExposeSecret::expose_secret);
        match value {
            Value::Null => assert_eq!(read, None),
            Value::String(text) => assert_eq!(read, Some(text.as_bytes())),
            value => {
                let read = read.and_then(|read| serde_json::from_slice::<Value>(read).ok());
                assert_eq!(read.as_ref(), Some(value));
            }
        }
    }
}

fn is_this_login(login: &Login, others: &Value) {
    let auth = &others["auth"];
    let token = login.token.expose();
    assert_eq!(
        auth["client_token"].as_str().map(str::as_bytes),
        Some(token)
    );
    assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
    assert!(!login.is_batch || auth["token_type"] == "batch");
    if let Some(grant) = login.grant {
        is_this_grant(grant, &auth["lease_duration"], auth);
    }
}

fn is_this_grant(grant: Grant, seconds: &Value, others: &Value) {
    let reported = grant.lease.map_or(0, |lease| lease.as_secs());
    assert_eq!(seconds.as_u64(), Some(reported));
    assert_eq!(
        others["renewable"].as_bool().unwrap_or(false),
        grant.renewable
    );
}

fn is_this_lookup(lookup: Lookup, others: &Value) {
    let endless = others["ttl"] == 0 && others["expire_time"].is_null();
    assert_eq!(lookup.grant.lease.is_none(), endless);
    is_this_grant(lookup.grant, &others["ttl"], others);
    let uses = &others["num_uses"];
    assert_eq!(lookup.is_limited, !uses.is_null() && *uses != 0);
}

/// A record that another parser reads is one here, once nothing stands in it twice.
fn is_taken_in_its_plain_form(others: &Value) {
    let (fields, version) = (
        &others["data"]["data"],
        &others["data"]["metadata"]["version"],
    );
    if !fields.is_object() || !version.is_u64() {
        return;
    }
    let plain = json!({"data": {"data": fields, "metadata": {"version": version}}}).to_string();
    let Ok(record) = record(plain.as_bytes(), ROOM) else {
        panic!("a record is refused: {plain}");
    };
    // Read again: a number may have lost its last digit as it was written.
    let others = serde_json::from_str(&plain);
    others
        .iter()
        .for_each(|others| has_these_fields(&record, others));
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_bodies() {
    test_servers::try_seeds("body", hold);
}
