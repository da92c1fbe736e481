//! The stream of X509-SVIDs and authorities that the agent sends: the newest is shown, until it ends or is withdrawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream as Messages, StreamExt as _};
use secret_resolver::backend::{Seldom, report};
use secret_resolver::{Error, ErrorKind, IdentityStatus};
use secret_resolver_transport::ClientCertificate;
use spiffe::{TrustDomain, WorkloadApiError, X509Context};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::bundles::{Bundle, Bundles};
use crate::identity::Inner;
use crate::pause::Pauses;
use crate::reports::Reports;
use crate::today::today;
use crate::worker::Worker;
use crate::{agent, error};

/// It goes on while somebody holds this.
pub(crate) struct Stream {
    state: Arc<State>,
    shown: watch::Receiver<Result<ClientCertificate, Error>>,
    job: AbortHandle,
    /// Whose thread it runs on.
    _worker: Arc<Worker>,
}

/// What this stream has come to. Another one of the same identity has its own: the job of this one may go on for a moment after its end.
struct State {
    identity: Arc<Inner>,
    bundles: Bundles,
    reports: Reports,
    has_begun: AtomicBool,
}

/// What the job works with.
#[derive(Clone)]
struct Job {
    state: Arc<State>,
    shown: watch::Sender<Result<ClientCertificate, Error>>,
    /// Of each kind of line, one a second.
    warnings: Arc<Seldom>,
    changes: Arc<Seldom>,
}

type Message = Result<X509Context, WorkloadApiError>;

/// How long an agent is waited for that has given nothing to show. The first message it has to send at once; it may have to find out first
/// who asks.
const SILENCE: Duration = Duration::from_secs(10);

impl Stream {
    pub(crate) fn start(identity: Arc<Inner>, worker: Arc<Worker>) -> Arc<Self> {
        let none_yet = why_none(&identity, "the agent has given no X509-SVID yet");
        let (sender, shown) = watch::channel(Err(none_yet.clone()));
        let state = Arc::new(State {
            identity,
            bundles: Bundles::new(none_yet),
            reports: Reports::default(),
            has_begun: AtomicBool::new(false),
        });
        let job = Job {
            state: Arc::clone(&state),
            shown: sender,
            warnings: Arc::default(),
            changes: Arc::default(),
        };
        Arc::new(Self {
            state,
            shown,
            job: worker.spawn(job.run()),
            _worker: worker,
        })
    }

    pub(crate) fn identity(&self) -> &Arc<Inner> {
        &self.state.identity
    }

    /// The authorities of this trust domain, and each change of them.
    pub(crate) fn bundle(&self, domain: &TrustDomain) -> watch::Receiver<Bundle> {
        self.state.bundles.of(domain)
    }

    pub(crate) fn status(&self) -> IdentityStatus {
        self.state.reports.status(&self.state.identity.id)
    }

    pub(crate) fn shown(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.shown.clone()
    }

    /// Whether the agent was not heard yet, nor found to be away.
    pub(crate) fn is_starting(&self) -> bool {
        !self.state.has_begun.load(Ordering::Acquire)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.job.abort();
    }
}

impl Job {
    /// For ever. A panic, as of a clock of the application's, ends one of the two for a second and not the identity.
    async fn run(self) {
        loop {
            let mut both = JoinSet::new();
            both.spawn(self.clone().follow());
            both.spawn(self.clone().expire());
            let _ = both.join_next().await;
            report(|| tracing::error!("code that follows the agent has panicked; it begins again"));
            tokio::time::sleep(crate::pause::SHORTEST).await;
        }
    }

    /// What the agent says.
    async fn follow(self) {
        let mut pauses = Pauses::new();
        loop {
            let error = self.connection(&mut pauses).await;
            // Before anything is said of it: code that hears of it may block, or panic.
            match error.kind() {
                ErrorKind::Unauthenticated => self.withdraw(&error),
                _ => self.explain(&error),
            }
            self.begun();
            self.failed(
                &error,
                "no X509-SVIDs come from the agent; what it gave last is shown to its end",
            );
            pauses.wait_after(&error).await;
        }
    }

