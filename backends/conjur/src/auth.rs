//! How the backend logs in: what a login is for Conjur. The life of the token is the session's.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secret_resolver::backend::foreign;
use secret_resolver::{Clock, Error, ErrorKind, IdentityStatus, SecretBuf};
use secret_resolver_session::{Credential, Grant, Issued, Jwt, JwtSource, Store, Waiting};
use secret_resolver_transport::percent_encode;

use crate::answers::{self, Asked};
use crate::client::Client;
use crate::sidecar::{Seen, Written};
use crate::{error, wire};

/// How the backend authenticates: part of the target, fixed in code.
///
/// `Debug` shows the method, the service and the login, never a credential.
///
/// ```
/// use secret_resolver_conjur::{Auth, Credential, JwtFile};
///
/// let by_key = Auth::api_key("host/apps/billing", Credential::file("/run/secrets/conjur-key"));
/// let by_jwt = Auth::jwt("kubernetes", JwtFile::service_account());
/// # let _ = (by_key, by_jwt);
/// ```
#[derive(Clone)]
pub struct Auth {
    method: Method,
    login: Option<String>,
}

#[derive(Clone)]
enum Method {
    ApiKey(Credential),
    Jwt {
        service: String,
        source: Arc<dyn JwtSource>,
    },
    Certificate {
        service: String,
    },
    Token(Credential),
}

/// Conjur as the session sees it: where to log in, and how.
pub(crate) struct Conjur {
    pub(crate) client: Client,
    pub(crate) auth: Auth,
    pub(crate) allow_admin: bool,
    pub(crate) clock: Arc<dyn Clock>,
    /// The last JWT that was refused although it was tried twice.
    pub(crate) refused: Mutex<Option<Jwt>>,
    /// The last token of a sidecar.
    pub(crate) seen: Seen,
}

/// Credentials as they were at one login.
#[derive(PartialEq)]
pub(crate) struct Loaded {
    secret: Secret,
    certificate: u64,
}

#[derive(PartialEq)]
enum Secret {
    None,
    Bytes(Arc<SecretBuf>),
    Jwt(Jwt),
    Written(Written),
}

/// How long a JWT that was refused may have been ahead of the server's clock.
const AHEAD: Duration = Duration::from_secs(1);

impl Auth {
    /// Logs in as `login`, such as `host/apps/billing`, with its API key. A key in a file is read again at each login, so that it may be
    /// rotated.
    ///
    /// # Security
    /// The administrator's login is refused by `build()`: with its token a caller may do anything. See
    /// [`ConjurBuilder::dangerous_allow_admin`](crate::ConjurBuilder::dangerous_allow_admin).
    #[must_use]
    pub fn api_key(login: impl Into<String>, key: Credential) -> Self {
        Self {
            method: Method::ApiKey(key),
            login: Some(login.into()),
        }
    }

    /// Logs in with a JWT of `source` at the authenticator `authn-jwt/{service}`. The identity is in the JWT, where the service declares
    /// `token-app-property`; otherwise name it by [`with_host`](Self::with_host).
    ///
    /// Conjur takes RS256, RS384 and RS512 alone, and no JWT from the future: one that is refused for the first time is tried once more
    /// after a second, because this machine's clock, or the issuer's, may be ahead of the server's.
    #[must_use]
    pub fn jwt(service: impl Into<String>, source: impl JwtSource) -> Self {
        Self {
            method: Method::Jwt {
                service: service.into(),
                source: Arc::new(source),
            },
            login: None,
        }
    }

    /// Logs in at `authn-cert/{service}` with the client certificate that the target must have
    /// ([`ConjurTarget::with_client_certificate`](crate::ConjurTarget::with_client_certificate)). The identity is in the certificate's
    /// SPIFFE ID, where the service's `host-mode` is `spiffe`; otherwise name it by [`with_host`](Self::with_host). Conjur Enterprise
    /// 13.8 and later.
    #[must_use]
    pub fn certificate(service: impl Into<String>) -> Self {
        Self {
            method: Method::Certificate {
                service: service.into(),
            },
            login: None,
        }
    }

    /// Uses the access tokens that a sidecar authenticator writes into a file, in JSON or base64. The file is looked at again each
    /// minute, and when its token is refused. A token is not sent once its life is over, counted from when it was first seen.
    #[must_use]
    pub fn token_file(path: impl Into<std::path::PathBuf>) -> Self {
        Self {
            method: Method::Token(Credential::file(path)),
            login: None,
        }
    }

    /// The login of a host for [`Auth::jwt`] and [`Auth::certificate`], such as `host/apps/billing`.
    #[must_use]
    pub fn with_host(mut self, login: impl Into<String>) -> Self {
        self.login = Some(login.into());
        self
    }

