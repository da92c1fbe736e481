//! The identity: what is set on it, and how it is now.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use secret_resolver::backend::{Process, SystemClock};
use secret_resolver::{Clock, Error, IdentityStatus};
use secret_resolver_transport::Trust;
use spiffe::SpiffeId;

use crate::certificates::SpiffeCertificates;
use crate::error;
use crate::guard::Guard;
use crate::jwt::SpiffeJwts;
use crate::server;
use crate::stream::Stream;
use crate::worker::Worker;

/// The identity of this process, as an agent on this machine gives it by the SPIFFE Workload API. A clone shares it.
///
/// It is for the process in which it was built: in a forked child, each of its sources answers
/// [`Refused`](secret_resolver::ErrorKind::Refused). Build it after the fork.
///
/// `Debug` shows the SPIFFE ID and the socket.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_spiffe::SpiffeIdentity;
///
/// let wrong = SpiffeIdentity::builder("spiffe://example.org", "/run/spire/agent/api.sock");
/// assert_eq!(wrong.build().unwrap_err().kind(), ErrorKind::Misconfigured);
/// ```
#[derive(Clone)]
pub struct SpiffeIdentity(Arc<Inner>);

/// Builds a [`SpiffeIdentity`]; from [`SpiffeIdentity::builder`].
pub struct SpiffeIdentityBuilder {
    id: String,
    socket: PathBuf,
    agent: Option<u32>,
    sticky: Vec<PathBuf>,
    clock: Option<Arc<dyn Clock>>,
}

pub(crate) struct Inner {
    pub(crate) id: SpiffeId,
    pub(crate) guard: Guard,
    pub(crate) clock: Arc<dyn Clock>,
    /// How often the agent has said that there is no such identity.
    withdrawals: AtomicU64,
    /// The stream of X509-SVIDs, which begins with the first that wants to know.
    stream: Mutex<Weak<Stream>>,
    worker: Mutex<Weak<Worker>>,
    process: Process,
}

impl SpiffeIdentity {
    /// The identity with this SPIFFE ID, `spiffe://trust.domain/path`, from the agent's socket at this absolute path.
    pub fn builder(id: impl Into<String>, socket: impl Into<PathBuf>) -> SpiffeIdentityBuilder {
        SpiffeIdentityBuilder {
            id: id.into(),
            socket: socket.into(),
            agent: None,
            sticky: Vec::new(),
            clock: None,
        }
    }

    /// JWT-SVIDs for this audience alone, for the logins of one store. One is used again for half of the life that it has left.
    ///
    /// The agent is asked on a thread of this identity's own, which ends with the last of its sources.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for an empty audience;
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the thread cannot be started.
    pub fn jwts(&self, audience: impl Into<String>) -> Result<SpiffeJwts, Error> {
        SpiffeJwts::new(Arc::clone(&self.0), audience.into())
    }

    /// The X509-SVID as a client certificate. The agent is asked from the first call on, on the same thread.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the thread cannot be started.
    pub fn certificates(&self) -> Result<SpiffeCertificates, Error> {
        Ok(SpiffeCertificates::new(self.stream()?))
    }

    /// Trust in one server alone: the one whose certificate is an SVID with exactly this SPIFFE ID, signed by an authority that the agent
    /// gives for the trust domain of that ID, be it this workload's or one that its entry federates with. It is for a store that has an
    /// SVID of its own in place of a certificate for its host; give it to the target instead of a file of authorities.
    ///
    /// The agent says each change of the authorities by itself; connections that were made with those before are closed. Until it has given
    /// some, and once it gives this workload no identity any more, no connection is made. While it is away, the last ones are believed.
    ///
    /// ```no_run
    /// # use secret_resolver_spiffe::SpiffeIdentity;
    /// # fn backend(_: secret_resolver_transport::Trust) {}
    /// let identity = SpiffeIdentity::builder("spiffe://example.org/billing", "/run/spire/agent/api.sock").build()?;
    /// backend(identity.trust("spiffe://example.org/openbao")?);
    /// # Ok::<(), secret_resolver::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for what is no SPIFFE ID of a workload.
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the thread for the agent's messages cannot be started.
    ///
    /// # Security
    /// Any process that gets this SPIFFE ID from the trust domain's server is taken for the store. The name of the store's host is not looked at.
    pub fn trust(&self, server: &str) -> Result<Trust, Error> {
        server::trust(server, self.stream()?)
    }

