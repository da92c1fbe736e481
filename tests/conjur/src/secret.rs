//! What the server signs with and draws at random. An access token is the server's own affair: its shape is as recorded, and its
//! signature is an HMAC as long as the recorded one, because nobody but the server checks it.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;

use crate::answer::hex;
use crate::json;
use crate::state::{Network, State};

/// How long a token lives that does not say until when, in seconds.
const UNSAID_LIFE: i64 = 480;

/// How long the recorded signatures are, in blocks of 32 bytes.
const SIGNATURE_BLOCKS: u8 = 9;

/// The claims that a token may have.
const CLAIMS: [&str; 7] = ["iat", "exp", "cidr", "sub", "iss", "aud", "jti"];

pub(crate) fn random(into: &mut [u8]) {
    // It fails where the system has no source of randomness. What is made then is as random as any test needs.
    let _ = aws_lc_rs::rand::fill(into);
}

/// The login that a token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) login: String,
    pub(crate) issued: i64,
}

/// Why a token is refused.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Malformed,
    Invalid,
    UnknownClaims,
    WrongNetwork,
}

/// A token, as the JSON that the server hands out. `claims` is a JSON object, written already.
pub(crate) fn sign(state: &State, account: &str, claims: &str) -> Option<String> {
    let key = state.signing_keys.get(account)?;
    let header = format!(
        r#"{{"alg":"conjur.org/slosilo/v2","kid":"{}"}}"#,
        key_id(account, key)
    );
    let (header, claims) = (URL_SAFE.encode(header), URL_SAFE.encode(claims));
    let signature = URL_SAFE.encode(signature(key, &header, &claims));
    Some(format!(
        r#"{{"protected":"{header}","payload":"{claims}","signature":"{signature}"}}"#
    ))
}

pub(crate) fn claims(login: &str, issued: i64, life: i64) -> String {
    format!(
        r#"{{"iat":{issued},"sub":{},"exp":{}}}"#,
        json::quote(login),
        issued + life
    )
}

/// Checks what stands between the quotes of an Authorization header.
pub(crate) fn verify(
    state: &State,
    encoded: &str,
    now: i64,
    peer: IpAddr,
) -> Result<Identity, Refusal> {
    let token: Value =
        serde_json::from_slice(&lenient_base64(encoded)).map_err(|_| Refusal::Malformed)?;
    let member = |name: &str| {
        token
            .get(name)
            .and_then(Value::as_str)
            .ok_or(Refusal::Invalid)
    };
    let (header, payload, given) = (
        member("protected")?,
        member("payload")?,
        member("signature")?,
    );
    let parse = |part: &str| -> Result<Value, Refusal> {
        let bytes = URL_SAFE.decode(part).map_err(|_| Refusal::Invalid)?;
        serde_json::from_slice(&bytes).map_err(|_| Refusal::Invalid)
    };
    let (head, claims) = (parse(header)?, parse(payload)?);
    let of_account = |(account, key): &(&String, &[u8; 32])| {
        head.get("kid").and_then(Value::as_str) == Some(key_id(account, key).as_str())
    };
    let (account, key) = state
        .signing_keys
        .iter()
        .find(of_account)
        .ok_or(Refusal::Invalid)?;
    let given = URL_SAFE.decode(given).map_err(|_| Refusal::Invalid)?;
    if given != signature(key, header, payload) {
        return Err(Refusal::Invalid);
    }
    let number = |name: &str| claims.get(name).and_then(Value::as_i64);
    let issued = number("iat").ok_or(Refusal::Invalid)?;
    if number("exp").unwrap_or(issued + UNSAID_LIFE) <= now {
        return Err(Refusal::Invalid);
    }
    let claims = claims.as_object().ok_or(Refusal::Invalid)?;
    if claims.keys().any(|name| !CLAIMS.contains(&name.as_str())) {
        return Err(Refusal::UnknownClaims);
    }
    if let Some(networks) = claims.get("cidr").and_then(Value::as_array) {
        let mut networks = networks.iter().filter_map(Value::as_str);
        if !networks.any(|text| Network::parse(text).is_some_and(|network| network.contains(peer)))
        {
            return Err(Refusal::WrongNetwork);
        }
    }
    let login = claims.get("sub").and_then(Value::as_str);
    Ok(Identity {
        account: account.clone(),
        login: login.ok_or(Refusal::Invalid)?.to_owned(),
        issued,
    })
}

fn key_id(account: &str, key: &[u8; 32]) -> String {
    // Of a key and its account, so that it says nothing of the key.
    hex(digest(&SHA256, &[account.as_bytes(), key].concat()).as_ref())
}

fn signature(key: &[u8; 32], header: &str, payload: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let block = |number: u8| {
        hmac::sign(&key, format!("{number}.{header}.{payload}").as_bytes())
            .as_ref()
            .to_vec()
    };
    (0..SIGNATURE_BLOCKS).flat_map(block).collect()
}

/// Ruby's `Base64.decode64`: what is not of the alphabet is passed over, and `=` ends it.
fn lenient_base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn signed(claims: &str) -> (State, String) {
        let mut state = State::default();
        state.add_account("acct", 0);
        let token = sign(&state, "acct", claims).unwrap();
        (state, token)
    }

    fn check(claims: &str, now: i64) -> Result<Identity, Refusal> {
        let (state, token) = signed(claims);
        let encoded = base64::engine::general_purpose::STANDARD.encode(token);
        verify(&state, &encoded, now, HERE)
    }

    #[test]
    fn a_token_is_good_until_the_second_at_which_it_ends() {
        let made = claims("host/x", 100, 8);
        assert_eq!(check(&made, 107).unwrap().login, "host/x");
        assert_eq!(check(&made, 108).unwrap_err(), Refusal::Invalid);
        let unsaid = r#"{"iat":100,"sub":"host/x"}"#;
        assert!(check(unsaid, 579).is_ok() && check(unsaid, 580).is_err());
    }

    #[test]
    fn a_signed_token_with_odd_claims_is_refused_for_them() {
        let with = |more: &str| check(&format!(r#"{{"iat":1,"exp":9,"sub":"x",{more}}}"#), 2);
        assert_eq!(with(r#""role":"y""#).unwrap_err(), Refusal::UnknownClaims);
        assert_eq!(
            with(r#""cidr":["10.0.0.0/8"]"#).unwrap_err(),
            Refusal::WrongNetwork
        );
        assert!(with(r#""cidr":["127.0.0.0/8"]"#).is_ok());
    }

    #[test]
    fn a_token_of_another_server_is_refused() {
        let (_, token) = signed(&claims("host/x", 0, 9));
        let (other, _) = signed("{}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(token);
        let refused = verify(&other, &encoded, 1, HERE).unwrap_err();
        assert_eq!(refused, Refusal::Invalid);
    }

    #[test]
    fn base64_is_read_as_leniently_as_ruby_reads_it() {
        assert_eq!(lenient_base64("aGVs\nbG8=%%%"), b"hello");
        assert_eq!(lenient_base64("%%%"), b"");
    }
}
