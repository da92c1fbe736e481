//! How the backend authenticates to the store: what a login is for Vault.
//!
//! `approle` and `token` turn credentials into a token; the life of that token is the session's
//! (`secret-resolver-session`), which asks here for what is Vault's own.

mod approle;
mod token;

use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, ErrorKind, SecretBuf};
use secret_resolver_session::{Credential, Grant, Issued, Store};

use crate::client::Client;
use crate::error;
use crate::path::{self, checked};
use crate::wire::Login;

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
#[derive(Clone)]
pub struct Auth {
    method: Method,
    mount: Option<String>,
}

#[derive(Clone)]
enum Method {
    AppRole {
        role_id: Credential,
        secret_id: Credential,
    },
    Token(Credential),
}

/// Vault as the session sees it: where to log in, and how.
pub(crate) struct Vault {
    pub(crate) client: Client,
    pub(crate) auth: Auth,
}

/// Credentials as they were at one login.
#[derive(PartialEq, Eq)]
pub(crate) enum Loaded {
    AppRole {
        role_id: Arc<SecretBuf>,
        secret_id: Arc<SecretBuf>,
    },
    Token(Arc<SecretBuf>),
}

impl Auth {
    /// Logs in at `auth/approle/login`, or at the mount that [`Auth::with_mount`] names.
    ///
    /// The tokens that it issues are the backend's own: it renews them while they are in use, and
    /// revokes each when it is not used any more. Their role should leave them the `default` policy, which
    /// lets a token look itself up and revoke itself: this is what separates a denial from a dead token. Without
    /// it a denied read costs a login, at most one a minute, and for that minute a revoked token is
    /// taken for a denial. The role's `token_num_uses` must be 0. Batch tokens work; they cannot be renewed
    /// or revoked, so each lives to its end.
    #[must_use]
    pub fn approle(role_id: Credential, secret_id: Credential) -> Self {
        Self {
            method: Method::AppRole { role_id, secret_id },
            mount: None,
        }
    }

    /// Uses a token that somebody else has issued and will also end: it is renewed while it is in
    /// use, if it is renewable, and never revoked here.
    ///
    /// It must be able to look itself up, as the `default` policy allows, and its uses may not be limited.
    /// A token that the store calls dead, or that has expired, reads nothing; it is looked up again from time
    /// to time, at most once in 30 s after some refusals. One of limited use is looked up again after an hour. A file is read again each time, and another token
    /// in it is taken at once.
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

    fn name(&self) -> &'static str {
        match self.method {
            Method::AppRole { .. } => "approle",
            Method::Token(_) => "token",
        }
    }
}

impl Store for Vault {
    const NAME: &'static str = error::BACKEND;
    type Credentials = Loaded;

    fn method(&self) -> &'static str {
        self.auth.name()
    }

    fn issues_tokens(&self) -> bool {
        matches!(self.auth.method, Method::AppRole { .. })
    }

    fn endpoints(&self) -> usize {
        self.client.endpoints().origins().len()
    }

    fn endpoint(&self) -> usize {
        self.client.endpoints().current()
    }

    async fn load(&self) -> Result<Loaded, Error> {
        Ok(match &self.auth.method {
            Method::AppRole { role_id, secret_id } => Loaded::AppRole {
                role_id: role_id.load().await?,
                secret_id: secret_id.load().await?,
            },
            Method::Token(token) => {
                let loaded = token.load().await?;
                if !loaded.expose().iter().all(u8::is_ascii_graphic) {
                    let what = "the token has a blank, or a character that no token has; does its file have more than one line?";
                    return Err(token.located(error::misconfigured(what)));
                }
                Loaded::Token(loaded)
            }
        })
    }

    async fn login(&self, loaded: &Loaded, endpoint: Option<usize>) -> Result<Issued, Error> {
        let client = &self.client;
        match loaded {
            Loaded::AppRole { role_id, secret_id } => {
                let mount = path::encode(self.auth.mount.as_deref().unwrap_or("approle"));
                let login = approle::login(client, &mount, role_id, secret_id, endpoint).await?;
                Ok(issued(login))
            }
            Loaded::Token(token) => {
                let lookup = token::lookup(client, token, endpoint).await?;
                let unfit = lookup.is_limited.then(|| {
                    error::misconfigured("the token that was given may be used a limited number of times, and was used once to look it up; give one without a limit")
                });
                Ok(Issued {
                    token: Arc::clone(token),
                    grant: lookup.grant,
                    revocable: false,
                    unfit,
                })
            }
        }
    }

    async fn renew(&self, token: &SecretBuf) -> Result<Grant, Error> {
        token::renew(&self.client, token).await
    }

    async fn revoke(&self, token: &SecretBuf, endpoint: Option<usize>) -> Result<(), Error> {
        token::revoke(&self.client, token, endpoint).await
    }

    async fn knows(&self, token: &SecretBuf, endpoint: Option<usize>) -> Result<bool, Error> {
        match token::lookup(&self.client, token, endpoint).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn issued(login: Login) -> Issued {
    let limited = || {
        error::misconfigured(
            "the role issues tokens for a limited number of uses; set its token_num_uses to 0",
        )
    };
    let odd = || {
        error::malformed("the answer to a login has a token, and does not say how long it lives")
    };
    let grant = login.grant.unwrap_or(Grant {
        lease: None,
        renewable: false,
    });
    Issued {
        token: Arc::new(login.token),
        grant,
        // The store ends a batch token with its life, and not before.
        revocable: !login.is_batch,
        unfit: match login.grant {
            None => Some(odd()),
            Some(_) => login.is_limited.then(limited),
        },
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
