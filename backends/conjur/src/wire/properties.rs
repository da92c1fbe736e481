//! What holds for every token, every batch and all metadata that a store can answer: what is read in them is what another parser reads,
//! and no error tells a part of them. `fuzz/` looks for a body that breaks this; its seeds are a test here.

use secret_resolver::ErrorKind;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::*;
use crate::resolver::dynamic_life;

/// For the answer to a login; whether it is a token.
pub(crate) fn hold_for_token(body: &[u8]) -> bool {
    let others = others_token(body);
    let token = match token(body) {
        Ok(token) => token,
        Err(error) => {
            is_told_without(&error, ErrorKind::Malformed);
            if let Some((_, parts)) = others {
                is_taken_in_its_plain_form(&parts);
            }
            return false;
        }
    };
    // Nothing in it ends the header, or the quotes in it.
    let header = token.header.expose().strip_prefix(b"Token token=\"");
    let text = header.and_then(|header| header.strip_suffix(b"\""));
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        panic!("a header of another form");
    };
    assert!(text.iter().all(|&byte| is_of_base64(byte)));
    // It carries what the store has sent, to the byte.
    let json = BASE64_STANDARD.decode(text).ok();
    let Some((others_json, parts)) = others else {
        // Others refuse a number that is too large, half of a pair of surrogates, and what is nested too deep.
        let json = json.unwrap_or_default();
        assert!(serde_json::from_slice::<IgnoredAny>(&json).is_ok());
        return true;
    };
    assert_eq!(json.as_ref(), Some(&others_json));
    let life = others_life(&parts);
    assert!(life.is_none_or(|life| life == token.life));
    is_read_again(&token, text, &others_json);
    true
}

/// For the answer to a batch: a byte for what was asked, a byte for the bound on a value, and then the body. Whether all values are taken.
pub(crate) fn hold_for_batch(data: &[u8]) -> bool {
    let [how, limit, body @ ..] = data else {
        return false;
    };
    let (is_base64, limit) = (how & 1 == 0, usize::from(*limit) * 4);
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(body) else {
        // Whatever was asked. Others refuse some values that are only passed by here, each of which then fails alone.
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        for ids in [vec![], vec!["myorg:variable:a".to_owned()]] {
            match batch(body, &ids, is_base64, limit) {
                Ok(values) => assert!(is_json && values.len() == ids.len()),
                Err(error) => is_told_without(&error, ErrorKind::Malformed),
            }
        }
        return false;
    };
    let mut ids: Vec<String> = members.keys().cloned().collect();
    if how & 2 != 0 {
        ids.reverse();
    }
    is_refused_with_other_ids(body, &ids, is_base64, limit);
    is_read_back(&members, limit);
    let values = match batch(body, &ids, is_base64, limit) {
        Ok(values) => values,
        Err(error) => {
            // The same ids, and yet not believed: one of them stands there twice, which others pass over.
            is_told_without(&error, ErrorKind::Malformed);
            assert_ne!(number_of_members(body), members.len());
            let once = Value::Object(members).to_string();
            assert!(batch(once.as_bytes(), &ids, is_base64, limit).is_ok());
            return false;
        }
    };
    assert_eq!(
        (values.len(), members.len()),
        (ids.len(), number_of_members(body))
    );
    let each = ids.iter().zip(&values);
    each.for_each(|(id, value)| is_this_value(value, &members[id], is_base64, limit));
    values.iter().all(Result::is_ok)
}

