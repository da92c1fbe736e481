//! What the recorded exchanges have in place of what is minted: filling it in, and finding it again in an answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

/// What the placeholders stand for at this moment.
#[derive(Default)]
pub(crate) struct Minted {
    /// API keys: `host/apps/reader`, or with `#2` the one after a rotation.
    pub(crate) keys: BTreeMap<String, String>,
    /// Access tokens in base64, by their logins.
    pub(crate) tokens: BTreeMap<String, String>,
    /// JWTs, by their names.
    pub(crate) jwts: BTreeMap<String, String>,
}

impl Minted {
    /// A recorded text with its placeholders filled in.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut out = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Placeholder(name) => out.push_str(&self.value(name)),
            }
        }
        out
    }

    fn value(&self, placeholder: &str) -> String {
        let (kind, name) = placeholder.split_once(':').unwrap();
        let found = |map: &BTreeMap<String, String>| {
            let value = map.get(name);
            value
                .unwrap_or_else(|| panic!("nothing stands for {placeholder}"))
                .clone()
        };
        match kind {
            "key" => found(&self.keys),
            "token" => found(&self.tokens),
            "jwt" => found(&self.jwts),
            "b64" => {
                let (user, key) = name.rsplit_once(":[[key:").unwrap();
                let key = &self.keys[key.strip_suffix("]]").unwrap()];
                STANDARD.encode(format!("{user}:{key}"))
            }
            other => panic!("a request has {other}"),
        }
    }

    /// Compares an answer's body with the recorded one. What is minted is compared by its shape, and kept.
    pub(crate) fn matches(&mut self, recorded: &str, body: &str) -> Result<(), String> {
        let pieces = pieces(recorded);
        let mut rest = body;
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => {
                    rest = rest
                        .strip_prefix(text)
                        .ok_or_else(|| format!("body is {body:?}, recorded {recorded:?}"))?;
                }
                Piece::Placeholder(name) => {
                    let end = match pieces.get(at + 1) {
                        Some(Piece::Text(next)) => rest.find(next).unwrap_or(rest.len()),
                        _ => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    self.learn(name, value)?;
                    rest = after;
                }
            }
        }
        match rest {
            "" => Ok(()),
            more => Err(format!("the body goes on with {more:?}")),
        }
    }

    fn learn(&mut self, placeholder: &str, value: &str) -> Result<(), String> {
        let (kind, name) = placeholder.split_once(':').unwrap_or((placeholder, ""));
        match kind {
            "time" => is_time(value),
            "key" => match self.keys.get(name) {
                Some(known) if known == value => Ok(()),
                Some(_) => Err(format!("another key than before stands for {name}")),
                None if value.len() < 20 => Err(format!("{value:?} is no key")),
                None => {
                    self.keys.insert(name.to_owned(), value.to_owned());
                    Ok(())
                }
            },
            "tokenjson" => is_token(name, value),
            "token" => {
                let json = STANDARD.decode(value).map_err(|error| error.to_string())?;
                is_token(name, std::str::from_utf8(&json).unwrap())
            }
            other => Err(format!("an answer has {other}")),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// `a{{b}}c` is `a`, the placeholder `b`, and `c`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap();
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Placeholder(name));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

fn is_time(text: &str) -> Result<(), String> {
    let digits: String = text
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
        .collect();
    match digits.as_str() {
        "0000-00-00T00:00:00.000+00:00" => Ok(()),
        _ => Err(format!("{text:?} is no time")),
    }
}

/// The shape of the recorded sample: three members of padded base64, of the recorded lengths where those do not depend on the login.
fn is_token(name: &str, json: &str) -> Result<(), String> {
    let token: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let part = |name: &str| {
        URL_SAFE
            .decode(token[name].as_str().unwrap_or("?"))
            .unwrap()
    };
    let sample = crate::replay::sample_token();
    for name in ["protected", "signature"] {
        let length = sample[name].as_str().unwrap().len();
        if token[name].as_str().map(str::len) != Some(length) {
            return Err(format!("{name} has another length than the recorded one"));
        }
    }
    let payload: Value = serde_json::from_slice(&part("payload")).unwrap();
    let claims: Vec<_> = payload.as_object().unwrap().keys().collect();
    if claims != ["exp", "iat", "sub"] || token.as_object().unwrap().len() != 3 {
        return Err(format!("a token with {claims:?}"));
    }
    // Some stand under the names of the JWTs that bought them.
    let login = match name.starts_with("host/") {
        true => name,
        false => "host/workloads/spiffe://example.org/payments",
    };
    let life = payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap();
    match payload["sub"] == login && life == 480 {
        true => Ok(()),
        false => Err(format!("a token for {payload}, recorded for {name}")),
    }
}
