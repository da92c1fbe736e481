//! The login by the client certificate of the connection: `auth/cert`.

use secret_resolver::Error;

use crate::answers::By;
use crate::auth::Login;
use crate::client::Client;
use crate::wire;

/// With the role of this name, or the first whose demands the certificate meets. A certificate that is not taken,
/// or is not shown, is a 400. A certificate without a common name is a 500 that does not pass (OpenBao 2.7.2).
pub(super) async fn login(
    client: &Client,
    mount: &str,
    role: Option<&str>,
    endpoint: Option<usize>,
) -> Result<wire::Login, Error> {
    let members = role.map(|role| ("name", role.as_bytes()));
    let login = Login {
        by: By::Cert,
        mount,
        body: wire::login_body(members.as_slice())?,
    };
    login.send(client, endpoint).await
}
