//! The payloads of the protocol: tokens, batches and versions. Values and tokens go from the body straight into buffers that are wiped.
//!
//! The shapes are those of Conjur OSS 1.24, recorded (`tests/transcripts`).

use std::time::Duration;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use secret_resolver::{Error, SecretBuf};
use secret_resolver_json::{self as json, Members, Object};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::error;

/// Far above any token that Conjur issues, which has about 600 bytes.
const TOKEN_LIMIT: usize = 16 << 10;

/// How long a token lives that does not say it (WIRE: old servers).
const LIFE: Duration = Duration::from_secs(480);

/// An access token.
#[derive(Debug)]
pub(crate) struct Token {
    /// The value of the header `Authorization`.
    pub(crate) header: SecretBuf,
    /// How long it lives from its issue.
    pub(crate) life: Duration,
}

/// The token in a body: JSON, or the same in base64 (standard alphabet).
pub(crate) fn token(body: &[u8]) -> Result<Token, Error> {
    let not_one =
        || error::malformed("the answer to a login is not a token; check what is listening there");
    let body = body.trim_ascii();
    if body.is_empty() || body.len() > TOKEN_LIMIT {
        return Err(not_one());
    }
    let is_json = body.starts_with(b"{");
    let json = match is_json {
        true => SecretBuf::from_slice(body)?,
        false => from_base64(body, TOKEN_LIMIT)?.ok_or_else(not_one)?,
    };
    let Object(parts): Object<Parts<'_>> = json::parse(json.expose(), "").map_err(|_| not_one())?;
    // Opaque, except for its life. Each part has to be there.
    let all = [parts.protected, parts.payload, parts.signature];
    let texts = all.map(|part| json::string(part.get(), TOKEN_LIMIT));
    let [Ok(_), Ok(payload), Ok(_)] = texts else {
        return Err(not_one());
    };
    let encoded;
    let text = match is_json {
        true => {
            encoded = Zeroizing::new(BASE64_STANDARD.encode(json.expose()));
            encoded.as_bytes()
        }
        false => body,
    };
    Ok(Token {
        header: header(text)?,
        life: life(payload.expose()),
    })
}

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    protected: &'a RawValue,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow)]
    signature: &'a RawValue,
}

#[derive(Deserialize)]
struct Claims {
    iat: Option<u64>,
    exp: Option<u64>,
}

/// `exp - iat`: it is counted from the receipt, so that no clock of the server or of this machine has to be right.
fn life(payload: &[u8]) -> Duration {
    let decoded = BASE64_URL_SAFE.decode(payload).map(Zeroizing::new);
    let claims = decoded.ok().and_then(|json| {
        let read: Result<Object<Claims>, _> = json::parse(&json, "");
        read.ok()
    });
    let seconds = claims.and_then(|Object(claims)| claims.exp?.checked_sub(claims.iat?));
    seconds.map_or(LIFE, Duration::from_secs)
}

/// `Token token="…"`; what cannot stand in a header is not a token.
fn header(base64: &[u8]) -> Result<SecretBuf, Error> {
    let (before, after) = (b"Token token=\"", b"\"");
    let mut header = SecretBuf::with_capacity(before.len() + base64.len() + after.len())?;
    header.push(before)?;
    // Another server may break its lines.
    for piece in base64.split(u8::is_ascii_whitespace) {
        header.push(piece)?;
    }
    header.push(after)?;
    Ok(header)
}

/// The values of a batch, in the order of `ids`, which are full ids. All of them, each once, and nothing else: otherwise none is believed.
///
/// With `is_base64` each value is base64; without it, text.
pub(crate) fn batch(
    body: &[u8],
    ids: &[String],
    is_base64: bool,
    limit: usize,
) -> Result<Vec<Result<SecretBuf, Error>>, Error> {
    let Members(members) =
        json::parse(body, "the answer to a batch is not an object").map_err(error::ours)?;
    let mut values: Vec<Option<&RawValue>> = vec![None; ids.len()];
    let places: std::collections::HashMap<&str, usize> = ids
        .iter()
        .enumerate()
        .map(|(place, id)| (id.as_str(), place))
        .collect();
    for (id, value) in members {
        let place = places.get(&*id).and_then(|&place| values.get_mut(place));
        match place {
            Some(empty @ None) => *empty = Some(value),
            _ => return Err(other_ids()),
        }
    }
    let values: Option<Vec<_>> = values.into_iter().collect();
    let values = values.ok_or_else(other_ids)?;
    Ok(values
        .into_iter()
        .map(|raw| value(raw, is_base64, limit))
        .collect())
}

fn other_ids() -> Error {
    error::malformed("the answer to a batch has other ids than those asked for")
}

fn value(raw: &RawValue, is_base64: bool, limit: usize) -> Result<SecretBuf, Error> {
    if !is_base64 {
        return json::string(raw.get(), limit).map_err(error::ours);
    }
    // A third more, and a line break each 60 characters.
    let most = limit / 3 * 4 + limit / 45 + 8;
    let text = json::string(raw.get(), most).map_err(error::ours)?;
    from_base64(text.expose(), limit)?
        .ok_or_else(|| error::malformed("a value of the answer to a batch is not base64"))
}

/// What `text` encodes, its line breaks aside; `None` where it is not base64.
fn from_base64(text: &[u8], limit: usize) -> Result<Option<SecretBuf>, Error> {
    let mut decoded = SecretBuf::with_capacity(text.len() / 4 * 3 + 3)?;
    let (mut group, mut len) = (Zeroizing::new([0_u8; 4]), 0);
    let mut out = Zeroizing::new([0_u8; 3]);
    let mut ended = false;
    for &byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        if ended {
            return Ok(None);
        }
        group[len] = byte;
        len += 1;
        if len == group.len() {
            let Ok(written) = STRICT.decode_slice(*group, &mut *out) else {
                return Ok(None);
            };
            decoded.push(&out[..written])?;
            // Padding ends it.
            ended = written < out.len();
            len = 0;
        }
    }
    if len > 0 {
        return Ok(None);
    }
    if decoded.len() > limit {
        return Err(error::value_too_large());
    }
    Ok(Some(decoded))
}

const STRICT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The number of the latest version in a variable's metadata; `None` where it has no value.
pub(crate) fn latest_version(body: &[u8]) -> Result<Option<u64>, Error> {
    const WHAT: &str = "the metadata of a variable are not what they should be";
    let Object(resource): Object<Resource> = json::parse(body, WHAT).map_err(error::ours)?;
    let versions = resource.secrets.iter().map(|Object(secret)| secret.version);
    Ok(versions.max())
}

#[derive(Deserialize)]
struct Resource {
    secrets: Vec<Object<Held>>,
}

#[derive(Deserialize)]
struct Held {
    version: u64,
}

/// The id that a 404 names: the first, in the order asked, that is not there.
pub(crate) fn missing_id(body: &[u8]) -> Option<String> {
    let Object(said): Object<Said> = json::parse(body, "").ok()?;
    let message = said.error.0.message?;
    let rest = message.strip_prefix("CONJ00076E Variable ")?;
    rest.strip_suffix(" is empty or not found.")
        .map(str::to_owned)
}

#[derive(Deserialize)]
struct Said {
    error: Object<SaidError>,
}

#[derive(Deserialize)]
struct SaidError {
    message: Option<String>,
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
