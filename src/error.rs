//! The one error of every resolver, and what each of its kinds permits.
//!
//! An error is made of fixed text, of facts about the configuration and of a name that has been
//! parsed. It never holds secret bytes, tokens, bodies, headers, URLs with a query or input that
//! was rejected, and it has no `source`: what a foreign library says may quote any of these.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{NameRef, SecretName};

/// Why a secret was not answered. One word wide and cheap to clone: all waiters of one fetch
/// share it.
///
/// ```
/// use secret_resolver::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Denied, "the policy gives no read on this path")
///     .with_backend("vault");
/// assert_eq!(error.kind(), ErrorKind::Denied);
/// assert_eq!(
///     error.to_string(),
///     "denied by vault: the policy gives no read on this path"
/// );
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    what: &'static str,
    detail: Option<Box<str>>,
    backend: Option<&'static str>,
    name: Option<SecretName>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    held_back: bool,
    not_sent: bool,
    endpoint: Option<usize>,
}

/// What went wrong, as far as a caller or a layer can act on it.
///
/// [`ErrorKind::permits`] is the one table of what each kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store could not be reached or cannot serve now: connect failed, 5xx, sealed, no leader.
    /// It may be back soon: retry, or act on the policy.
    Unavailable,
    /// Nothing, or not all of it, came in time after the request was sent; or the caller's
    /// deadline passed. Retry with a fresh deadline.
    Timeout,
    /// The store's own limit; [`Error::retry_after`] has its delay where it gave one. Ask less.
    Throttled,
    /// A queue, a cap or the memory of this process is full. Shed load or raise the bound.
    Overloaded,
    /// The store has no such secret, version or field. Check the name, or create the secret.
    NotFound,
    /// The store knows this identity and it may not read this. Change the store's policy.
    Denied,
    /// The login was refused, lately or now, or its credential is missing. Check the credential.
    Unauthenticated,
    /// The answer is not what the protocol says. Check what is listening at the endpoint.
    Malformed,
    /// Stopped by this library's policy: a wrong certificate or host name, a redirect, a host
    /// that is not on the list, a version that was rolled back. Treat it as an attack first. Also
    /// the answer to a forked child, which must build its own resolver.
    Refused,
    /// The name breaks the grammar of [`SecretName`]. Correct the caller.
    InvalidName,
    /// The configuration cannot work. Correct it; no retry will help.
    Misconfigured,
    /// The resolver was shut down. Build a new one, or stop asking.
    Closed,
}

/// What a kind of error permits: a row of the table that retries, breakers and the policy share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permits {
    /// Whether, and when, another attempt makes sense.
    pub retry: Repeat,
    /// Whether the attempt counts against the health of its endpoint.
    pub counts_for_breaker: bool,
    /// Whether a policy that allows stale values may apply.
    pub stale: bool,
    /// Whether a policy that names a fallback may apply.
    pub fallback: bool,
}

/// Whether an error is worth another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// The same endpoint would give the same answer again. Another may be asked, where there is one.
    Never,
    /// At once or after a back-off, at another endpoint where there is one.
    Yes,
    /// Not before the delay that the store asked for.
    AfterDelay,
}

