//! The payloads of the protocol: tokens, batches and versions. Values and tokens go from the body straight into buffers that are wiped.
//!
//! The shapes are those of Conjur OSS 1.24, recorded (`tests/transcripts`).

use std::borrow::Cow;
use std::collections::HashMap;
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
    /// Whether it is the administrator's.
    pub(crate) of_admin: bool,
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
    let decoded = BASE64_URL_SAFE.decode(payload.expose()).map(Zeroizing::new);
    let claims = decoded.ok().and_then(|json| claims(&json));
    let life = claims.as_ref().and_then(|(life, _)| *life);
    Ok(Token {
        header: header(text)?,
        life: life.unwrap_or(LIFE),
        of_admin: claims.is_some_and(|(_, of_admin)| of_admin),
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
struct Claims<'a> {
    iat: Option<u64>,
    exp: Option<u64>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
}

/// The life, as far as it is said, and whether this is the administrator. The life is `exp - iat`: it is counted from the receipt, so
/// that no clock of the server or of this machine has to be right.
fn claims(json: &[u8]) -> Option<(Option<Duration>, bool)> {
    let read: Result<Object<Claims<'_>>, _> = json::parse(json, "");
    let Object(Claims { iat, exp, sub }) = read.ok()?;
    let life = exp.zip(iat).and_then(|(exp, iat)| exp.checked_sub(iat));
    let of_admin = sub.is_some_and(|sub| sub.get() == r#""admin""#);
    Some((life.map(Duration::from_secs), of_admin))
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
    let places = places(ids);
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

/// The body that asks the service for these ids.
pub(crate) fn ids(ids: &[String]) -> Result<Vec<u8>, Error> {
    let body = serde_json::to_vec(&std::collections::BTreeMap::from([("ids", ids)]));
    body.map_err(|_| error::malformed("an id is not text"))
}

/// The values of the service's batch, in the order of `ids`: all of them, each once, and nothing else. `None` is one that it does not
/// give: why is for the answer to a read of this id alone to say.
pub(crate) fn values(
    body: &[u8],
    ids: &[String],
    limit: usize,
) -> Result<Vec<Option<Result<SecretBuf, Error>>>, Error> {
    let Object(Given { secrets }) =
        json::parse(body, "the answer to a batch is not a list of secrets").map_err(error::ours)?;
    let places = places(ids);
    let mut values: Vec<Option<&Each<'_>>> = vec![None; ids.len()];
    for Object(each) in &secrets {
        let place = places
            .get(&*each.id)
            .and_then(|&place| values.get_mut(place));
        match place {
            Some(empty @ None) => *empty = Some(each),
            _ => return Err(other_ids()),
        }
    }
    let value = |each: Option<&Each<'_>>| match each.ok_or_else(other_ids)? {
        Each {
            status: 200,
            value: Some(raw),
            ..
        } => Ok(Some(json::string(raw.get(), limit).map_err(error::ours))),
        _ => Ok(None),
    };
    values.into_iter().map(value).collect()
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    secrets: Vec<Object<Each<'a>>>,
}

#[derive(Deserialize)]
struct Each<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    status: u16,
}

/// Where each id stands.
fn places(ids: &[String]) -> HashMap<&str, usize> {
    let numbered = ids.iter().enumerate();
    numbered.map(|(place, id)| (id.as_str(), place)).collect()
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

/// Whether the answer to `whoami` says who the token is of. Another program may answer 200 to anything.
pub(crate) fn is_identity(body: &[u8]) -> bool {
    json::parse::<Object<Identity<'_>>>(body, "").is_ok()
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow, rename = "username")]
    _username: &'a RawValue,
}

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

/// How many variables an identity sees.
pub(crate) fn count(body: &[u8]) -> Result<u64, Error> {
    const WHAT: &str = "the number of variables is not what it should be";
    let counted: Result<Object<Counted>, _> = json::parse(body, WHAT);
    counted
        .map(|Object(counted)| counted.count)
        .map_err(error::ours)
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
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