    /// One connection, to its end.
    async fn connection(&self, pauses: &mut Pauses) -> Error {
        let id = || self.state.identity.id.to_string();
        let client = match agent::connect(&self.state.identity.guard).await {
            Ok(client) => client,
            Err(error) => return error,
        };
        let opened = tokio::time::timeout(SILENCE, client.stream_x509_contexts());
        let mut messages = match opened.await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return error::of_agent(&error, &id()),
            Err(_) => return self.silent(),
        };
        let mut is_first = true;
        loop {
            let message = match self.next(&mut messages, is_first).await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    let what = "the agent has ended the stream";
                    return error::new(ErrorKind::Unavailable, what).with_detail(id());
                }
                Err(error) => return error,
            };
            is_first = false;
            let taken = match message {
                Ok(context) => self.take(&context),
                Err(error) if error::ends_a_stream(&error) => {
                    return error::of_agent(&error, &id());
                }
                Err(error) => Err(error::of_agent(&error, &id())),
            };
            match taken {
                Ok(()) => pauses.reset(),
                Err(error) => {
                    self.explain(&error);
                    self.failed(&error, "a message of the agent is passed over");
                }
            }
            self.begun();
        }
    }

    /// The next message. An agent that has given nothing to show is not waited for without an end.
    async fn next(
        &self,
        messages: &mut (impl Messages<Item = Message> + Unpin),
        is_first: bool,
    ) -> Result<Option<Message>, Error> {
        let mut changes = self.shown.subscribe();
        loop {
            let may_be_silent = changes.borrow_and_update().is_ok() && !is_first;
            tokio::select! {
                message = messages.next() => return Ok(message),
                _ = changes.changed() => {}
                () = tokio::time::sleep(SILENCE), if !may_be_silent => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Error {
        let error = error::new(ErrorKind::Unavailable, "the agent says nothing");
        error.with_detail(self.state.identity.id.to_string())
    }

    /// A message is the whole state: what it does not have was taken away.
    fn take(&self, context: &X509Context) -> Result<(), Error> {
        let State {
            identity,
            bundles,
            reports,
            ..
        } = &*self.state;
        let mut svids = context.svids().iter();
        let Some(svid) = svids.find(|svid| *svid.spiffe_id() == identity.id) else {
            let another = another(identity);
            self.withdraw(&another);
            return Err(another);
        };
        let chain = svid.cert_chain().iter();
        let chain = chain.map(|certificate| certificate.as_bytes().to_vec());
        let certificate =
            ClientCertificate::from_der(chain.collect(), svid.private_key().as_bytes());
        let certificate = certificate.map_err(|error| {
            let unfit = error::new(ErrorKind::Malformed, error.what());
            unfit.with_detail(format!("{}, as the agent gives it", identity.id))
        })?;
        let is_new = !matches!(&*self.shown.borrow(), Ok(shown) if *shown == certificate);
        if is_new {
            // First, so that nobody sees the SVID without its end.
            let ends = identity.clock.now() + left(&certificate);
            reports.ends(Some(ends));
            let _ = self.shown.send_replace(Ok(certificate));
        }
        bundles.learn(context.bundle_set());
        reports.updated(identity.clock.now());
        if is_new && let Some(others) = self.changes.warns(identity.clock.now()) {
            let spiffe_id = identity.id.clone();
            report(move || {
                tracing::info!(%spiffe_id, others, "another X509-SVID is shown from now on");
            });
        }
        Ok(())
    }

    /// Shows none from now on, and says why. Nor is a server believed by what the agent gave before.
    fn withdraw(&self, why: &Error) {
        self.state.identity.withdrawn();
        self.state.bundles.forget(why);
        self.show_none(why);
    }

    /// Where there is nothing to show, or nobody to believe, this is why.
    fn explain(&self, why: &Error) {
        let why = why.clone().of_credential();
        let detail = why.detail().unwrap_or_default();
        let id = self.state.identity.id.to_string();
        let why = match detail.contains(&id) {
            true => why,
            false => why.clone().with_detail(format!("{id}, {detail}")),
        };
        self.state.bundles.explain(&why);
        self.shown.send_if_modified(|shown| {
            let has_none = shown.is_err();
            if has_none {
                *shown = Err(why);
            }
            has_none
        });
    }

    fn show_none(&self, why: &Error) {
        self.state.reports.ends(None);
        let _ = self.shown.send_replace(Err(why.clone()));
    }

    fn failed(&self, error: &Error, what: &'static str) {
        let now = self.state.identity.clock.now();
        self.state.reports.failed(error, now);
        if let Some(others) = self.warnings.warns(now) {
            let error = error.clone();
            report(move || tracing::warn!(%error, others, "{what}"));
        }
    }

    /// Those who wait for the agent's first word look again. What came of it stands there already.
    fn begun(&self) {
        if self.state.has_begun.load(Ordering::Acquire) {
            return;
        }
        let begin = |_: &mut _| self.state.has_begun.store(true, Ordering::Release);
        self.shown.send_modify(begin);
        self.state.bundles.tell_again();
    }

    /// Shows none once the last has ended.
    async fn expire(self) {
        /// The time of day may be set meanwhile.
        const LOOK_AGAIN: Duration = Duration::from_secs(10);
        let mut changes = self.shown.subscribe();
        loop {
            let left = changes.borrow_and_update().as_ref().ok().map(left);
            match left {
                Some(left) if left.is_zero() => self.show_none(&ended(&self.state.identity)),
                Some(left) => {
                    let end = tokio::time::sleep(left.min(LOOK_AGAIN));
                    tokio::select! {
                        () = end => {}
                        _ = changes.changed() => {}
                    }
                }
                None => {
                    let _ = changes.changed().await;
                }
            }
        }
    }
}

/// How long it is still valid.
fn left(certificate: &ClientCertificate) -> Duration {
    // Its last second counts.
    let end = certificate.valid_until() + Duration::from_secs(1);
    today().map_or(Duration::ZERO, |today| end.saturating_sub(today))
}

fn ended(identity: &Inner) -> Error {
    why_none(
        identity,
        "the X509-SVID has ended, and the agent has given no other",
    )
}

fn another(identity: &Inner) -> Error {
    why_none(
        identity,
        "the agent gives this workload other identities than the configured one",
    )
}

fn why_none(identity: &Inner, what: &'static str) -> Error {
    error::new(ErrorKind::Unauthenticated, what).with_detail(identity.id.to_string())
}
