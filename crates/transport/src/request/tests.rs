//! What may be asked, and what is refused before anything is sent.

use secret_resolver::ErrorKind;

use super::*;

fn get() -> Request {
    Request::new(Method::Get, "/").unwrap()
}

#[test]
fn a_target_that_a_server_could_read_otherwise_is_refused() {
    for target in [
        "/",
        "/v1/secret/data/a",
        "/a%2Fb?version=2&x=/../",
        "/secrets/acc/variable/a%20b",
        "/a/...",
        "/..a",
        "/a?b?c",
        "/a//b",
    ] {
        assert!(Request::new(Method::Get, target).is_ok(), "{target}");
    }
    let long = format!("/{}", "a".repeat(LONGEST_TARGET));
    let table = [
        "",
        "a",
        "*",
        "https://evil.example/",
        "//evil.example/",
        "?a",
        "/a b",
        "/a\r\nHost: evil",
        "/a\0",
        "/a\tb",
        "/a#b",
        "/a\\b",
        "/\u{e9}",
        "/a%",
        "/a%2",
        "/a%zz",
        "/%%41",
        "/a<b>",
        "/a\"b",
        "/a{b}",
        "/a|b",
        "/a^b",
        "/a`b",
        "/[a]",
        "/.",
        "/..",
        "/a/../b",
        "/a/.",
        "/a/..",
        "/%2e%2E/b",
        "/a/.%2e?x",
        "/%2e",
        &long,
    ];
    for target in table {
        let error = Request::new(Method::Get, target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{target}");
    }
}

#[test]
fn a_header_that_could_break_out_of_its_line_is_refused() {
    for value in [
        "canary\n",
        "canary\r\nX: y",
        "\0canary",
        "canary\t",
        "canary\u{e9}",
        "\u{7f}canary",
    ] {
        for error in [
            get().with_header("x", value),
            get().with_secret_header("x", value.as_bytes()),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{value:?}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }
    for name in ["", "a b", "a:", "a\n", "\u{e9}"] {
        assert!(get().with_header(name, "v").is_err(), "{name:?}");
    }
    assert!(
        get()
            .with_header("Authorization", "Token token=\"a b\"")
            .is_ok()
    );
}

#[test]
fn a_header_that_the_transport_sets_is_refused() {
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "Expect",
        "TE",
        "Content-Type",
        "Accept-Encoding",
    ] {
        assert!(get().with_header(name, "x").is_err(), "{name}");
        assert!(get().with_secret_header(name, b"x").is_err(), "{name}");
    }
}

#[test]
fn a_credential_is_marked_sensitive_and_shown_nowhere() {
    let body = SecretBuf::from_slice(b"canary").unwrap();
    let mut request = Request::new(Method::Put, "/canary")
        .and_then(|request| request.with_header("x", "canary"))
        .and_then(|request| request.with_secret_header("X-Vault-Token", b"canary"))
        .unwrap()
        .with_body("text/plain", body);
    assert_eq!(format!("{request:?}"), "Request { method: Put, .. }");
    let wire = request
        .for_host(&HeaderValue::from_static("vault"))
        .unwrap();
    assert!(wire.headers()["x-vault-token"].is_sensitive());
    assert!(!format!("{:?}", wire.headers()["x-vault-token"]).contains("canary"));
}

#[test]
fn only_a_read_without_a_body_is_repeatable() {
    let of = |method| Request::new(method, "/").unwrap();
    assert!(of(Method::Get).is_repeatable() && of(Method::Head).is_repeatable());
    assert!(!of(Method::Post).is_repeatable() && !of(Method::Put).is_repeatable());
    assert!(
        !of(Method::Get)
            .with_body("text/plain", SecretBuf::from_slice(b"").unwrap())
            .is_repeatable()
    );
}
