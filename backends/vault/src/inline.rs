//! Inline authentication: a JWT with each request in place of a token (OpenBao 2.4 and later). The server logs in, answers, and keeps no
//! token, so none can be copied from it or from here.
//!
//! The headers are those of OpenBao's `sdk/helper/consts`: where to log in, and each parameter as JSON, in base64url without padding. Tried
//! on 2.7.2: a login that is refused is a 400, and a mount that is not there a 403, both with `X-Vault-Inline-Auth-Failed`, before anything
//! of the request itself is looked at. An address that the role does not allow is a 403 without it.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use secret_resolver::{Error, SecretBuf};
use secret_resolver_transport::{Reply, Request};

use crate::{error, wire};

/// Where each request logs in, and with which role.
#[derive(Debug)]
pub(crate) struct Inline {
    path: String,
    role: String,
}

impl Inline {
    /// At this mount, as policies name it.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for a mount that cannot stand in a header.
    pub(crate) fn new(mount: &str, role: &str) -> Result<Self, Error> {
        if !mount.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error::misconfigured(
                "an auth mount for inline authentication is ASCII text without blanks",
            ));
        }
        Ok(Self {
            path: format!("auth/{mount}/login"),
            role: BASE64_URL_SAFE_NO_PAD.encode(parameter("role", role.as_bytes())?.expose()),
        })
    }

    /// The request with this JWT.
    pub(crate) fn with(&self, request: Request, jwt: &SecretBuf) -> Result<Request, Error> {
        let json = parameter("jwt", jwt.expose())?;
        let mut encoded = SecretBuf::with_capacity(json.expose().len().div_ceil(3) * 4)?;
        // Piece by piece: the encoded text is the JWT, and is wiped like it.
        let mut piece = [0; 4];
        for three in json.expose().chunks(3) {
            let length = BASE64_URL_SAFE_NO_PAD.encode_slice(three, &mut piece);
            encoded.push(piece.get(..length.unwrap_or_default()).unwrap_or_default())?;
        }
        request
            .with_header("X-Vault-Inline-Auth-Path", &self.path)?
            .with_header("X-Vault-Inline-Auth-Parameter-Role", &self.role)?
            .with_secret_header("X-Vault-Inline-Auth-Parameter-Jwt", encoded.expose())
    }
}

/// Whether the login was refused, and the request was not looked at.
pub(crate) fn has_failed(reply: &Reply<'_>) -> bool {
    reply.header("X-Vault-Inline-Auth-Failed").is_some()
}

/// `{"key":…,"value":…}`.
fn parameter(key: &str, value: &[u8]) -> Result<SecretBuf, Error> {
    wire::login_body(&[("key", key.as_bytes()), ("value", value)])
}
