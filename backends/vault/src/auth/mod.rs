//! How the backend becomes somebody at the store, and stays it.
//!
//! `credential` says where credentials come from; `approle` and `token` turn them into a token;
//! `session` keeps one token alive for all requests, by what `state` decides, the arithmetic of
//! `life`, the limits of `gate`, and logins that are one `flight` for all who wait; `verdict` says
//! what a 403 means.

mod approle;
mod credential;
mod flight;
mod gate;
mod life;
mod session;
mod state;
mod token;
mod verdict;

pub use credential::Credential;
pub(crate) use session::Session;
pub(crate) use verdict::Verdict;

use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, SecretBuf};

use crate::client::Client;
use crate::error;
use crate::path::{self, checked};
use crate::wire::Grant;

/// How the backend authenticates: part of the target, fixed in code.
///
/// `Debug` shows the method and the mount, never a value.
///
/// ```
/// use secret_resolver::SecretBuf;
/// use secret_resolver_vault::{Auth, Credential};
///
/// let auth = Auth::approle(
///     Credential::value(SecretBuf::from_slice(b"2caefc0d-d83c-646d-5e90-62371d22645a")?),
///     Credential::file("/run/secrets/secret-id"),
/// )
/// .with_mount("services/approle");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub struct Auth {
    method: Method,
    mount: Option<String>,
}

enum Method {
    AppRole {
        role_id: Credential,
        secret_id: Credential,
    },
    Token(Credential),
}

/// Credentials as they were at one login.
#[derive(PartialEq, Eq)]
enum Loaded {
    AppRole {
        role_id: Arc<SecretBuf>,
        secret_id: Arc<SecretBuf>,
    },
    Token(Arc<SecretBuf>),
}

/// What a login gives.
struct Issued {
    token: Arc<SecretBuf>,
    grant: Grant,
}

impl Auth {
    /// Logs in at `auth/approle/login`, or at the mount that [`Auth::with_mount`] names.
    ///
    /// The tokens so issued are the backend's own: it renews them while they are in use, and
    /// revokes the last one at shutdown. Their role should leave them the `default` policy, which
    /// lets a token look itself up: that is how a denial is told from a dead token. Without it a
    /// denied read costs a login, at most one a minute, and for that minute a revoked token is
    /// taken for a denial. The role's `token_num_uses` must be 0.
    #[must_use]
    pub fn approle(role_id: Credential, secret_id: Credential) -> Self {
        Self {
            method: Method::AppRole { role_id, secret_id },
            mount: None,
        }
    }

    /// Uses a token that somebody else issued, and who ends it too: it is renewed while it is in
    /// use, if it is renewable, and never revoked here.
    ///
    /// It must be able to look itself up, as the `default` policy allows. One that has died is not
    /// sent again; a file is read again until it holds another.
    #[must_use]
    pub fn token(token: Credential) -> Self {
        Self {
            method: Method::Token(token),
            mount: None,
        }
    }

    /// Where the login method is mounted, below `auth/`; by default `approle`. A plain token has
    /// no mount: with one, `build()` is
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured).
    #[must_use]
    pub fn with_mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = Some(mount.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let mount = self
            .mount
            .as_deref()
            .map(|mount| checked(mount, "auth mount"))
            .transpose()?;
        match (&self.method, mount) {
            (Method::Token(_), Some(_)) => {
                Err(error::misconfigured("a plain token has no auth mount"))
            }
            (Method::Token(token), None) => token.check(),
            (Method::AppRole { role_id, secret_id }, _) => {
                role_id.check().and_then(|()| secret_id.check())
            }
        }
    }

    /// Whether the tokens are the backend's own, to be revoked when it ends.
    fn issues_tokens(&self) -> bool {
        matches!(self.method, Method::AppRole { .. })
    }

    fn name(&self) -> &'static str {
        match self.method {
            Method::AppRole { .. } => "approle",
            Method::Token(_) => "token",
        }
    }

    async fn load(&self) -> Result<Loaded, Error> {
        Ok(match &self.method {
            Method::AppRole { role_id, secret_id } => Loaded::AppRole {
                role_id: role_id.load().await?,
                secret_id: secret_id.load().await?,
            },
            Method::Token(token) => Loaded::Token(token.load().await?),
        })
    }

    async fn login(
        &self,
        client: &Client,
        loaded: &Loaded,
        endpoint: Option<usize>,
    ) -> Result<Issued, Error> {
        match loaded {
            Loaded::AppRole { role_id, secret_id } => {
                let mount = path::encode(self.mount.as_deref().unwrap_or("approle"));
                approle::login(client, &mount, role_id, secret_id, endpoint).await
            }
            Loaded::Token(token) => {
                let grant = token::lookup(client, token, endpoint).await?;
                Ok(Issued {
                    token: Arc::clone(token),
                    grant,
                })
            }
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("method", &self.name())
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}
