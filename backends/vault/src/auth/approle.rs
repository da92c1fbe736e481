//! The AppRole login: a role id and a secret id for a token.

use secret_resolver::{Error, SecretBuf};

use crate::answers::By;
use crate::auth::Login;
use crate::client::Client;
use crate::wire;

/// A wrong role id or secret id is a 400; a mount that is not there, or a role that is locked out, a 403: all are refusals.
pub(super) async fn login(
    client: &Client,
    mount: &str,
    role_id: &SecretBuf,
    secret_id: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<wire::Login, Error> {
    let members = [
        ("role_id", role_id.expose()),
        ("secret_id", secret_id.expose()),
    ];
    let login = Login {
        by: By::AppRole,
        mount,
        body: wire::login_body(&members)?,
    };
    login.send(client, endpoint).await
}
