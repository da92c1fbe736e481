//! What the session asks of Vault: credentials as they are now, and what becomes of tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secret_resolver::backend::foreign;
use secret_resolver::{Error, ErrorKind, IdentityStatus, Moment, SecretBuf};
use secret_resolver_session::{Grant, Issued, Jwt, JwtSource, Store, Waiting};

use crate::answers::By;
use crate::auth::jwt::Taken;
use crate::auth::{Auth, Method, approle, cert, jwt, token};
use crate::client::Client;
use crate::error;
use crate::wire;

/// Vault as the session sees it: where to log in, and how.
pub(crate) struct Vault {
    client: Client,
    auth: Auth,
    /// Whether a login was refused for what it was made with, since the last one that was accepted.
    refused: AtomicBool,
}

impl Vault {
    pub(crate) fn new(client: Client, auth: Auth) -> Self {
        Self {
            client,
            auth,
            refused: AtomicBool::new(false),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What proves to the store who asks: the certificate of the connections, or else the JWTs.
    pub(crate) fn identity_status(&self) -> Option<IdentityStatus> {
        let client = self.client.endpoints().client();
        let of_jwts = || self.source().and_then(JwtSource::status);
        client.identity_status().or_else(of_jwts)
    }

    /// The role that logs in, where it is configured.
    pub(crate) fn role(&self) -> Option<&str> {
        self.auth.role.as_deref()
    }

    /// Where the login method is mounted, as policies name it.
    pub(crate) fn mount(&self) -> &str {
        self.auth.mount_name()
    }

    /// Tells the source that the store does not take its JWT.
    fn note_refusal(&self, jwt: &Jwt, error: &Error) {
        if error.kind() == ErrorKind::Unauthenticated
            && let Some(source) = self.source()
        {
            foreign(|| source.refused(jwt));
        }
    }

    /// Where JWTs come from, if it is by them.
    fn source(&self) -> Option<&dyn JwtSource> {
        match &self.auth.method {
            Method::Jwt(source) | Method::Inline(source) | Method::Kubernetes(source) => {
                Some(&**source)
            }
            Method::AppRole { .. } | Method::Cert | Method::Token(_) => None,
        }
    }

    /// Whether each request logs in by its own JWT.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self.auth.method, Method::Inline(_))
    }

    /// The error of a login by AppRole, which says where a lockout is probable.
    fn of_role(&self, error: Error) -> Error {
        if is_wrong(&error) {
            self.refused.store(true, Ordering::Relaxed);
        }
        let is_403 = error.kind() == ErrorKind::Unauthenticated && error.status() == Some(403);
        match is_403 && self.refused.load(Ordering::Relaxed) {
            true => error::locked_out(error),
            false => error,
        }
    }
}

/// A wrong role id or secret id is a 400, which counts towards a lockout. A role that is locked out gets a 403.
fn is_wrong(error: &Error) -> bool {
    error.kind() == ErrorKind::Unauthenticated && error.status() == Some(400)
}

/// Credentials as they were at one login.
#[derive(PartialEq, Eq)]
pub(crate) struct Loaded {
    with: With,
    /// The number of the client certificate. It is a part of every login: another one ends a back-off.
    certificate: u64,
}

#[derive(PartialEq, Eq)]
enum With {
    AppRole {
        role_id: Arc<SecretBuf>,
        secret_id: Arc<SecretBuf>,
    },
    /// What the connection shows.
    Certificate,
    Jwt(Jwt),
    Token(Arc<SecretBuf>),
}

impl Store for Vault {
    const NAME: &'static str = error::BACKEND;
    type Credentials = Loaded;

    fn method(&self) -> &'static str {
        self.auth.name()
    }

    fn issues_tokens(&self) -> bool {
        !matches!(self.auth.method, Method::Token(_))
    }

    /// Of the logins that are known here, OpenBao and Vault count those by AppRole alone.
    fn may_lock_out(&self, refusal: &Error) -> bool {
        matches!(self.auth.method, Method::AppRole { .. }) && is_wrong(refusal)
    }

    fn endpoints(&self) -> usize {
        self.client.endpoints().origins().len()
    }

    fn endpoint(&self) -> usize {
        self.client.endpoints().current()
    }

