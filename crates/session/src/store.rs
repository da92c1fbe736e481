//! What a store does differently from others: the seam between a backend and its session.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use secret_resolver::{Error, Moment, SecretBuf};

use crate::waiting::Waiting;

/// A store that gives a token for credentials.
///
/// What its methods answer decides what the session does:
/// - [`ErrorKind::Unavailable`](secret_resolver::ErrorKind::Unavailable) and
///   [`Timeout`](secret_resolver::ErrorKind::Timeout) say nothing about a credential or a token. Nothing
///   is held back and no token is given up.
/// - A refusal (`Unauthenticated`, `Denied`, `Misconfigured`) is the store's own word. Where
///   there is another endpoint it is asked, too; then the next login with the same credentials waits,
///   longer each time, and for 16 to 20 minutes where the store [may lock the identity out](Store::may_lock_out).
/// - `Throttled`, and any other error, such as an answer that is not the store's, lets each other endpoint be
///   asked. When none takes the login, the first holds logins back as a refusal does, the others for a second.
pub trait Store: Send + Sync + 'static {
    /// The name that log lines carry.
    const NAME: &'static str;

    /// What a login is made with, as it was at one moment. A credential that has changed ends a
    /// back-off.
    type Credentials: PartialEq + Send + Sync + 'static;

    /// The name of the login method, for log lines.
    fn method(&self) -> &'static str;

    /// Whether a login issues a token, which is then ours to revoke. `false` where the credential is
    /// the token.
    fn issues_tokens(&self) -> bool;

    /// Whether the store may count this refusal of a login towards a lockout: after some, it refuses the identity for
    /// a while, for every caller. After three such refusals no other login with the same credentials is sent for 16 to
    /// 20 minutes. By default each refusal counts where logins issue tokens.
    fn may_lock_out(&self, refusal: &Error) -> bool {
        use secret_resolver::ErrorKind::{Denied, Unauthenticated};
        self.issues_tokens() && matches!(refusal.kind(), Denied | Unauthenticated)
    }

    /// How many endpoints it has.
    fn endpoints(&self) -> usize;

    /// The one in use. A request goes there if no endpoint is named for it.
    fn endpoint(&self) -> usize;

    /// The credentials as they are now.
    fn load(&self) -> impl Future<Output = Result<Self::Credentials, Error>> + Send;

    /// When these credentials end, if that is known. From then on they are not sent, and the token that they gave
    /// is not used; it is replaced before. By default never.
    fn ends(&self, _credentials: &Self::Credentials) -> Option<Moment> {
        None
    }

    /// The number of the client certificate that vouches for a login; it changes with the certificate. A token of
    /// another number is not renewed: it is replaced by a login with the next request, and used meanwhile. By
    /// default always 0: no certificate vouches for tokens.
    fn certificate(&self) -> u64 {
        0
    }

    /// A token for credentials, asked for at `endpoint`, or at the one in use. Where it waits for something other than an answer, it
    /// [says so](Waiting::wait): that says nothing about the store's health.
    fn login(
        &self,
        credentials: &Self::Credentials,
        endpoint: Option<usize>,
        waiting: &Waiting,
    ) -> impl Future<Output = Result<Issued, Error>> + Send;

    /// Lengthens the life of a token whose [`Grant`] is renewable. Its login was vouched for by the
    /// [`certificate`](Store::certificate) of this number: with another one nothing may be sent, and the answer is
    /// [`Refused`](secret_resolver::ErrorKind::Refused).
    fn renew(
        &self,
        token: &SecretBuf,
        certificate: u64,
    ) -> impl Future<Output = Result<Grant, Error>> + Send;

    /// Ends a token, asked for at `endpoint`, or at the one in use. `Unauthenticated` says that the store
    /// does not know it, or does not let it end itself.
    fn revoke(
        &self,
        token: &SecretBuf,
        endpoint: Option<usize>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Whether the store knows the token, asked at `endpoint`, or at the one in use. `false` only where the
    /// store itself says so, for a dead token or one that may not ask; any other answer is an error.
    fn knows(
        &self,
        token: &SecretBuf,
        endpoint: Option<usize>,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// What a login gives.
pub struct Issued {
    /// The token.
    pub token: Arc<SecretBuf>,
    /// How long it lives.
    pub grant: Grant,
    /// Whether the store can end it before that. It has no meaning where the credential is the token, which is
    /// never revoked.
    pub revocable: bool,
    /// Why it may not be used; it is revoked at once, if it can be, and this error is the answer. A token that was
    /// given is not looked at again for an hour.
    pub unfit: Option<Error>,
}

/// How long the store lets a token live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Counted from the request; `None` for ever, as a root token does.
    pub lease: Option<Duration>,
    /// Whether the store may lengthen it.
    pub renewable: bool,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("grant", &self.grant)
            .field("revocable", &self.revocable)
            .field("unfit", &self.unfit)
            .finish_non_exhaustive()
    }
}
