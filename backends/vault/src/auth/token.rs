//! What a token can ask about itself (`/v1/auth/token/…-self`), whoever issued it.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_transport::Method;

use crate::client::{Ask, Client, Reply};
use crate::error::{self, Asked};
use crate::wire::{self, Grant};

/// The life that is left to the token.
pub(super) async fn lookup(
    client: &Client,
    token: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Grant, Error> {
    let target = "/v1/auth/token/lookup-self";
    let reply = ask(client, Method::Get, target, token, endpoint).await?;
    match reply.status() {
        200 => wire::lookup(reply.body()),
        _ => Err(error::of_reply(Asked::Lookup, &reply)),
    }
}

/// The life that a renewal gives it: as long as its role says, within its longest.
pub(super) async fn renew(client: &Client, token: &SecretBuf) -> Result<Grant, Error> {
    let target = "/v1/auth/token/renew-self";
    let reply = ask(client, Method::Post, target, token, None).await?;
    match reply.status() {
        200 => wire::renewal(reply.body()),
        _ => Err(error::of_reply(Asked::Renewal, &reply)),
    }
}

/// Ends it.
pub(super) async fn revoke(client: &Client, token: &SecretBuf) -> Result<(), Error> {
    let target = "/v1/auth/token/revoke-self";
    let reply = ask(client, Method::Post, target, token, None).await?;
    match reply.status() {
        200 | 204 => Ok(()),
        _ => Err(error::of_reply(Asked::Revocation, &reply)),
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
        })
        .await
}
