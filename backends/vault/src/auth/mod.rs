//! How the backend authenticates to the store: what a login is for Vault.
//!
//! `approle`, `cert`, `jwt` and `token` turn credentials into a token; the life of that token is the session's
//! (`secret-resolver-session`), which asks `store` for what is Vault's own.

mod approle;
mod cert;
mod jwt;
mod store;
mod token;

pub(crate) use store::Vault;

use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, SecretBuf};
use secret_resolver_session::{Credential, JwtSource};
use secret_resolver_transport as transport;

use crate::answers::{self, Asked, By};
use crate::client::{Ask, Client};
use crate::error;
use crate::inline::Inline;
use crate::path::{self, checked};
use crate::wire;

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
    role: Option<String>,
}

#[derive(Clone)]
enum Method {
    AppRole {
        role_id: Credential,
        secret_id: Credential,
    },
    Cert,
    Jwt(Arc<dyn JwtSource>),
    /// Nothing is logged in before: the JWT is the token.
    Inline(Arc<dyn JwtSource>),
    Kubernetes(Arc<dyn JwtSource>),
    Token(Credential),
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
    ///
    /// # Lockout
    /// By default OpenBao and Vault lock a role id out after five logins with a wrong secret id, each within 15 minutes
    /// of the one before. Then every service that has this role id is refused for 15 minutes, right secret id or not. So
    /// after three such refusals a backend sends the same ids again only after 16 to 20 minutes. A change in a file
    /// of theirs is tried at once, and counts. What the store counts, it counts over all processes: two that have a
    /// wrong secret id, or one that is restarted again and again, can still lock the role out. The store's
    /// `user_lockout` settings make it stricter, or end it. A role that was put right at the store, with the same ids, is
    /// found after that time, or by a new process.
    #[must_use]
    pub fn approle(role_id: Credential, secret_id: Credential) -> Self {
        Self::by(Method::AppRole { role_id, secret_id })
    }

    /// Logs in at `auth/jwt/login` with a JWT of `source` and this role, which says what the JWT must hold.
    ///
    /// The source is asked at each login, and another JWT ends a back-off. A JWT whose end is known is not sent
    /// after it, and no token that it gave is used past it. The tokens are the backend's own, as those of
    /// [`Auth::approle`] are, with the same demands on the role.
    ///
    /// The role must say whose JWT it takes: without `bound_subject`, or `bound_claims`, it takes everyone's who has the same issuer and
    /// audience. Its `bound_audiences` must hold an audience of the JWT (`aud`), and the mount's
    /// `jwt_supported_algs`, where it is set, the algorithm.
    ///
    /// ```
    /// use secret_resolver_vault::{Auth, JwtFile};
    ///
    /// let auth = Auth::jwt("billing", JwtFile::new("/run/tokens/bao.jwt")).with_mount("ci/jwt");
    /// ```
    #[must_use]
    pub fn jwt(role: impl Into<String>, source: impl JwtSource) -> Self {
        Self::by(Method::Jwt(Arc::new(source))).with_role(role)
    }

    /// As [`Auth::jwt`], without a token: the JWT goes with each read, which logs in by it (OpenBao's inline authentication, 2.4 and
    /// later). The store keeps nothing, so there is no token to copy, to renew or to revoke, and a read needs no leader for a login.
    ///
    /// The role needs the policy `default`, and a `token_num_uses` of 0: with another OpenBao 2.7.2 answers a 500, which looks like an
    /// outage. A JWT may have as many bytes as a header of the store takes; one of 11 KB was taken.
    ///
    /// Each read costs the store a login, so it is for few reads, or for a service that shall leave no token behind. The
    /// JWT is tried before it is used, by a request that the policy `default` allows (`sys/tools/hash`), and again when the source has another.
    /// What is refused is held back as other logins are. While there are reads, the source is asked again every ten seconds at the latest, and
    /// the JWT tried again. A JWT whose end is known is not sent after it.
    ///
    /// What the identity may do cannot be asked in this way, so a start that demands least privilege
    /// ([`ResolverBuilder::require_least_privilege`](secret_resolver::ResolverBuilder::require_least_privilege)) fails.
    ///
    /// Vault does not have it: `build()` cannot see that, and each read is refused as
    /// [`ErrorKind::Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated).
    ///
    /// ```
    /// use secret_resolver_vault::{Auth, JwtFile};
    ///
    /// let auth = Auth::inline_jwt("billing", JwtFile::new("/run/tokens/bao.jwt"));
    /// ```
    ///
    /// # Security
    /// The JWT stands in a header of each request, where that of a login stands in its body: a proxy before the store that logs headers
    /// logs it. Heads of requests stay in buffers of connections, which nobody wipes: eight copies stood there after a burst of reads.
    #[must_use]
    pub fn inline_jwt(role: impl Into<String>, source: impl JwtSource) -> Self {
        Self::by(Method::Inline(Arc::new(source))).with_role(role)
    }

    /// As [`Auth::jwt`], at `auth/kubernetes/login`: the store asks the Kubernetes API about the JWT. The source
    /// is [`JwtFile::service_account`](secret_resolver_session::JwtFile::service_account) as a rule, or the file of a
    /// projected token with an audience of its own.
    ///
    /// OpenBao 2.7.2 answers a 403 also when it cannot reach that API: it is taken for a refusal, and logins are held
    /// back for up to 30 s.
    ///
    /// ```
    /// use secret_resolver_vault::{Auth, JwtFile};
    ///
    /// let auth = Auth::kubernetes("billing", JwtFile::service_account());
    /// ```
    #[must_use]
    pub fn kubernetes(role: impl Into<String>, source: impl JwtSource) -> Self {
        Self::by(Method::Kubernetes(Arc::new(source))).with_role(role)
    }

