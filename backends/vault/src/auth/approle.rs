//! The AppRole login (`POST /v1/auth/{mount}/login`): a role id and a secret id for a token.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_transport::Method;

use crate::answers::{self, Asked};
use crate::client::{Ask, Client};
use crate::wire::{self, Login};

/// A wrong role id or secret id is a 400, a mount that is not there a 403: both are refusals.
pub(super) async fn login(
    client: &Client,
    mount: &str,
    role_id: &SecretBuf,
    secret_id: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Login, Error> {
    let body = wire::approle_login(role_id.expose(), secret_id.expose())?;
    let target = format!("/v1/auth/{mount}/login");
    let reply = client
        .send(Ask {
            method: Method::Post,
            target: &target,
            token: None,
            body: Some(&body),
            endpoint,
            of_leader: false,
        })
        .await?;
    match reply.status() {
        200 => wire::login(reply.body()),
        _ => Err(answers::error_of(Asked::Login, &target, &reply)),
    }
}
