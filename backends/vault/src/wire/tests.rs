//! Answers as the real server gives them, and as nobody should. The real ones were recorded from
//! OpenBao 2.7.2 (`tests/` asks a running one).

use secret_resolver::testing::Canary;
use secret_resolver::{ErrorKind, ExposeSecret};

use super::*;

const ROOM: usize = 1 << 16;
const READ: &str = r#"{"request_id":"08713450","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"e":"\u0000\u001f é 😀 \u003c/\u003e","n":1.2345678901234568e+22,"nul":null,"o":{"a":[1,2],"b":1},"value":"x"},"metadata":{"created_time":"2026-11-23T11:40:45.867935429Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":7}},"wrap_info":null,"warnings":null,"auth":null}"#;
const DELETED: &str = r#"{"request_id":"7243ee7d","data":{"data":null,"metadata":{"created_time":"2026-11-23T11:40:45Z","custom_metadata":null,"deletion_time":"2026-11-23T11:40:45Z","destroyed":false,"version":1}},"warnings":null,"auth":null}"#;
const LOGIN: &str = r#"{"request_id":"aae2fe7b","data":null,"warnings":null,"auth":{"client_token":"s.eEWdbi","accessor":"ot06m9","policies":["default"],"metadata":{"role_name":"r"},"lease_duration":20,"renewable":true,"num_uses":0}}"#;

fn refusal(body: &str) -> Option<ErrorKind> {
    record(body.as_bytes(), ROOM)
        .err()
        .map(|error| error.kind())
}

