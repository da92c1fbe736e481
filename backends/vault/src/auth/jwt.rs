//! Logins by a JSON Web Token: `auth/jwt`, and `auth/kubernetes`, which takes the same body.
//!
//! OpenBao checks the one against keys that it is given, and asks the Kubernetes API about the other.

use secret_resolver::Error;
use secret_resolver_session::Jwt;

use crate::answers::By;
use crate::auth::Login;
use crate::client::Client;
use crate::wire;

/// A JWT that is not taken is a 400 of `auth/jwt` and a 403 of `auth/kubernetes`, a role that is not there a 400:
/// all are refusals. A Kubernetes API that OpenBao cannot reach is a 403 like a refusal, too (2.7.2).
pub(super) async fn login(
    client: &Client,
    (by, mount): (By, &str),
    role: &str,
    jwt: &Jwt,
    endpoint: Option<usize>,
) -> Result<wire::Login, Error> {
    let members = [("role", role.as_bytes()), ("jwt", jwt.secret().expose())];
    let login = Login {
        by,
        mount,
        body: wire::login_body(&members)?,
    };
    login.send(client, endpoint).await
}
