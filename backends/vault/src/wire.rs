//! The payloads of the protocol: what is read from an answer, and the body of a login.
//!
//! Values and tokens stay borrowed from the response until `json` writes them into buffers that
//! are wiped: there is no `String`, no `serde_json::Value` and no scratch copy of one. Depth costs
//! no stack, because what is not wanted, and the inside of each value, is skipped without
//! recursion. The shapes are those of OpenBao's API, recorded from 2.7.2.

use std::collections::BTreeMap;
use std::time::Duration;

use secret_resolver::{Error, Record, SecretBuf, Version};
use secret_resolver_json::{self as json, Members, Object};
use secret_resolver_session::Grant;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::error;

/// Far above any token that Vault or OpenBao issues; a batch token has a few hundred bytes.
const TOKEN_LIMIT: usize = 16 << 10;

/// The answer to a login.
pub(crate) struct Login {
    pub(crate) token: SecretBuf,
    /// `None` when the answer does not say it.
    pub(crate) grant: Option<Grant>,
    pub(crate) is_batch: bool,
    pub(crate) is_limited: bool,
}

/// What a token says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) grant: Grant,
    pub(crate) is_limited: bool,
}

/// The record in the answer to a KV v2 read.
pub(crate) fn record(body: &[u8], value_limit: usize) -> Result<Record, Error> {
    let read: Read<'_> = parse(
        body,
        "the answer is not that of a KV v2 store; check the mount's version",
    )?;
    let Object(Kv { data, metadata }) = read.data;
    let (Some(Members(fields)), Some(Object(metadata))) = (data, metadata) else {
        return Err(error::malformed(
            "the answer is not that of a KV v2 store; check the mount's version",
        ));
    };
    // The builder refuses a field that is there twice. It does not see one that is null, because that is left out.
    let mut keys: Vec<&str> = fields.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(error::malformed("the store's record has one field twice"));
    }
    let mut builder = Record::builder(error::BACKEND).version(Version::number(metadata.version));
    for (key, raw) in fields {
        if let Some(value) = json::value(raw.get(), value_limit)? {
            builder = builder.field(key, value);
        }
    }
    builder.build()
}

/// The token that a login issued.
pub(crate) fn login(body: &[u8]) -> Result<Login, Error> {
    const WHAT: &str = "the answer to a login carries no token; check what is listening there";
    let Issued { auth: Object(auth) } = parse(body, WHAT)?;
    let raw = auth.client_token.ok_or_else(|| error::malformed(WHAT))?;
    // A token over the bound is not of this protocol.
    let token = json::string(raw.get(), TOKEN_LIMIT).map_err(|_| error::malformed(WHAT))?;
    // What cannot be sent in a header is not a token.
    if token.is_empty() || !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(error::malformed(WHAT));
    }
    // Whatever else it says: there is a token, which has to be used or given back.
    Ok(Login {
        token,
        grant: auth.grant(),
        is_batch: auth
            .token_type
            .is_some_and(|kind| kind.get() == r#""batch""#),
        is_limited: auth
            .num_uses
            .is_some_and(|uses| uses.get() != "0" && uses.get() != "null"),
    })
}

/// The life that a renewal granted. The token, which the answer repeats, is not read.
pub(crate) fn renewal(body: &[u8]) -> Result<Grant, Error> {
    const WHAT: &str = "the answer to a renewal is not one";
    let Issued { auth: Object(auth) } = parse(body, WHAT)?;
    auth.grant().ok_or_else(|| error::malformed(WHAT))
}

/// The life that is left to a token, and whether its uses are counted.
pub(crate) fn lookup(body: &[u8]) -> Result<Lookup, Error> {
    let Looked { data: Object(data) }: Looked<Living> =
        parse(body, "the answer to a token's lookup is not one")?;
    // A ttl of 0 means for ever only where no time of expiry is set; else the end is now.
    let endless = data.ttl == 0 && data.expire_time.is_none();
    let grant = Grant {
        lease: (!endless).then(|| Duration::from_secs(data.ttl)),
        renewable: data.renewable,
    };
    Ok(Lookup {
        grant,
        is_limited: data.num_uses.is_some_and(|uses| uses != 0),
    })
}