/// For the metadata of a variable, for an error that names an id, and for a dynamic secret; whether one of them is there.
pub(crate) fn hold_for_metadata(body: &[u8]) -> bool {
    if let Ok(id) = std::str::from_utf8(body) {
        is_named(id);
    }
    let (latest, missing) = (latest_version(body), missing_id(body));
    if let Err(error) = &latest {
        is_told_without(error, ErrorKind::Malformed);
    }
    let life = dynamic_life(body).as_secs();
    let is_there = latest.is_ok() || missing.is_some();
    let Ok(others) = serde_json::from_slice::<Value>(body) else {
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        assert!(is_json || !is_there && life == 1);
        return is_there;
    };
    let ttl = others["ttl"].as_u64();
    assert!(life == 1 || others.is_object() && ttl == Some(life));
    if let Some(ttl) = ttl {
        let plain = json!({"ttl": ttl}).to_string();
        assert_eq!(dynamic_life(plain.as_bytes()).as_secs(), ttl);
    }
    if let Some(id) = missing {
        let named = format!("CONJ00076E Variable {id} is empty or not found.");
        assert_eq!(others["error"]["message"], named);
    }
    let versions = others_versions(&others);
    if let Ok(latest) = latest {
        let versions = versions.as_ref().map(|versions| versions.iter().max());
        assert_eq!(versions, Some(latest.as_ref()));
    } else if let Some(versions) = versions {
        // It is taken, once nothing stands in it twice.
        let held: Vec<_> = versions.iter().map(|it| json!({"version": it})).collect();
        let plain = json!({"id": others["id"], "secrets": held}).to_string();
        let read = latest_version(plain.as_bytes()).ok();
        assert_eq!(read, Some(versions.into_iter().max()));
    }
    is_there
}

/// The text of an error is fixed, and it has no detail: so no part of what was read is in it.
fn is_told_without(error: &Error, kind: ErrorKind) {
    assert_eq!((error.kind(), error.detail()), (kind, None));
}

fn is_of_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// The JSON of a token and what is in it.
fn others_token(body: &[u8]) -> Option<(Vec<u8>, Map<String, Value>)> {
    let body = body.trim_ascii();
    let json = match body.first()? {
        b'{' => body.to_vec(),
        _ => others_base64(body)?,
    };
    let parts: Map<String, Value> = serde_json::from_slice(&json).ok()?;
    let is_text = |part: &&str| parts.get(*part).is_some_and(Value::is_string);
    let all = ["protected", "payload", "signature"].iter().all(is_text);
    (all && body.len() <= TOKEN_LIMIT).then_some((json, parts))
}

fn others_base64(text: &[u8]) -> Option<Vec<u8>> {
    let is_digit = |byte: &u8| !byte.is_ascii_whitespace();
    let digits: Vec<u8> = text.iter().copied().filter(is_digit).collect();
    BASE64_STANDARD.decode(digits).ok()
}

/// `None` where others cannot say, because of something else in the claims.
fn others_life(parts: &Map<String, Value>) -> Option<Duration> {
    let payload = parts["payload"].as_str().unwrap_or_default();
    let claims = BASE64_URL_SAFE.decode(payload).unwrap_or_default();
    let is_json = serde_json::from_slice::<IgnoredAny>(&claims).is_ok();
    let others = serde_json::from_slice::<Value>(&claims).ok();
    if is_json && others.is_none() {
        return None;
    }
    // A claim that stands there twice, or is of another type, makes all of them unclear.
    let is_clear = serde_json::from_slice::<Claims>(&claims).is_ok();
    let others = others.filter(|others| is_clear && others.is_object());
    let moment = |name: &str| others.as_ref()?.get(name)?.as_u64();
    let seconds = moment("exp").and_then(|exp| exp.checked_sub(moment("iat")?));
    Some(Duration::from_secs(seconds.unwrap_or(480)))
}

/// Once nothing stands in it twice.
fn is_taken_in_its_plain_form(parts: &Map<String, Value>) {
    let [protected, payload, signature] =
        ["protected", "payload", "signature"].map(|part| &parts[part]);
    let plain = json!({"protected": protected, "payload": payload, "signature": signature});
    let plain = plain.to_string();
    let taken = token(plain.as_bytes());
    assert!(taken.is_ok() || plain.len() > TOKEN_LIMIT, "{plain}");
}

/// The header and the JSON in it are the same token.
fn is_read_again(read: &Token, text: &[u8], json: &[u8]) {
    let broken = text.chunks(60).collect::<Vec<_>>().join(&b'\n');
    let plain = json.trim_ascii() == json && json.starts_with(b"{");
    let bodies: [&[u8]; 3] = [text, &broken, json];
    for body in bodies.into_iter().take(2 + usize::from(plain)) {
        if body.len() <= TOKEN_LIMIT {
            let again = token(body).map(|again| {
                let is_same = again.header.expose() == read.header.expose();
                is_same && again.life == read.life
            });
            assert_eq!(again.ok(), Some(true));
        }
    }
}