    pub(crate) fn check(&self, has_certificate: bool, allow_admin: bool) -> Result<(), Error> {
        let is_wrong = |text: &String| {
            text.is_empty()
                || text.len() > 1024
                || text.chars().any(char::is_control)
                || *text == "."
                || *text == ".."
        };
        if self.login.as_ref().is_some_and(is_wrong) {
            return Err(error::misconfigured(
                "the login is empty, longer than 1,024 bytes, '.' or '..', or has a control character",
            ));
        }
        // A user has two spellings.
        let user = self.login.as_deref();
        let user = user.map(|login| login.strip_prefix("user/").unwrap_or(login));
        if user == Some("admin") && !allow_admin {
            return Err(of_admin());
        }
        match &self.method {
            Method::ApiKey(key) => key.check(),
            Method::Token(token) if self.login.is_none() => token.check(),
            Method::Token(_) => Err(error::misconfigured("a token from a file has no login")),
            Method::Jwt { service, .. } | Method::Certificate { service }
                if service.contains('/') || is_wrong(service) =>
            {
                Err(error::misconfigured(
                    "the service of an authenticator is one segment, such as the last of \"authn-jwt/kubernetes\"",
                ))
            }
            Method::Certificate { .. } if !has_certificate => Err(error::misconfigured(
                "a login by certificate needs a client certificate; give one by with_client_certificate",
            )),
            Method::Jwt { .. } | Method::Certificate { .. } => Ok(()),
        }
    }

    fn name(&self) -> &'static str {
        match self.method {
            Method::ApiKey(_) => "authn",
            Method::Jwt { .. } => "authn-jwt",
            Method::Certificate { .. } => "authn-cert",
            Method::Token(_) => "token file",
        }
    }

    fn service(&self) -> Option<&str> {
        match &self.method {
            Method::Jwt { service, .. } | Method::Certificate { service } => Some(service),
            Method::ApiKey(_) | Method::Token(_) => None,
        }
    }

    /// The authenticator's part of the path, encoded.
    fn authenticator(&self) -> String {
        match self.service() {
            Some(service) => format!("{}/{}", self.name(), percent_encode(service, b"")),
            None => self.name().to_owned(),
        }
    }
}

impl Conjur {
    /// One exchange of a login: the token, or whether a JWT is to be tried again in a moment.
    async fn exchange(
        &self,
        secret: &Secret,
        endpoint: Option<usize>,
    ) -> Result<wire::Token, Refused> {
        let path = self
            .client
            .path_of_login(&self.auth.authenticator(), self.auth.login.as_deref());
        let form;
        let body = match secret {
            Secret::None | Secret::Written(_) => None,
            Secret::Bytes(key) => Some(("text/plain", &**key)),
            Secret::Jwt(jwt) => {
                form = form_of(jwt)?;
                Some(("application/x-www-form-urlencoded", &form))
            }
        };
        let reply = self.client.log_in(&path, body, endpoint).await?;
        if reply.status() == 200 {
            return Ok(wire::token(reply.body())?);
        }
        // Only an expired JWT has a text of its own.
        let is_jwt = matches!(secret, Secret::Jwt(_));
        let is_told = reply.status() == 401 && !reply.body().is_empty();
        let error = answers::error_of(Asked::Login, &path, &reply);
        let error = match is_jwt && is_told && error.kind() == ErrorKind::Unauthenticated {
            true => jwt_ended().with_status(401).with_detail(reply.place(&path)),
            false => error,
        };
        Err(Refused {
            error,
            may_be_early: reply.status() == 401 && reply.body().is_empty(),
        })
    }

    fn issued(&self, token: wire::Token) -> Issued {
        Issued {
            token: Arc::new(token.header),
            grant: Grant {
                lease: Some(token.life),
                renewable: false,
            },
            // A token lives to its end, whatever becomes of its API key.
            revocable: false,
            unfit: self.unfit(token.of_admin),
        }
    }

    /// The token says whose it is, whatever login was configured.
    fn unfit(&self, is_admin: bool) -> Option<Error> {
        (is_admin && !self.allow_admin).then(of_admin)
    }

    /// What proves to the store who asks: the certificate of the connections, or else the JWTs.
    pub(crate) fn identity_status(&self) -> Option<IdentityStatus> {
        let of_jwts = || match &self.auth.method {
            Method::Jwt { source, .. } => source.status(),
            Method::ApiKey(_) | Method::Certificate { .. } | Method::Token(_) => None,
        };
        let client = self.client.endpoints().client();
        client.identity_status().or_else(of_jwts)
    }