    /// The stream of what the agent says of certificates, which is shared.
    fn stream(&self) -> Result<Arc<Stream>, Error> {
        self.0.check_process()?;
        let mut stream = lock(&self.0.stream);
        if let Some(running) = stream.upgrade() {
            return Ok(running);
        }
        let running = Stream::start(Arc::clone(&self.0), self.0.worker()?);
        *stream = Arc::downgrade(&running);
        Ok(running)
    }

    /// How it is now, as far as X509-SVIDs go: its end is that of the one that is shown. Nothing is known while nobody has asked for
    /// [`certificates`](Self::certificates) or [`trust`](Self::trust). All moments are on the identity's clock.
    #[must_use]
    pub fn status(&self) -> IdentityStatus {
        let is_here = self.0.check_process().is_ok();
        let stream = is_here.then(|| lock(&self.0.stream).upgrade()).flatten();
        stream.map_or_else(
            || IdentityStatus::new(self.0.id.to_string()),
            |stream| stream.status(),
        )
    }
}

impl Inner {
    /// In a forked child there is no thread that hears the agent. It comes before any lock, which that thread may have held.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        match self.process.is_this() {
            true => Ok(()),
            false => Err(error::forked().with_detail(self.id.to_string())),
        }
    }

    /// The thread of this identity, which all of its sources share.
    pub(crate) fn worker(&self) -> Result<Arc<Worker>, Error> {
        self.check_process()?;
        let mut worker = lock(&self.worker);
        if let Some(running) = worker.upgrade() {
            return Ok(running);
        }
        let running = Worker::start()?;
        *worker = Arc::downgrade(&running);
        Ok(running)
    }

    /// The agent has said that there is no such identity: what it gave before, of any kind, is used no more.
    pub(crate) fn withdrawn(&self) {
        self.withdrawals.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Acquire)
    }
}

impl SpiffeIdentityBuilder {
    /// The agent's user, beside root: the owner of its socket and of the folders above it, and of the process that listens.
    #[must_use]
    pub fn with_agent_uid(mut self, uid: u32) -> Self {
        self.agent = Some(uid);
        self
    }

    /// Allows this folder above the socket although everyone may add files to it, as to `/tmp`. Other users cannot replace a file
    /// there, but the first to make the agent's folder owns it.
    #[must_use]
    pub fn with_sticky_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sticky.push(folder.into());
        self
    }

    /// Another clock. By default the one that the resolvers and the backends of the process share.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Checks the SPIFFE ID and the form of the path. The agent is not asked yet, and need not run.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for what is no SPIFFE ID of a workload, or no absolute
    /// path; [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the clock's thread cannot be started.
    pub fn build(self) -> Result<SpiffeIdentity, Error> {
        let id = workload_id(&self.id)?;
        let clock = match self.clock {
            Some(clock) => clock,
            None => Arc::new(SystemClock::shared()?),
        };
        Ok(SpiffeIdentity(Arc::new(Inner {
            id,
            guard: Guard::new(self.socket, self.agent, self.sticky)?,
            clock,
            withdrawals: AtomicU64::new(0),
            stream: Mutex::default(),
            worker: Mutex::default(),
            process: Process::current(),
        })))
    }
}

/// The SPIFFE ID of a workload; a trust domain alone is none.
pub(crate) fn workload_id(id: &str) -> Result<SpiffeId, Error> {
    let parsed = SpiffeId::new(id).ok().filter(|id| !id.path().is_empty());
    parsed.ok_or_else(|| {
        let what = "a workload's SPIFFE ID is spiffe://trust.domain/path";
        error::misconfigured(what).with_detail(id)
    })
}

/// Each critical section leaves it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for SpiffeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeIdentity")
            .field("spiffe_id", &self.id.to_string())
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SpiffeIdentityBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeIdentityBuilder")
            .field("spiffe_id", &self.id)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