/// An id that stands there twice counts twice.
fn number_of_members(body: &[u8]) -> usize {
    let Ok(Members(members)) = json::parse(body, "") else {
        panic!("what others read as an object is none here");
    };
    members.len()
}

fn is_refused_with_other_ids(body: &[u8], ids: &[String], is_base64: bool, limit: usize) {
    let mut more = ids.to_vec();
    // Longer than all of them together, so it is none of them.
    more.push(format!("{} ", ids.concat()));
    let fewer = ids.split_last().map(|(_, fewer)| fewer.to_vec());
    for others in [Some(more), fewer].into_iter().flatten() {
        match batch(body, &others, is_base64, limit) {
            Ok(_) => panic!("{others:?} were not answered"),
            Err(error) => is_told_without(&error, ErrorKind::Malformed),
        }
    }
}

fn is_this_value(read: &Result<SecretBuf, Error>, others: &Value, is_base64: bool, limit: usize) {
    let text = others.as_str().map(str::as_bytes);
    let decoded = match is_base64 {
        true => text.and_then(others_base64),
        false => text.map(<[u8]>::to_vec),
    };
    match read {
        Ok(read) => {
            assert!(read.len() <= limit);
            assert_eq!(Some(read.expose()), decoded.as_deref());
        }
        // Another value, or one that is beyond the bound, with its line breaks or without.
        Err(error) if decoded.is_none() && error.kind() == ErrorKind::Malformed => {
            is_told_without(error, ErrorKind::Malformed);
        }
        Err(error) => {
            is_told_without(error, ErrorKind::Overloaded);
            let text = text.unwrap_or_default();
            let is_larger = decoded.is_some_and(|decoded| decoded.len() > limit);
            assert!(is_larger || is_base64 && text.len() > limit / 3 * 4 + limit / 45 + 8);
        }
    }
}

/// As Conjur writes them, with a line break after each 60 characters and at the end, the texts are read as what they were.
fn is_read_back(members: &Map<String, Value>, limit: usize) {
    let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    let values: Vec<_> = members.values().map(text).collect();
    let encoded = |(id, value): (&String, &Vec<u8>)| {
        let digits = BASE64_STANDARD.encode(value);
        let lines = digits.as_bytes().chunks(60).map(String::from_utf8_lossy);
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        (id.clone(), Value::String(lines))
    };
    let ids: Vec<_> = members.keys().cloned().collect();
    let body: Map<_, _> = ids.iter().zip(&values).map(encoded).collect();
    let body = Value::Object(body).to_string();
    let read = batch(body.as_bytes(), &ids, true, limit);
    let read = read.unwrap_or_default();
    assert_eq!(read.len(), values.len());
    for (read, value) in read.iter().zip(&values) {
        match read {
            Ok(read) => assert_eq!(read.expose(), value),
            Err(error) => {
                is_told_without(error, ErrorKind::Overloaded);
                assert!(value.len() > limit, "{} of {limit}", value.len());
            }
        }
    }
}

fn others_versions(others: &Value) -> Option<Vec<u64>> {
    let secrets = others.as_object()?.get("secrets")?.as_array()?;
    let version = |held: &Value| held.as_object()?.get("version")?.as_u64();
    secrets.iter().map(version).collect()
}

/// Whatever an id is, the answer that says it is missing names it and no other.
fn is_named(id: &str) {
    let message = format!("CONJ00076E Variable {id} is empty or not found.");
    let body = json!({"error": {"code": "not_found", "message": message}}).to_string();
    assert_eq!(missing_id(body.as_bytes()).as_deref(), Some(id));
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_tokens_batches_and_metadata() {
    test_servers::try_seeds("token", hold_for_token);
    test_servers::try_seeds("batch", hold_for_batch);
    test_servers::try_seeds("metadata", hold_for_metadata);
}