    /// Logs in at `auth/cert/login` with the client certificate that the target must have
    /// ([`VaultTarget::with_client_certificate`](crate::VaultTarget::with_client_certificate)), and with the role that
    /// [`Auth::with_role`] names, or the first that takes the certificate.
    ///
    /// The tokens are the backend's own, as those of [`Auth::approle`] are, with the same demands on the role. When
    /// the certificate becomes another, the next request begins a new login; the token is used meanwhile and never
    /// renewed with the new certificate, for which OpenBao answers a 500. The certificate needs a common name.
    ///
    /// # Security
    /// OpenBao does not bind the token to the certificate. The listener's
    /// `tls_require_and_verify_client_cert` alone makes a copied token worth nothing without one.
    ///
    /// ```no_run
    /// use secret_resolver_vault::{Auth, CertificateFiles, VaultTarget};
    ///
    /// let certificate = CertificateFiles::new("/run/tls/tls.crt", "/run/tls/tls.key")?;
    /// let auth = Auth::cert().with_role("billing");
    /// let target = VaultTarget::new("https://bao.internal:8200", "/etc/app/bao-ca.pem", auth)
    ///     .with_client_certificate(certificate);
    /// # Ok::<(), secret_resolver::Error>(())
    /// ```
    #[must_use]
    pub fn cert() -> Self {
        Self::by(Method::Cert)
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
        Self::by(Method::Token(token))
    }

    fn by(method: Method) -> Self {
        Self {
            method,
            mount: None,
            role: None,
        }
    }

    /// The role of the store to log in with, for a certificate or a JWT. Other logins have none: with one, `build()`
    /// is [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured).
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Where the login method is mounted, below `auth/`; by default `approle`, `cert`, `jwt` or `kubernetes`, as
    /// the method is called. A plain token has no mount: with one, `build()` is
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured).
    #[must_use]
    pub fn with_mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = Some(mount.into());
        self
    }

    /// Refuses what no login could use; `with_certificate` says that the target has a client certificate.
    pub(crate) fn check(&self, with_certificate: bool) -> Result<(), Error> {
        let mount = self
            .mount
            .as_deref()
            .map(|mount| checked(mount, "auth mount"))
            .transpose()?;
        if self.role.as_deref() == Some("") {
            return Err(error::misconfigured(
                "the name of the login's role is empty",
            ));
        }
        match (&self.method, mount) {
            (Method::AppRole { .. } | Method::Token(_), _) if self.role.is_some() => Err(
                error::misconfigured("a login by AppRole or with a plain token names no role"),
            ),
            (Method::Token(_), Some(_)) => {
                Err(error::misconfigured("a plain token has no auth mount"))
            }
            (Method::Token(token), None) => {
                token.check()?;
                match token.given() {
                    Some(given) if !token::is_one(given) => Err(error::misconfigured(
                        "the token has a blank, or a character that no token has",
                    )),
                    _ => Ok(()),
                }
            }
            (Method::AppRole { role_id, secret_id }, _) => {
                role_id.check().and_then(|()| secret_id.check())
            }
            (Method::Cert, _) if !with_certificate => Err(error::misconfigured(
                "a login by certificate needs a client certificate; give the target one by with_client_certificate",
            )),
            (Method::Cert | Method::Jwt(_) | Method::Inline(_) | Method::Kubernetes(_), _) => {
                Ok(())
            }
        }
    }

    /// What it is called, and where it is mounted by default.
    fn name(&self) -> &'static str {
        match self.method {
            Method::AppRole { .. } => "approle",
            Method::Cert => "cert",
            Method::Jwt(_) | Method::Inline(_) => "jwt",
            Method::Kubernetes(_) => "kubernetes",
            Method::Token(_) => "token",
        }
    }

    /// How each request logs in, where there is no login before it.
    pub(crate) fn inline(&self) -> Result<Option<Inline>, Error> {
        let inline = || Inline::new(self.mount_name(), self.role.as_deref().unwrap_or_default());
        match self.method {
            Method::Inline(_) => inline().map(Some),
            _ => Ok(None),
        }
    }

    /// As policies name it.
    fn mount_name(&self) -> &str {
        self.mount.as_deref().unwrap_or(self.name())
    }

    /// Encoded.
    fn mount(&self) -> String {
        path::encode(self.mount_name())
    }
}

/// A login at `/v1/auth/{mount}/login`.
struct Login<'a> {
    by: By,
    mount: &'a str,
    /// JSON.
    body: SecretBuf,
}

impl Login<'_> {
    async fn send(self, client: &Client, endpoint: Option<usize>) -> Result<wire::Login, Error> {
        let target = format!("/v1/auth/{}/login", self.mount);
        let reply = client
            .send(Ask {
                body: Some(&self.body),
                endpoint,
                ..Ask::new(transport::Method::Post, &target)
            })
            .await?;
        match reply.status() {
            200 => {
                wire::login(reply.body()).map_err(|error| answers::at_place(error, &target, &reply))
            }
            _ => Err(answers::error_of(Asked::Login(self.by), &target, &reply)),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("method", &self.name())
            .field("mount", &self.mount)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