#[test]
fn a_read_gives_all_fields_except_null_ones_and_the_version() {
    let record = record(READ.as_bytes(), ROOM).unwrap();
    let field = |name: &str| {
        record
            .field(name)
            .map(|secret| secret.expose_secret().to_vec())
    };
    assert_eq!(field("value").unwrap(), b"x");
    assert_eq!(field("e").unwrap(), "\0\u{1f} é 😀 </>".as_bytes());
    assert_eq!(field("n").unwrap(), b"1.2345678901234568e+22");
    assert_eq!(field("o").unwrap(), br#"{"a":[1,2],"b":1}"#);
    assert_eq!(field("nul").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(record.version(), &Version::number(7));
}

#[test]
fn keys_with_escapes_are_the_names_they_mean() {
    let body = r#"{"data":{"data":{"a\u002fb":"1","":"2"},"metadata":{"version":1}}}"#;
    let record = record(body.as_bytes(), ROOM).unwrap();
    assert_eq!(record.field("a/b").unwrap().expose_secret(), b"1");
    assert_eq!(record.field("").unwrap().expose_secret(), b"2");
}

#[test]
fn other_shapes_are_malformed() {
    let kv1 = r#"{"lease_duration":2764800,"data":{"foo":"bar"}}"#;
    let twice = r#"{"data":{"data":{"a":"1","\u0061":"2"},"metadata":{"version":1}}}"#;
    let twice_once_null = r#"{"data":{"data":{"a":"1","a":null},"metadata":{"version":1}}}"#;
    let huge_version = r#"{"data":{"data":{},"metadata":{"version":99999999999999999999}}}"#;
    let lone_surrogate = r#"{"data":{"data":{"a":"\ud800"},"metadata":{"version":1}}}"#;
    let no_object = r#"{"data":{"data":["x"],"metadata":{"version":1}}}"#;
    for body in [
        "",
        "null",
        "[]",
        "<html>",
        "{}",
        kv1,
        twice,
        twice_once_null,
        huge_version,
        lone_surrogate,
        no_object,
        DELETED,
    ] {
        assert_eq!(refusal(body), Some(ErrorKind::Malformed), "{body}");
    }
    for end in 0..READ.len() {
        if let Some(cut) = READ.get(..end) {
            assert_eq!(refusal(cut), Some(ErrorKind::Malformed), "{cut}");
        }
    }
}

#[test]
fn an_array_is_not_accepted_where_an_object_belongs() {
    for body in [
        r#"[{"data":{"a":"1"},"metadata":{"version":1}}]"#,
        r#"{"data":[{"a":"1"},{"version":1}]}"#,
        r#"{"data":{"data":{"a":"1"},"metadata":[1]}}"#,
    ] {
        assert_eq!(refusal(body), Some(ErrorKind::Malformed), "{body}");
    }
    for body in [
        r#"[["s.token",20,true,0,"service"]]"#,
        r#"{"auth":["s.token",20,true,0,"service"]}"#,
    ] {
        assert!(login(body.as_bytes()).is_err(), "{body}");
        assert!(renewal(body.as_bytes()).is_err(), "{body}");
    }
    for body in ["[[3002,true,0,0]]", r#"{"data":[3002,true,0,0]}"#] {
        assert!(lookup(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_body_that_is_not_utf8_is_malformed() {
    let body = b"{\"data\":{\"data\":{\"a\":\"\xff\"},\"metadata\":{\"version\":1}}}";
    assert_eq!(record(body, ROOM).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let as_value = format!(r#"{{"data":{{"data":{{"a":{deep}}},"metadata":{{"version":1}}}}}}"#);
    assert_eq!(refusal(&as_value), Some(ErrorKind::Overloaded));
    let unwanted = format!(r#"{{"x":{deep},"data":{{"data":{{}},"metadata":{{"version":1}}}}}}"#);
    assert_eq!(refusal(&unwanted), None);
    assert_eq!(refusal(&deep), Some(ErrorKind::Malformed));
}

#[test]
fn a_login_gives_its_token_and_its_life() {
    let login_of = |body: &str| login(body.as_bytes()).ok().unwrap();
    let issued = login_of(LOGIN);
    assert_eq!(issued.token.expose(), b"s.eEWdbi");
    assert!(!issued.is_batch && !issued.is_limited);
    assert_eq!(
        issued.grant,
        Some(Grant {
            lease: Some(Duration::from_secs(20)),
            renewable: true
        })
    );
    assert_eq!(renewal(LOGIN.as_bytes()).ok(), issued.grant);
    let batch = LOGIN.replace(
        r#""renewable":true"#,
        r#""renewable":false,"token_type":"batch""#,
    );
    assert!(login_of(&batch).is_batch);
    for body in [
        READ,
        "{}",
        r#"{"auth":null}"#,
        r#"{"auth":{"client_token":"","lease_duration":1,"renewable":true}}"#,
    ] {
        let error = login(body.as_bytes()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body}");
    }
}

#[test]
fn a_login_with_a_token_and_something_odd_still_gives_the_token() {
    for (from, to) in [
        (r#""lease_duration":20"#, r#""lease_duration":-1"#),
        (r#""lease_duration":20"#, r#""lease_duration":3600.0"#),
        (r#""lease_duration":20,"#, ""),
        (r#""renewable":true"#, r#""renewable":"yes""#),
        (r#""renewable":true,"#, ""),
    ] {
        let body = LOGIN.replace(from, to);
        let issued = login(body.as_bytes()).ok().unwrap();
        assert_eq!(issued.token.expose(), b"s.eEWdbi");
        assert!(issued.grant.is_none(), "{to}");
        assert!(renewal(body.as_bytes()).is_err());
    }
    let body = LOGIN.replace(r#""num_uses":0"#, r#""num_uses":"5""#);
    assert!(login(body.as_bytes()).ok().unwrap().is_limited);
    let large = LOGIN.replace("s.eEWdbi", &"x".repeat(TOKEN_LIMIT + 1));
    assert_eq!(
        login(large.as_bytes()).err().unwrap().kind(),
        ErrorKind::Malformed
    );
}

#[test]
fn a_token_of_limited_use_is_recognised() {
    for uses in ["1", "-1", "5"] {
        let body = LOGIN.replace(r#""num_uses":0"#, &format!(r#""num_uses":{uses}"#));
        assert!(login(body.as_bytes()).ok().unwrap().is_limited, "{uses}");
        let body = format!(r#"{{"data":{{"ttl":60,"num_uses":{uses},"expire_time":"x"}}}}"#);
        assert!(lookup(body.as_bytes()).unwrap().is_limited, "{uses}");
    }
}

#[test]
fn only_a_token_without_a_time_of_expiry_lives_for_ever() {
    let lease = |ttl: &str, expire: &str| {
        let body = format!(
            r#"{{"data":{{"id":"s.x","ttl":{ttl},"renewable":false,"expire_time":{expire}}}}}"#
        );
        lookup(body.as_bytes()).unwrap().grant.lease
    };
    assert_eq!(lease("0", "null"), None);
    assert_eq!(
        lease("0", r#""2026-11-23T11:41:06Z""#),
        Some(Duration::ZERO)
    );
    assert_eq!(
        lease("60", r#""2026-11-23T11:41:06Z""#),
        Some(Duration::from_secs(60))
    );
}

#[test]
fn a_login_body_escapes_what_a_credential_may_hold() {
    let body = login_body(&[("role_id", b"a\"b"), ("secret_id", "\\\n é".as_bytes())]).unwrap();
    let value: serde_json::Value = serde_json::from_slice(body.expose()).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"role_id": "a\"b", "secret_id": "\\\n é"})
    );
}

/// The body with the canary between these texts, as the only copy.
fn body_with(before: &str, canary: &Canary, after: &str) -> SecretBuf {
    let mut body = SecretBuf::with_capacity(before.len() + Canary::LENGTH + after.len()).unwrap();
    body.push(before.as_bytes()).unwrap();
    body.push(canary.value().unwrap().expose()).unwrap();
    body.push(after.as_bytes()).unwrap();
    assert_eq!(canary.found().unwrap(), 1);
    body
}

#[test]
fn a_value_and_a_token_leave_no_copy_except_the_one_that_is_wiped() {
    let canary = Canary::new();
    let (before, after) = READ.split_once(r#""x""#).unwrap();
    let (before, after) = (format!("{before}\""), format!("\"{after}"));
    let body = body_with(&before, &canary, &after);
    let read = record(body.expose(), ROOM).unwrap();
    assert_eq!(canary.found().unwrap(), 2);
    drop(body);
    assert_eq!(canary.found().unwrap(), 1);
    drop(read);
    assert_eq!(canary.found().unwrap(), 0);

    let canary = Canary::new();
    let (before, after) = LOGIN.split_once("s.eEWdbi").unwrap();
    let body = body_with(before, &canary, after);
    let read = login(body.expose()).ok().unwrap();
    assert_eq!(canary.found().unwrap(), 2);
    drop((read, body));
    assert_eq!(canary.found().unwrap(), 0);
}

#[test]
fn a_lease_of_no_seconds_is_a_life_without_an_end() {
    for (seconds, lease) in [
        (0, None),
        (1, Some(Duration::from_secs(1))),
        (2, Some(Duration::from_secs(2))),
    ] {
        let body = format!(
            r#"{{"auth":{{"client_token":"s","lease_duration":{seconds},"renewable":true}}}}"#
        );
        assert_eq!(login(body.as_bytes()).unwrap().grant.unwrap().lease, lease);
        assert_eq!(renewal(body.as_bytes()).unwrap().lease, lease);
    }
}

#[test]
fn a_login_has_room_for_ids_of_which_every_character_is_escaped() {
    for character in ['\u{1}', '\u{1f}', '"', '\\', 'a', 'é'] {
        for length in [1, 36] {
            let id = character.to_string().repeat(length);
            let ids = [("role_id", id.as_bytes()), ("secret_id", id.as_bytes())];
            let body = login_body(&ids).unwrap();
            let read: serde_json::Value = serde_json::from_slice(body.expose()).unwrap();
            let sent = serde_json::json!({ "role_id": id, "secret_id": id });
            assert_eq!(read, sent);
        }
    }
}
