//! What holds for every status with every body: only Conjur's own answers speak of a secret, a token or a login. `fuzz/` looks for an
//! answer that breaks this; its seeds are a test here.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::*;

/// A byte for what was asked, two for the status, and then the body; whether it is Conjur's own word.
pub(crate) fn hold(data: &[u8]) -> bool {
    let [asked, high, low, body @ ..] = data else {
        return false;
    };
    let asked = ASKED[usize::from(*asked) % ASKED.len()];
    let status = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let is_own = is_conjurs_own(body);
    is_own_for_others_too(body, is_own);
    let (kind, what) = meaning(asked, status, is_own);
    // One lower-case line.
    assert!(what.starts_with(|first: char| first.is_ascii_lowercase()) && !what.ends_with('.'));
    let is_login = asked == Asked::Login;
    // What passes does so in any form, and nothing else does.
    let passes = match status {
        429 => Some(ErrorKind::Throttled),
        405 | 408 | 421 | 500..=599 => Some(ErrorKind::Unavailable),
        _ => None,
    };
    match kind {
        ErrorKind::Throttled | ErrorKind::Unavailable => assert_eq!(passes, Some(kind)),
        ErrorKind::NotFound => assert_eq!((asked, status), (Asked::Read, 404)),
        ErrorKind::Denied => assert!(status == 403 && !is_login),
        ErrorKind::Unauthenticated => assert!(status == 401 || status == 403 && is_login),
        ErrorKind::Misconfigured => assert!(match status {
            400 | 422 => true,
            404 => asked != Asked::Read,
            _ => false,
        }),
        ErrorKind::Malformed => {
            let is_known = matches!(status, 400 | 401 | 403 | 404 | 422);
            assert!(passes.is_none() && !(is_own && is_known));
        }
        _ => panic!("{kind:?}"),
    }
    assert!(is_own || passes.is_some() || kind == ErrorKind::Malformed);
    is_own && passes.is_none() && kind != ErrorKind::Malformed
}

const ASKED: [Asked; 5] = [
    Asked::Login,
    Asked::Read,
    Asked::Whoami,
    Asked::Batch,
    Asked::Rights,
];

fn is_own_for_others_too(body: &[u8], is_own: bool) {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_matches(['\t', '\n', '\x0c', '\r', ' ']);
    let is_plain = text.is_empty() || TEXTS.contains(&text);
    match serde_json::from_slice::<Value>(body) {
        // Nothing of it is a text of Conjur's without JSON.
        Ok(others) => {
            let said = others.as_object().and_then(|others| others.get("error"));
            assert!(!is_own || said.is_some());
            if let Some(said) = said {
                // Once nothing stands in it twice.
                let plain = json!({"error": said}).to_string();
                assert!(is_conjurs_own(plain.as_bytes()), "{plain}");
            }
        }
        // Others refuse a number that is too large, half of a pair of surrogates, and what is nested too deep.
        Err(_) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => {}
        Err(_) => assert_eq!(is_own, is_plain),
    }
}

/// Written once more, so that a change of the table is seen.
const TEXTS: [&str; 5] = [
    "Authorization missing",
    "IP address rejected",
    "Malformed authorization token",
    "Unauthorized: Invalid token",
    "token contains unrecognized claims",
];

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_refusals() {
    test_servers::try_seeds("refusal", hold);
}
