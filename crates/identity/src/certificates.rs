//! The X509-SVID as a client certificate: the newest that the agent has given, until it ends or is withdrawn.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use secret_resolver::backend::{Seldom, random_part};
use secret_resolver::{Error, ErrorKind, IdentityStatus};
use secret_resolver_transport::{CertificateSource, ClientCertificate};
use spiffe::X509Context;
use tokio::sync::{oneshot, watch};

use crate::agent;
use crate::error;
use crate::identity::Inner;

/// The X509-SVID of one identity as a client certificate; from [`SpiffeIdentity::certificates`](crate::SpiffeIdentity::certificates).
///
/// The newest is shown at each handshake. When it is another, connections that were made with the one before are closed, busy ones once
/// their request has ended. While there is none, or it has ended, or the agent has withdrawn it, no connection is made.
///
/// The agent says each change by itself. Where it is away, or says nothing at first, the last SVID is shown to its end, and the agent is
/// asked again after 1 to 30 seconds; where it does not take the request, after 24 at least. A message that is not what the Workload API
/// says is passed over.
#[derive(Clone)]
pub struct SpiffeCertificates(Arc<Stream>);

/// The stream of what the agent says, on a thread of its own.
pub(crate) struct Stream {
    pub(crate) identity: Arc<Inner>,
    shown: watch::Receiver<Result<ClientCertificate, Error>>,
    /// Dropped with the last source, which ends the thread.
    _running: oneshot::Sender<()>,
}

type Shown = watch::Sender<Result<ClientCertificate, Error>>;

/// How long the first message may take, which the agent has to send at once. It may have to find out first who asks.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

impl SpiffeCertificates {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self(stream)
    }
}

impl CertificateSource for SpiffeCertificates {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.0.shown.clone()
    }

    fn status(&self) -> Option<IdentityStatus> {
        let identity = &self.0.identity;
        Some(identity.status(identity.svid_ends()))
    }
}

impl Stream {
    /// # Errors
    /// [`ErrorKind::Overloaded`] when the thread cannot be started.
    pub(crate) fn start(identity: Arc<Inner>) -> Result<Arc<Self>, Error> {
        let overloaded = |_| {
            error::new(
                ErrorKind::Overloaded,
                "no thread can be started for the agent's messages",
            )
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(overloaded)?;
        let (sender, shown) = watch::channel(Err(none_yet(&identity)));
        let (running, ended) = oneshot::channel();
        // What a stream before this one has heard may be long out of date.
        identity.bundles.forget(&none_yet(&identity));
        let follows = Arc::clone(&identity);
        std::thread::Builder::new()
            .name("secrets-spiffe".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = follow(&follows, &sender) => {}
                        () = expire(&follows, &sender) => {}
                        // Its sender is gone.
                        _ = ended => {}
                    }
                });
            })
            .map_err(overloaded)?;
        Ok(Arc::new(Self {
            identity,
            shown,
            _running: running,
        }))
    }
}

/// What the agent says, for ever.
async fn follow(identity: &Inner, shown: &Shown) {
    let mut wait = error::SHORTEST_PAUSE;
    loop {
        let error = stream(identity, shown, &mut wait).await;
        identity.failed(&error);
        tracing::warn!(%error, "no X509-SVIDs come from the agent; what it gave last is shown to its end");
        if error.kind() == ErrorKind::Unauthenticated {
            identity.bundles.forget(&error);
            withdraw(identity, shown, error.clone());
        }
        wait = wait.max(error::pause_after(&error));
        tokio::time::sleep(wait + random_part(wait / 4)).await;
        wait = (wait * 2).min(error::LONGEST_PAUSE);
    }
}

/// One connection, to its end.
async fn stream(identity: &Inner, shown: &Shown, wait: &mut Duration) -> Error {
    let id = || identity.id.to_string();
    let of_agent = |error| error::of_agent(&error, &id());
    let unavailable = |what| error::new(ErrorKind::Unavailable, what).with_detail(id());
    let client = match agent::connect(&identity.guard).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    let begun = async {
        let mut messages = client.stream_x509_contexts().await?;
        let first = messages.next().await;
        Ok((messages, first))
    };
    let (mut messages, mut next) = match tokio::time::timeout(FIRST_MESSAGE, begun).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => return of_agent(error),
        Err(_) => return unavailable("the agent says nothing"),
    };
    let warnings = Seldom::default();
    while let Some(message) = next {
        let taken = match message {
            Ok(context) => take(identity, shown, &context),
            Err(error) if error::ends_a_stream(&error) => return of_agent(error),
            Err(error) => Err(of_agent(error)),
        };
        match taken {
            Ok(()) => *wait = error::SHORTEST_PAUSE,
            Err(error) => {
                identity.failed(&error);
                if let Some(others) = warnings.warns(identity.clock.now()) {
                    tracing::warn!(%error, others, "a message of the agent is passed over");
                }
            }
        }
        next = messages.next().await;
    }
    unavailable("the agent has ended the stream")
}

/// A message is the whole state: what it does not have was taken away.
fn take(identity: &Inner, shown: &Shown, context: &X509Context) -> Result<(), Error> {
    let mut svids = context.svids().iter();
    let Some(svid) = svids.find(|svid| *svid.spiffe_id() == identity.id) else {
        identity.bundles.forget(&another(identity));
        withdraw(identity, shown, another(identity));
        return Err(another(identity));
    };
    let chain = svid.cert_chain().iter();
    let chain = chain.map(|certificate| certificate.as_bytes().to_vec());
    let certificate = ClientCertificate::from_der(chain.collect(), svid.private_key().as_bytes());
    let certificate = certificate.map_err(|error| {
        let error = error.with_backend(error::SOURCE);
        error.with_detail(identity.id.to_string())
    })?;
    let is_new = !matches!(&*shown.borrow(), Ok(shown) if *shown == certificate);
    if is_new {
        // First, so that whoever sees the SVID sees its end.
        identity.shows_until(Some(identity.clock.now() + left(&certificate)));
        let _ = shown.send_replace(Ok(certificate));
    }
    identity.bundles.learn(context.bundle_set());
    identity.updated();
    if is_new {
        tracing::info!(spiffe_id = %identity.id, "another X509-SVID is shown from now on");
    }
    Ok(())
}

/// Shows none from now on, and says why.
fn withdraw(identity: &Inner, shown: &Shown, error: Error) {
    identity.shows_until(None);
    shown.send_modify(|shown| *shown = Err(error));
}

/// Shows none once the last has ended.
async fn expire(identity: &Inner, shown: &Shown) {
    /// The time of day may be set meanwhile.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);
    let mut changes = shown.subscribe();
    loop {
        let left = changes.borrow_and_update().as_ref().ok().map(left);
        match left {
            Some(left) if left.is_zero() => withdraw(identity, shown, ended(identity)),
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

/// How long it is still valid.
fn left(certificate: &ClientCertificate) -> Duration {
    #[allow(
        clippy::disallowed_methods,
        reason = "a certificate ends at a time of day"
    )]
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Its last second counts.
    let end = certificate.valid_until() + Duration::from_secs(1);
    end.saturating_sub(today.unwrap_or_default())
}

fn none_yet(identity: &Inner) -> Error {
    why_none(identity, "the agent has given no X509-SVID yet")
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

impl fmt::Debug for SpiffeCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeCertificates")
            .field("identity", &self.0.identity)
            .finish_non_exhaustive()
    }
}
