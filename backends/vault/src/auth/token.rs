//! What a token can ask about itself (`/v1/auth/token/…-self`), no matter who issued it.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_session::Grant;
use secret_resolver_transport::Method;

use crate::answers::{self, Asked};
use crate::client::{Ask, Client};
use crate::wire::{self, Lookup};

/// What can stand in the header for it.
pub(super) fn is_one(text: &SecretBuf) -> bool {
    text.expose().iter().all(u8::is_ascii_graphic)
}

/// The life that is left to the token, and whether its uses are counted.
pub(super) async fn lookup(
    client: &Client,
    token: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Lookup, Error> {
    let target = "/v1/auth/token/lookup-self";
    let ask = Ask {
        token: Some(token),
        endpoint,
        ..Ask::new(Method::Get, target)
    };
    let reply = client.send(ask).await?;
    match reply.status() {
        200 => wire::lookup(reply.body()).map_err(|error| answers::at_place(error, target, &reply)),
        _ => Err(answers::error_of(Asked::Lookup, target, &reply)),
    }
}

/// The life that a renewal gives it: as long as its role says, within its longest. It is sent with the client
/// certificate of this number alone, if one vouches for it.
pub(super) async fn renew(
    client: &Client,
    token: &SecretBuf,
    certificate: Option<u64>,
) -> Result<Grant, Error> {
    let target = "/v1/auth/token/renew-self";
    let ask = Ask {
        token: Some(token),
        certificate,
        ..Ask::new(Method::Post, target)
    };
    let reply = client.send(ask).await?;
    match reply.status() {
        200 => {
            wire::renewal(reply.body()).map_err(|error| answers::at_place(error, target, &reply))
        }
        _ => Err(answers::error_of(Asked::Renewal, target, &reply)),
    }
}

/// Ends it.
pub(super) async fn revoke(
    client: &Client,
    token: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<(), Error> {
    let target = "/v1/auth/token/revoke-self";
    let ask = Ask {
        token: Some(token),
        endpoint,
        ..Ask::new(Method::Post, target)
    };
    let reply = client.send(ask).await?;
    match reply.status() {
        200 | 204 => Ok(()),
        _ => Err(answers::error_of(Asked::Revocation, target, &reply)),
    }
}
