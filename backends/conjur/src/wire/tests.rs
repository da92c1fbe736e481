//! Payloads as a real server gives them (`tests/transcripts`), and as none should.

use secret_resolver::ErrorKind;
use secret_resolver::testing::Canary;

use super::*;

const LIMIT: usize = 1 << 16;

fn jose(payload: &str) -> String {
    let payload = BASE64_URL_SAFE.encode(payload);
    format!(r#"{{"protected":"eyJhbGciOiJ0ZXN0In0=","payload":"{payload}","signature":"c2ln"}}"#)
}

#[test]
fn a_token_in_json_and_in_base64_is_the_same_header() {
    let json = jose(r#"{"sub":"host/a","iat":1000,"exp":1480}"#);
    let base64 = BASE64_STANDARD.encode(&json);
    let expected = format!("Token token=\"{base64}\"");
    for body in [json.clone(), base64.clone(), format!("{base64}\n")] {
        let token = token(body.as_bytes()).unwrap();
        assert_eq!(token.header.expose(), expected.as_bytes());
        assert_eq!(token.life, Duration::from_secs(480));
    }
}

#[test]
fn a_tokens_life_is_its_own_or_eight_minutes() {
    let life = |payload: &str| token(jose(payload).as_bytes()).unwrap().life.as_secs();
    assert_eq!(life(r#"{"iat":1000,"exp":1002}"#), 2);
    for unclear in [
        r#"{"iat":1000}"#,
        "{}",
        r#"{"iat":2,"exp":1}"#,
        "no json",
        r#"[1,2]"#,
    ] {
        assert_eq!(life(unclear), 480, "{unclear}");
    }
}

#[test]
fn what_is_not_a_token_is_malformed() {
    let large = "x".repeat(TOKEN_LIMIT + 1);
    for body in [
        "",
        " \n",
        "{}",
        "[]",
        "<html></html>",
        "c2ln",
        r#"{"protected":"a","payload":"b"}"#,
        r#"{"protected":"a","payload":"b","signature":1}"#,
        r#"["a","b","c"]"#,
        &large,
    ] {
        let error = token(body.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body:.40}");
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn values(body: &str, asked: &[&str], is_base64: bool) -> Result<Vec<Vec<u8>>, ErrorKind> {
    let read =
        batch(body.as_bytes(), &ids(asked), is_base64, LIMIT).map_err(|error| error.kind())?;
    let bytes = |value: Result<SecretBuf, Error>| value.map(|value| value.expose().to_vec());
    read.into_iter()
        .map(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| error.kind())
}

#[test]
fn a_batch_gives_the_values_in_the_order_asked_whatever_the_order_answered() {
    let body = r#"{"o:variable:b":"YXBw\n","o:variable:a\u0026c":"czNjcjN0\n"}"#;
    let asked = ["o:variable:a&c", "o:variable:b"];
    assert_eq!(
        values(body, &asked, true).unwrap(),
        [b"s3cr3t".to_vec(), b"app".to_vec()]
    );
    let plain = r#"{"a":"YXBw\n"}"#;
    assert_eq!(values(plain, &["a"], false).unwrap(), [b"YXBw\n".to_vec()]);
}

#[test]
fn a_batch_with_other_ids_is_believed_for_none() {
    for body in [
        r#"{"a":"YXBw"}"#,
        r#"{"a":"YXBw","b":"YXBw","c":"YXBw"}"#,
        r#"{"a":"YXBw","a":"YXBw"}"#,
        r#"{"a":"YXBw","a":"YXBw","b":"YXBw"}"#,
        r#"{"a":"YXBw","x":"YXBw"}"#,
        r#"["YXBw","YXBw"]"#,
        "{}",
        "",
    ] {
        assert_eq!(
            values(body, &["a", "b"], true),
            Err(ErrorKind::Malformed),
            "{body}"
        );
    }
}

#[test]
fn base64_is_decoded_exactly_or_not_at_all() {
    let one = |text: &str| {
        values(&format!(r#"{{"a":"{text}"}}"#), &["a"], true).map(|mut all| all.remove(0))
    };
    assert_eq!(one(r"AAECAw==\n").unwrap(), [0, 1, 2, 3]);
    assert_eq!(one(r"AA\nEC\nAw==").unwrap(), [0, 1, 2, 3]);
    assert!(one("").unwrap().is_empty());
    for wrong in [
        "A", "AAE", "AAECAw", "AAECAw=", "AA==AA==", "AAEC*w==", "AAECAx==", "-_-_",
    ] {
        assert_eq!(one(wrong), Err(ErrorKind::Malformed), "{wrong}");
    }
    let every: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let text = BASE64_STANDARD.encode(&every);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(60)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert_eq!(one(&lines.join("\\n")).unwrap(), every);
}

#[test]
fn one_value_over_the_bound_fails_alone() {
    let large = BASE64_STANDARD.encode(vec![7; LIMIT + 1]);
    let body = format!(r#"{{"a":"{large}","b":"YXBw"}}"#);
    let read = batch(body.as_bytes(), &ids(&["a", "b"]), true, LIMIT).unwrap();
    assert_eq!(read[0].as_ref().unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(read[1].as_ref().unwrap().expose(), b"app");
}

#[test]
fn a_value_of_a_batch_is_in_no_buffer_that_is_not_wiped() {
    let canary = Canary::new();
    let mut body = SecretBuf::with_capacity(200).unwrap();
    body.push(br#"{"a":""#).unwrap();
    {
        let value = canary.value().unwrap();
        // Encoded by hand into a wiped buffer.
        let text = Zeroizing::new(BASE64_STANDARD.encode(value.expose()));
        body.push(text.as_bytes()).unwrap();
    }
    body.push(br#"\n"}"#).unwrap();
    let read = batch(body.expose(), &ids(&["a"]), true, LIMIT).unwrap();
    assert_eq!(canary.found().unwrap(), 1);
    drop(read);
    assert_eq!(canary.found().unwrap(), 0);
}

#[test]
fn the_latest_version_is_the_highest() {
    let latest =
        |secrets: &str| latest_version(format!(r#"{{"id":"x","secrets":{secrets}}}"#).as_bytes());
    let three = r#"[{"version":1,"expires_at":null},{"version":3},{"version":2}]"#;
    assert_eq!(latest(three).unwrap(), Some(3));
    assert_eq!(latest("[]").unwrap(), None);
    for wrong in [
        "null",
        "{}",
        r#"[{"version":-1}]"#,
        "[[1]]",
        r#"[{"version":"1"}]"#,
    ] {
        assert!(latest(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_404_of_a_batch_names_the_id_that_is_missing() {
    let body =
        |message: &str| format!(r#"{{"error":{{"code":"not_found","message":"{message}"}}}}"#);
    let named = body(r"CONJ00076E Variable o:variable:a\u0026b is empty or not found.");
    assert_eq!(
        missing_id(named.as_bytes()).as_deref(),
        Some("o:variable:a&b")
    );
    for other in [
        body("CONJ00001E Something else"),
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
    ] {
        assert_eq!(missing_id(other.as_bytes()), None);
    }
}
