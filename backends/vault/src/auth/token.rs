//! What a token can ask about itself (`/v1/auth/token/…-self`), no matter who issued it.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_session::Grant;
use secret_resolver_transport::{Method, Reply};

use crate::answers::{self, Asked};
use crate::client::{Ask, Client};
use crate::wire::{self, Lookup};

/// The life that is left to the token, and whether its uses are counted.
pub(super) async fn lookup(
    client: &Client,
    token: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Lookup, Error> {
    let target = "/v1/auth/token/lookup-self";
    let reply = ask(client, Method::Get, target, token, endpoint).await?;
    match reply.status() {
        200 => wire::lookup(reply.body()),
        _ => Err(answers::error_of(Asked::Lookup, target, &reply)),
    }
}

/// The life that a renewal gives it: as long as its role says, within its longest.
pub(super) async fn renew(client: &Client, token: &SecretBuf) -> Result<Grant, Error> {
    let target = "/v1/auth/token/renew-self";
    let reply = ask(client, Method::Post, target, token, None).await?;
    match reply.status() {
        200 => wire::renewal(reply.body()),
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
    let reply = ask(client, Method::Post, target, token, endpoint).await?;
    match reply.status() {
        200 | 204 => Ok(()),
        _ => Err(answers::error_of(Asked::Revocation, target, &reply)),
    }
}

async fn ask<'a>(
    client: &'a Client,
    method: Method,
    target: &str,
    token: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Reply<'a>, Error> {
    client
        .send(Ask {
            method,
            target,
            token: Some(token),
            body: None,
            endpoint,
            of_leader: false,
        })
        .await
}