impl Error {
    /// An error of `kind`, explained by fixed text: one lower-case line that says what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self(Arc::new(Inner {
            kind,
            what,
            detail: None,
            backend: None,
            name: None,
            status: None,
            retry_after: None,
            held_back: false,
            not_sent: false,
            endpoint: None,
        }))
    }

    /// Adds a fact of the configuration: an origin, a file's path, a variable's name.
    ///
    /// # Security
    /// Never pass what a server, a caller or a parser said: it may quote a secret.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Box<str>>) -> Self {
        self.edit(|inner| inner.detail = Some(detail.into()))
    }

    /// Names the backend that answered, such as `vault`.
    #[must_use]
    pub fn with_backend(self, backend: &'static str) -> Self {
        self.edit(|inner| inner.backend = Some(backend))
    }

    /// Names the secret that was asked for.
    #[must_use]
    pub fn with_name(self, name: NameRef<'_>) -> Self {
        self.edit(|inner| inner.name = Some(name.to_owned()))
    }

    /// Adds the status code of an HTTP answer.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        self.edit(|inner| inner.status = Some(status))
    }

    /// Adds the delay that the store asked for.
    #[must_use]
    pub fn with_retry_after(self, delay: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(delay))
    }

    /// What it says to do, without the name and the facts.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.0.what
    }

    /// The kind, on which a caller decides.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The backend that answered, if one did.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// The name that was asked for, if it was a valid one.
    #[must_use]
    pub fn name(&self) -> Option<&SecretName> {
        self.0.name.as_ref()
    }

    /// The status code of the store's answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The fact of the configuration that it is about, if there is one.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    pub(crate) fn without_detail(self) -> Self {
        self.edit(|inner| inner.detail = None)
    }

    /// The delay that the store asked for before another attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the cause is a bound of this process and not an answer of a store: it passes.
    pub(crate) fn is_our_own_overload(&self) -> bool {
        self.kind() == ErrorKind::Overloaded && self.backend().is_none()
    }

    /// Notes that this process has decided it on its own: the store is being left alone or has not said in
    /// time what we have to know, a login is held back, a credential is missing, or our own bounds came
    /// between. It says nothing about the store, is not tried again at once unless its [`retry_after`](Self::retry_after) is zero or it was [not sent](Self::not_sent), and is
    /// waited for by [`require_within`](crate::Resolver::require_within).
    #[must_use]
    pub fn held_back(self) -> Self {
        self.edit(|inner| inner.held_back = true)
    }

    /// [Held back](Self::held_back), and the time of the read went by while it waited for something of this process, such as the credential
    /// of its login. Another attempt is made where attempts and half a second are left, and takes nothing from the budget for retries. Not
    /// for what fails sooner: the wait alone keeps such attempts few.
    #[must_use]
    pub fn not_sent(self) -> Self {
        self.edit(|inner| inner.not_sent = true).held_back()
    }

    pub(crate) fn was_not_sent(&self) -> bool {
        self.0.not_sent
    }

    /// The same, as the error of a source of credentials, which was asked before the store. It is
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) and [held back](Self::held_back), where its kind would otherwise be taken for a store's
    /// word: an outage of a store permits a stale value or a fallback, and a source's does not.
    /// [`Refused`](ErrorKind::Refused) is held back and stays; [`Misconfigured`](ErrorKind::Misconfigured),
    /// [`Overloaded`](ErrorKind::Overloaded) and [`Closed`](ErrorKind::Closed) mean the same of a source, and stay as they are. None asks for
    /// another attempt at once.
    ///
    /// ```
    /// use secret_resolver::{Error, ErrorKind};
    ///
    /// let away = Error::new(ErrorKind::Unavailable, "the agent is away; does it run?");
    /// assert_eq!(away.of_credential().kind(), ErrorKind::Unauthenticated);
    /// ```
    #[must_use]
    pub fn of_credential(self) -> Self {
        use ErrorKind::{Closed, Misconfigured, Overloaded, Refused};
        // When to try again is for the session to say.
        let same = self.edit(|inner| {
            inner.not_sent = false;
            inner.retry_after = inner.retry_after.filter(|after| !after.is_zero());
        });
        match same.kind() {
            Refused => return same.held_back(),
            Misconfigured | Overloaded | Closed => return same,
            _ => {}
        }
        let same = same.edit(|inner| {
            inner.kind = ErrorKind::Unauthenticated;
            let unsaid = "from the source of the credential; the store was not asked";
            inner.detail.get_or_insert_with(|| unsaid.into());
        });
        same.held_back()
    }

    /// Whether this process has decided it on its own.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.0.held_back
    }

    /// Notes which endpoint was asked.
    pub(crate) fn at_endpoint(self, endpoint: usize) -> Self {
        self.edit(|inner| inner.endpoint = Some(endpoint))
    }

    /// The endpoint that was asked; `None` when none was.
    pub(crate) fn endpoint(&self) -> Option<usize> {
        self.0.endpoint
    }

    fn edit(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut shared = self.0;
        change(Arc::make_mut(&mut shared));
        Self(shared)
    }
}