    /// Whether a refusal of this JWT is the first.
    fn is_new(&self, jwt: &Jwt) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref() != Some(jwt)
    }

    /// It is not tried twice again, and its source may get another sooner.
    fn given_up(&self, jwt: &Jwt, error: Error) -> Error {
        if error.kind() == ErrorKind::Unauthenticated {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = Some(jwt.clone());
            if let Method::Jwt { source, .. } = &self.auth.method {
                foreign(|| source.refused(jwt));
            }
        }
        error
    }
}

struct Refused {
    error: Error,
    may_be_early: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            may_be_early: false,
        }
    }
}

/// `jwt=…`: three parts of base64url and two dots, which stand in a form as they are.
fn form_of(jwt: &Jwt) -> Result<SecretBuf, Error> {
    let (name, text) = (b"jwt=", jwt.secret().expose());
    let mut form = SecretBuf::with_capacity(name.len() + text.len())?;
    form.push(name)?;
    form.push(text)?;
    Ok(form)
}

impl Store for Conjur {
    const NAME: &'static str = error::BACKEND;
    type Credentials = Loaded;

    fn method(&self) -> &'static str {
        self.auth.name()
    }

    fn issues_tokens(&self) -> bool {
        !matches!(self.auth.method, Method::Token(_))
    }

    /// Conjur counts no refused logins.
    fn may_lock_out(&self, _: &Error) -> bool {
        false
    }

    fn endpoints(&self) -> usize {
        self.client.endpoints().origins().len()
    }

    fn endpoint(&self) -> usize {
        self.client.endpoints().current()
    }

    async fn load(&self) -> Result<Loaded, Error> {
        let client = self.client.endpoints().client();
        client.look_again().await;
        let secret = match &self.auth.method {
            Method::ApiKey(key) => Secret::Bytes(key.load().await?),
            Method::Token(file) => Secret::Written(self.seen.load(file, &*self.clock).await?),
            Method::Jwt { source, .. } => Secret::Jwt(source.jwt().await?),
            Method::Certificate { .. } => Secret::None,
        };
        Ok(Loaded {
            secret,
            certificate: client.certificate(),
        })
    }

    async fn login(
        &self,
        loaded: &Loaded,
        endpoint: Option<usize>,
        waiting: &Waiting,
    ) -> Result<Issued, Error> {
        if let (Method::Token(file), Secret::Written(token)) = (&self.auth.method, &loaded.secret) {
            let issued = token.issued(file)?;
            let unfit = self.unfit(token.of_admin());
            return Ok(Issued { unfit, ..issued });
        }
        let refused = match self.exchange(&loaded.secret, endpoint).await {
            Ok(token) => return Ok(self.issued(token)),
            Err(refused) => refused,
        };
        let Secret::Jwt(jwt) = &loaded.secret else {
            return Err(refused.error);
        };
        if !refused.may_be_early || !self.is_new(jwt) {
            return Err(self.given_up(jwt, refused.error));
        }
        // A read that has no time for that is to try again.
        let early = refused.error.held_back();
        let pause = self.clock.sleep_until(self.clock.now() + AHEAD);
        waiting.wait(&*self.clock, early, pause).await;
        let again = self.exchange(&loaded.secret, endpoint).await;
        again
            .map(|token| self.issued(token))
            .map_err(|refused| self.given_up(jwt, refused.error))
    }

    async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> {
        Err(error::misconfigured(
            "tokens of this store cannot be renewed",
        ))
    }

    async fn revoke(&self, _: &SecretBuf, _: Option<usize>) -> Result<(), Error> {
        Err(error::misconfigured(
            "tokens of this store cannot be revoked",
        ))
    }

    async fn knows(&self, token: &SecretBuf, endpoint: Option<usize>) -> Result<bool, Error> {
        let reply = self.client.whoami(token, endpoint).await?;
        match reply.status() {
            200 if wire::is_identity(reply.body()) => Ok(true),
            _ if answers::is_refusal(&reply) => Ok(false),
            _ => Err(answers::error_of(Asked::Whoami, "/whoami", &reply)),
        }
    }

    fn ends(&self, loaded: &Loaded) -> Option<secret_resolver::Moment> {
        match &loaded.secret {
            Secret::Jwt(jwt) => jwt.ends(),
            Secret::Written(token) => Some(token.ends(self.clock.now())),
            Secret::None | Secret::Bytes(_) => None,
        }
    }

    fn certificate(&self) -> u64 {
        match self.auth.method {
            Method::Certificate { .. } => self.client.endpoints().client().certificate(),
            _ => 0,
        }
    }
}

fn jwt_ended() -> Error {
    error::new(
        ErrorKind::Unauthenticated,
        "the JWT has ended; does whatever renews it still run?",
    )
}

fn of_admin() -> Error {
    error::misconfigured(
        "the login is the administrator's, whose token may do anything; make a host that may only read, or allow it by dangerous_allow_admin",
    )
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("method", &self.name())
            .field("service", &self.service())
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}
