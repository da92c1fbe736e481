//! Logins by a JSON Web Token: `auth/jwt`, and `auth/kubernetes`, which takes the same body.
//!
//! OpenBao checks the one against keys that it is given, and asks the Kubernetes API about the other.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_session::Jwt;
use secret_resolver_transport::Method;

use crate::answers::{self, Asked, By};
use crate::auth::Login;
use crate::client::{Ask, Client};
use crate::{error, inline, wire};

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

/// What the store says to a JWT with a request.
pub(super) enum Taken {
    Yes,
    /// It logged in, or the server knows no such login; what was asked is not allowed.
    NotAllowed(Error),
}

/// Whether the store takes this JWT with a request: it is asked for a hash, which the policy `default` allows. What tokens ask about
/// themselves has no answer here: OpenBao keeps no token that it could look up (a 403 "bad token", and a 400 for `capabilities-self`, on
/// 2.7.2).
pub(super) async fn is_taken(
    client: &Client,
    jwt: &SecretBuf,
    endpoint: Option<usize>,
) -> Result<Taken, Error> {
    let target = "/v1/sys/tools/hash";
    let body = SecretBuf::from_slice(br#"{"input":"YQ=="}"#)?;
    let ask = Ask {
        token: Some(jwt),
        body: Some(&body),
        endpoint,
        ..Ask::new(Method::Post, target)
    };
    let reply = client.send(ask).await?;
    if reply.status() == 200 {
        let read = wire::hash(reply.body());
        return read
            .map(|()| Taken::Yes)
            .map_err(|error| answers::at_place(error, target, &reply));
    }
    // The request itself is right, so a 400 is about the JWT, also where a proxy has dropped the header that says so.
    let error = answers::error_of(Asked::Login(By::Jwt), target, &reply);
    match answers::is_refusal(&reply, false) && !inline::has_failed(&reply) {
        true => Ok(Taken::NotAllowed(error::no_inline(&error))),
        false => Err(error),
    }
}
