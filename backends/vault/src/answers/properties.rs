//! What holds for every status with every body: only the store itself says anything about a secret, a token or
//! a credential. `fuzz/` looks for an answer that breaks this; its seeds are a test here.

use serde_json::Value;

use super::*;

/// A byte for what was asked, two for the status, and then the body; whether it is the store's own word.
pub(crate) fn hold(data: &[u8]) -> bool {
    let [asked, high, low, body @ ..] = data else {
        return false;
    };
    let asked = ASKED[usize::from(*asked) % ASKED.len()];
    let status = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let (kind, _) = meaning(asked, status, Body::of(body));
    let passes = matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled);
    match status {
        429 => assert_eq!(kind, ErrorKind::Throttled),
        408 | 412 | 421 | 425 | 500..=599 => assert_eq!(kind, ErrorKind::Unavailable),
        400 => {}
        _ => assert!(!passes, "{status} is taken for what passes"),
    }
    let Ok(others) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let errors = others["errors"].as_array();
    let of_store = match errors {
        Some(errors) => errors.iter().all(Value::is_string),
        None => others["data"]["metadata"]["version"].is_u64(),
    };
    match kind {
        ErrorKind::NotFound => {
            assert_eq!((asked, status), (Asked::Read, 404));
            assert!(of_store && errors.is_none_or(Vec::is_empty));
        }
        ErrorKind::Unauthenticated => {
            assert!(of_store && matches!(status, 400 | 401 | 403));
            assert!(status != 400 || matches!(asked, Asked::Login(_)));
        }
        ErrorKind::Misconfigured => assert!(of_store && matches!(status, 400 | 404)),
        ErrorKind::Malformed => {}
        _ => assert!(passes, "{kind:?}"),
    }
    of_store && !passes
}

const ASKED: [Asked; 8] = [
    Asked::Login(By::AppRole),
    Asked::Login(By::Cert),
    Asked::Login(By::Jwt),
    Asked::Login(By::Kubernetes),
    Asked::Read,
    Asked::Lookup,
    Asked::Renewal,
    Asked::Revocation,
];

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_statuses() {
    test_servers::try_seeds("status", hold);
}