impl ErrorKind {
    /// What a layer may do after an error of this kind.
    #[must_use]
    pub const fn permits(self) -> Permits {
        let (retry, counts_for_breaker, stale, fallback) = match self {
            Self::Unavailable | Self::Timeout => (Repeat::Yes, true, true, true),
            Self::Throttled => (Repeat::AfterDelay, false, true, false),
            Self::Overloaded
            | Self::NotFound
            | Self::Denied
            | Self::Unauthenticated
            | Self::Malformed
            | Self::Refused
            | Self::InvalidName
            | Self::Misconfigured
            | Self::Closed => (Repeat::Never, false, false, false),
        };
        Permits {
            retry,
            counts_for_breaker,
            stale,
            fallback,
        }
    }

    /// Whether it says that we cannot read at all: no login, a server that is not believed, a setup that is
    /// wrong. What a store says about one secret has another kind.
    pub(crate) const fn is_of_access(self) -> bool {
        matches!(
            self,
            Self::Unauthenticated | Self::Refused | Self::Misconfigured
        )
    }

    /// Whether it is the store's own word about the secret: that it is not there, or not ours.
    pub(crate) const fn is_of_the_secret(self) -> bool {
        matches!(self, Self::NotFound | Self::Denied)
    }

    /// Every kind there is, for tests that must cover the whole table.
    pub const ALL: [Self; 12] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Throttled,
        Self::Overloaded,
        Self::NotFound,
        Self::Denied,
        Self::Unauthenticated,
        Self::Malformed,
        Self::Refused,
        Self::InvalidName,
        Self::Misconfigured,
        Self::Closed,
    ];

    /// The kind in words, as it stands in messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::NotFound => "not found",
            Self::Denied => "denied",
            Self::Unauthenticated => "not authenticated",
            Self::Malformed => "malformed answer",
            Self::Refused => "refused",
            Self::InvalidName => "invalid name",
            Self::Misconfigured => "misconfigured",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(inner.kind.as_str())?;
        if let Some(name) = &inner.name {
            write!(f, ": {name}")?;
        }
        if let Some(backend) = inner.backend {
            write!(f, " by {backend}")?;
        }
        write!(f, ": {}", inner.what)?;
        match (inner.status, &inner.detail) {
            (Some(status), Some(detail)) => write!(f, " (status {status}, {detail})"),
            (Some(status), None) => write!(f, " (status {status})"),
            (None, Some(detail)) => write!(f, " ({detail})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The display text holds nothing but allowed facts, so the debug text is built from it.
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {}

/// For conversions that cannot fail, where a fallible one is wanted.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn only_an_outage_permits_a_fallback_and_only_what_may_pass_permits_stale() {
        use ErrorKind::{Throttled, Timeout, Unavailable};
        for kind in ErrorKind::ALL {
            let permits = kind.permits();
            let outage = matches!(kind, Unavailable | Timeout);
            assert_eq!(permits.fallback, outage, "{kind:?}");
            assert_eq!(permits.counts_for_breaker, outage, "{kind:?}");
            assert_eq!(permits.stale, outage || kind == Throttled, "{kind:?}");
            let retry = match kind {
                Unavailable | Timeout => Repeat::Yes,
                Throttled => Repeat::AfterDelay,
                _ => Repeat::Never,
            };
            assert_eq!(permits.retry, retry, "{kind:?}");
        }
    }

    #[test]
    fn an_error_shows_its_facts_in_one_line() {
        let error = Error::new(ErrorKind::Throttled, "slow down")
            .with_backend("vault")
            .with_name(NameRef::parse("prod/db#password").unwrap())
            .with_status(429)
            .with_detail("https://bao.example:8200")
            .with_retry_after(Duration::from_secs(2));
        assert_eq!(
            error.to_string(),
            "throttled: prod/db#password by vault: slow down (status 429, https://bao.example:8200)"
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    }
}