/// The body of a login: an object of these members, whose names need no escapes.
pub(crate) fn login_body(members: &[(&str, &[u8])]) -> Result<SecretBuf, Error> {
    let room = members
        .iter()
        .map(|(name, value)| name.len() + json::quoted_len(value) + br#","":"#.len());
    let mut body = SecretBuf::with_capacity(room.sum::<usize>() + b"{}".len())?;
    body.push(b"{")?;
    for (place, (name, value)) in members.iter().enumerate() {
        let open: &[u8] = if place == 0 { b"\"" } else { b",\"" };
        body.push(open)?;
        body.push(name.as_bytes())?;
        body.push(b"\":")?;
        json::quote(value, &mut body)?;
    }
    body.push(b"}")?;
    Ok(body)
}

/// That a hash was answered, whose value is of no interest.
pub(crate) fn hash(body: &[u8]) -> Result<(), Error> {
    let Hash { _data: _ } = parse(body, "the answer is no hash; check what is listening there")?;
    Ok(())
}

/// The body that asks what an identity may do at these paths.
pub(crate) fn paths<'a>(paths: impl Iterator<Item = &'a str>) -> Result<SecretBuf, Error> {
    let paths = BTreeMap::from([("paths", paths.collect::<Vec<_>>())]);
    let body = serde_json::to_vec(&paths);
    SecretBuf::from_slice(&body.map_err(|_| error::malformed("a path is not text"))?)
}

/// What an identity may do, by path.
pub(crate) fn capabilities(body: &[u8]) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let Able { data } = parse(body, NO_CAPABILITIES)?;
    Ok(data)
}

/// Where a token gets its rights from, as it says itself.
#[derive(Debug, PartialEq)]
pub(crate) struct Own {
    /// Its identity's among them.
    pub(crate) policies: Vec<String>,
    pub(crate) entity: Option<String>,
    pub(crate) role: Option<String>,
}

pub(crate) fn own(body: &[u8]) -> Result<Own, Error> {
    let Looked { data: Object(held) }: Looked<Holds> =
        parse(body, "the answer to a token's lookup is not one")?;
    let of_identity = held.identity_policies.into_iter().flatten();
    let role = |mut meta: BTreeMap<String, String>| {
        let names = ["role_name", "role", "cert_name"];
        names.iter().find_map(|name| meta.remove(*name))
    };
    Ok(Own {
        policies: held
            .policies
            .into_iter()
            .flatten()
            .chain(of_identity)
            .collect(),
        entity: held.entity_id.filter(|entity| !entity.is_empty()),
        role: held.meta.and_then(role),
    })
}

#[derive(Deserialize)]
struct Holds {
    policies: Option<Vec<String>>,
    identity_policies: Option<Vec<String>>,
    entity_id: Option<String>,
    meta: Option<BTreeMap<String, String>>,
}

/// Where a path that was asked about has no answer.
pub(crate) fn no_capabilities() -> Error {
    error::malformed(NO_CAPABILITIES)
}

const NO_CAPABILITIES: &str = "the answer does not say what the identity may do";

/// As the shared one, for the object that each answer is.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, Error> {
    let read = json::parse(body, what).map_err(error::ours);
    read.map(|Object(read)| read)
}

#[derive(Deserialize)]
struct Hash {
    #[serde(rename = "data")]
    _data: Object<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    #[serde(rename = "sum")]
    _sum: IgnoredAny,
}

#[derive(Deserialize)]
struct Able {
    data: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: Object<Kv<'a>>,
}

#[derive(Deserialize)]
struct Kv<'a> {
    #[serde(borrow)]
    data: Option<Members<'a>>,
    metadata: Option<Object<Metadata>>,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct Issued<'a> {
    #[serde(borrow)]
    auth: Object<Auth<'a>>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    client_token: Option<&'a RawValue>,
    #[serde(borrow)]
    lease_duration: Option<&'a RawValue>,
    #[serde(borrow)]
    renewable: Option<&'a RawValue>,
    #[serde(borrow)]
    num_uses: Option<&'a RawValue>,
    #[serde(borrow)]
    token_type: Option<&'a RawValue>,
}

impl Auth<'_> {
    fn grant(&self) -> Option<Grant> {
        let seconds = self.lease_duration?.get().parse().ok()?;
        let renewable = self.renewable?.get().parse().ok()?;
        Some(Grant {
            lease: (seconds != 0).then(|| Duration::from_secs(seconds)),
            renewable,
        })
    }
}

#[derive(Deserialize)]
struct Looked<T> {
    data: Object<T>,
}

#[derive(Deserialize)]
struct Living {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    expire_time: Option<IgnoredAny>,
    num_uses: Option<i64>,
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
