//! What holds for every text that an agent can give as a JWT-SVID: what is read in it is what another parser reads, and nothing of it is in
//! an error. `fuzz/` looks for one that breaks this; its seeds are a test here.

use serde_json::Value;

use super::*;

const ID: &str = "spiffe://example.test/billing";
const AUDIENCE: &str = "bao";
/// 2026-01-01.
const TODAY: Duration = Duration::from_secs(1_767_225_600);

/// Whether it is one of this identity for this audience, and has not ended.
pub(crate) fn hold(data: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(data) else {
        return false;
    };
    let life = life(token, ID, AUDIENCE, TODAY);
    match &life {
        Ok(left) => assert!(!left.is_zero()),
        Err(error) => {
            use ErrorKind::{Malformed, Refused, Unauthenticated, Unavailable};
            assert!(matches!(
                error.kind(),
                Malformed | Refused | Unauthenticated | Unavailable
            ));
            assert!(error.detail().is_none());
        }
    }
    let Ok(claims) = read(token) else {
        assert!(life.is_err());
        return false;
    };
    // Others take the payload apart from the two dots, too, and refuse what is nested too deep.
    let payload = token
        .split('.')
        .nth(1)
        .map(|part| BASE64_URL_SAFE_NO_PAD.decode(part));
    let Some(Ok(payload)) = payload else {
        panic!("a payload of another form");
    };
    if let Ok(others) = serde_json::from_slice::<Value>(&payload) {
        assert_eq!(others["sub"].as_str(), Some(&*claims.sub));
        assert_eq!(others["exp"].as_f64(), Some(claims.exp));
        let only = match &others["aud"] {
            Value::Array(all) if all.len() == 1 => all[0].as_str(),
            one => one.as_str(),
        };
        assert_eq!(only, claims.aud.only());
    }
    let is_ours = claims.sub == ID && claims.aud.only() == Some(AUDIENCE);
    assert_eq!(life.is_ok(), is_ours && claims.exp > TODAY.as_secs_f64());
    life.is_ok()
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_claims() {
    test_servers::try_seeds("claims", hold);
}
