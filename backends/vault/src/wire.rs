//! The payloads of the protocol: what is read from an answer, and the body of a login.
//!
//! Values and tokens stay borrowed from the response until `json` writes them into buffers that
//! are wiped: there is no `String`, no `serde_json::Value` and no scratch copy of one. Depth costs
//! no stack, because what is not wanted, and the inside of each value, is skipped without
//! recursion. The shapes are those of OpenBao's API, recorded from 2.7.2.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use secret_resolver::{Error, Record, SecretBuf, Version};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{error, json};

/// Far above any token that Vault or OpenBao issues; a batch token has a few hundred bytes.
const TOKEN_LIMIT: usize = 16 << 10;

/// How long the store lets a token live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Counted from the request; `None` for ever, as a root token does.
    pub(crate) lease: Option<Duration>,
    /// Whether the store may lengthen it.
    pub(crate) renewable: bool,
}

/// The record in the answer to a KV v2 read.
pub(crate) fn record(body: &[u8], value_limit: usize) -> Result<Record, Error> {
    let read: Read<'_> = parse(
        body,
        "the answer is not that of a KV v2 store; check the mount's version",
    )?;
    let (Some(Fields(fields)), Some(metadata)) = (read.data.data, read.data.metadata) else {
        return Err(error::malformed(
            "the answer is not that of a KV v2 store; check the mount's version",
        ));
    };
    let mut builder = Record::builder(error::BACKEND).version(Version::number(metadata.version));
    for (key, raw) in fields {
        if let Some(value) = json::value(raw.get(), value_limit)? {
            builder = builder.field(key.0, value);
        }
    }
    builder.build()
}

/// What a 404 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// A KV v2 store knows the mount and has nothing there, or has deleted it.
    NotFound,
    /// Nothing is mounted there, or there is no such namespace.
    NoMount,
}

/// Tells an absent secret from an absent store. KV v2 answers an empty list of errors, or the
/// metadata of a deleted version; routing answers with a text.
pub(crate) fn absence(body: &[u8]) -> Result<Absence, Error> {
    const WHAT: &str =
        "the answer 404 is not that of a Vault server; check what is listening there";
    let missing: Missing = parse(body, WHAT)?;
    match missing {
        Missing {
            errors: Some(errors),
            ..
        } if !errors.is_empty() => Ok(Absence::NoMount),
        Missing {
            errors: Some(_), ..
        } => Ok(Absence::NotFound),
        Missing {
            data: Some(Deleted { metadata: Some(_) }),
            ..
        } => Ok(Absence::NotFound),
        _ => Err(error::malformed(WHAT)),
    }
}

/// The token that a login issued.
pub(crate) fn login(body: &[u8]) -> Result<(SecretBuf, Grant), Error> {
    const WHAT: &str = "the answer to a login carries no token; check what is listening there";
    let login: Login<'_> = parse(body, WHAT)?;
    let raw = login
        .auth
        .client_token
        .ok_or_else(|| error::malformed(WHAT))?;
    let token = json::string(raw.get(), TOKEN_LIMIT)?;
    // What cannot be sent in a header is no token.
    if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(error::malformed(WHAT));
    }
    if login.auth.num_uses.is_some_and(|uses| uses != 0) {
        return Err(error::misconfigured(
            "the role issues tokens for a limited number of uses; set its token_num_uses to 0",
        ));
    }
    Ok((token, login.auth.grant()))
}

/// The life that a renewal granted. The token, which the answer repeats, is not read.
pub(crate) fn renewal(body: &[u8]) -> Result<Grant, Error> {
    let login: Login<'_> = parse(body, "the answer to a renewal is not one")?;
    Ok(login.auth.grant())
}

/// The life that is left to a token.
pub(crate) fn lookup(body: &[u8]) -> Result<Grant, Error> {
    let lookup: Lookup = parse(body, "the answer to a token's lookup is not one")?;
    let Own {
        ttl,
        renewable,
        expire_time,
    } = lookup.data;
    // A ttl of 0 means for ever only where no time of expiry is set; else the end is now.
    let endless = ttl == 0 && expire_time.is_none();
    Ok(Grant {
        lease: (!endless).then(|| Duration::from_secs(ttl)),
        renewable,
    })
}

/// `{"role_id":…,"secret_id":…}`.
pub(crate) fn approle_login(role_id: &[u8], secret_id: &[u8]) -> Result<SecretBuf, Error> {
    let (open, middle, close) = (b"{\"role_id\":", b",\"secret_id\":", b"}");
    let frame = open.len() + middle.len() + close.len();
    let mut body =
        SecretBuf::with_capacity(frame + json::quoted_len(role_id) + json::quoted_len(secret_id))?;
    body.push(open)?;
    json::quote(role_id, &mut body)?;
    body.push(middle)?;
    json::quote(secret_id, &mut body)?;
    body.push(close)?;
    Ok(body)
}

/// serde_json's error is dropped here: its text quotes what it met.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| error::malformed(what))
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: Kv<'a>,
}

#[derive(Deserialize)]
struct Kv<'a> {
    #[serde(borrow)]
    data: Option<Fields<'a>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct Missing {
    errors: Option<Vec<IgnoredAny>>,
    data: Option<Deleted>,
}

#[derive(Deserialize)]
struct Deleted {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Login<'a> {
    #[serde(borrow)]
    auth: Auth<'a>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    client_token: Option<&'a RawValue>,
    lease_duration: u64,
    renewable: bool,
    num_uses: Option<u64>,
}

impl Auth<'_> {
    fn grant(&self) -> Grant {
        let lease = (self.lease_duration != 0).then(|| Duration::from_secs(self.lease_duration));
        Grant {
            lease,
            renewable: self.renewable,
        }
    }
}

#[derive(Deserialize)]
struct Lookup {
    data: Own,
}

#[derive(Deserialize)]
struct Own {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    expire_time: Option<IgnoredAny>,
}

/// An object's members in their order, each value as its JSON text. A key is no secret.
struct Fields<'a>(Vec<(Key<'a>, &'a RawValue)>);

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Fields(members))
    }
}

#[cfg(test)]
mod tests;