    async fn load(&self) -> Result<Loaded, Error> {
        // Now rather than with the connection that the login makes: a login that is held back makes none, and a token
        // would be taken for one of the certificate before.
        self.client.look_again().await;
        let with = match &self.auth.method {
            Method::AppRole { role_id, secret_id } => With::AppRole {
                role_id: role_id.load().await?,
                secret_id: secret_id.load().await?,
            },
            Method::Cert => With::Certificate,
            Method::Jwt(source) | Method::Inline(source) | Method::Kubernetes(source) => {
                With::Jwt(source.jwt().await.map_err(error::ours)?)
            }
            Method::Token(token) => {
                let loaded = token.load().await?;
                if !token::is_one(&loaded) {
                    let what = "the token has a blank, or a character that no token has; does its file have more than one line?";
                    return Err(token.located(error::misconfigured(what)));
                }
                With::Token(loaded)
            }
        };
        let certificate = self.client.certificate();
        Ok(Loaded { with, certificate })
    }

    fn ends(&self, loaded: &Loaded) -> Option<Moment> {
        match &loaded.with {
            With::Jwt(jwt) => jwt.ends(),
            With::AppRole { .. } | With::Certificate | With::Token(_) => None,
        }
    }

    fn certificate(&self) -> u64 {
        // Only these tokens are issued to the certificate.
        match self.auth.method {
            Method::Cert => self.client.certificate(),
            _ => 0,
        }
    }

    async fn login(
        &self,
        loaded: &Loaded,
        endpoint: Option<usize>,
        _: &Waiting,
    ) -> Result<Issued, Error> {
        let (client, mount) = (&self.client, self.auth.mount());
        let role = self.auth.role.as_deref();
        match &loaded.with {
            With::AppRole { role_id, secret_id } => {
                let login = approle::login(client, &mount, role_id, secret_id, endpoint).await;
                let login = login.map_err(|error| self.of_role(error))?;
                self.refused.store(false, Ordering::Relaxed);
                Ok(issued(login))
            }
            With::Certificate => Ok(issued(cert::login(client, &mount, role, endpoint).await?)),
            With::Jwt(jwt) if self.is_inline() => {
                // It is the token, and is tried before it is used.
                let taken = jwt::is_taken(client, jwt.secret(), endpoint).await;
                match taken.inspect_err(|error| self.note_refusal(jwt, error))? {
                    Taken::Yes => {}
                    Taken::NotAllowed(error) => return Err(error),
                }
                Ok(Issued {
                    token: jwt.shared(),
                    grant: INLINE,
                    revocable: false,
                    unfit: None,
                })
            }
            With::Jwt(jwt) => {
                let role = role.unwrap_or_default();
                let by = match self.auth.method {
                    Method::Kubernetes(_) => By::Kubernetes,
                    _ => By::Jwt,
                };
                let login = jwt::login(client, (by, &mount), role, jwt, endpoint).await;
                Ok(issued(
                    login.inspect_err(|error| self.note_refusal(jwt, error))?,
                ))
            }
            With::Token(token) => {
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

    async fn renew(&self, token: &SecretBuf, certificate: u64) -> Result<Grant, Error> {
        let vouched = matches!(self.auth.method, Method::Cert).then_some(certificate);
        token::renew(&self.client, token, vouched).await
    }

    async fn revoke(&self, token: &SecretBuf, endpoint: Option<usize>) -> Result<(), Error> {
        token::revoke(&self.client, token, endpoint).await
    }

    async fn knows(&self, token: &SecretBuf, endpoint: Option<usize>) -> Result<bool, Error> {
        let asked = match self.is_inline() {
            // What is not allowed has logged in.
            true => jwt::is_taken(&self.client, token, endpoint).await.map(drop),
            false => token::lookup(&self.client, token, endpoint).await.map(drop),
        };
        match asked {
            Ok(()) => Ok(true),
            // Unless it was not asked.
            Err(error) if error.kind() == ErrorKind::Unauthenticated && !error.is_held_back() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// A JWT is asked for again after that: its source may have another, or none any more.
const INLINE: Grant = Grant {
    lease: Some(Duration::from_secs(10)),
    renewable: false,
};

const NO_END: Grant = Grant {
    lease: None,
    renewable: false,
};

fn issued(login: wire::Login) -> Issued {
    let limited = || {
        error::misconfigured(
            "the role issues tokens for a limited number of uses; set its token_num_uses to 0",
        )
    };
    let odd = || {
        error::malformed("the answer to a login has a token, and does not say how long it lives")
    };
    let grant = login.grant.unwrap_or(NO_END);
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
