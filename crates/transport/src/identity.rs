//! What connections are made with now: the authorities that servers are checked against, and the certificate
//! that this client shows. A connection that was made with others is not used again.
//!
//! It knows when to look whether there are others by now. Which requests wait for that, and which
//! connections are closed, is for the client and its pool to know.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use secret_resolver::backend::first;
use secret_resolver::{Clock, Error, IdentityStatus, Moment};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::certificate::{CertificateSource, ClientCertificate};
use crate::looks::Looks;
use crate::trust::Trust;

pub(crate) struct Identity {
    trust: Trust,
    shown: Option<Shown>,
}

/// The certificate that is shown, and its source.
struct Shown {
    source: Arc<dyn CertificateSource>,
    held: Mutex<Held>,
    looks: Looks,
}

struct Held {
    offered: watch::Receiver<Result<ClientCertificate, Error>>,
    last: Option<ClientCertificate>,
    /// How many there were; each has its own.
    number: u64,
}

/// Tells what a connection was made with from what the next would be made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    authorities: u64,
    /// 0 where none is shown.
    pub(crate) certificate: u64,
}

/// How long after the source of the certificate has looked it looks again, at the soonest.
const AGAIN: Duration = Duration::from_secs(10);

/// How long a look is waited for.
const LOOK: Duration = Duration::from_millis(500);

impl Identity {
    pub(crate) fn new(trust: Trust, source: Option<Arc<dyn CertificateSource>>) -> Self {
        let shown = source.map(|source| Shown {
            held: Mutex::new(Held::new(source.subscribe())),
            source,
            looks: Looks::new(AGAIN),
        });
        Self { trust, shown }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            authorities: self.trust.number(),
            certificate: self.shown.as_ref().map_or(0, |shown| shown.lock().look()),
        }
    }

    /// The certificate to show on a new connection, where one is to be shown at all.
    ///
    /// # Errors
    /// No connection may be made: there is none to show, or nobody to be believed. It says nothing of a store.
    pub(crate) fn certificate(&self) -> Result<Option<ClientCertificate>, Error> {
        self.trust.check().map_err(Error::of_credential)?;
        let offered = |shown: &Shown| shown.lock().offered.borrow().clone();
        let certificate = self.shown.as_ref().map(offered).transpose();
        certificate.map_err(Error::of_credential)
    }

    pub(crate) fn status(&self) -> Option<IdentityStatus> {
        let shown = self.shown.as_ref()?;
        shown.source.status()
    }

    /// Ready once each source has said something: one that asks an agent has nothing at first.
    ///
    /// # Cancel safety
    /// It holds nothing.
    pub(crate) async fn begun(&self) {
        if let Some(server) = self.trust.server() {
            let mut authorities = self.trust.changes();
            while server.is_starting() && authorities.changed().await.is_ok() {}
        }
        if let Some(shown) = &self.shown {
            let mut offered = shown.lock().offered.clone();
            while shown.source.is_starting() && offered.changed().await.is_ok() {}
        }
    }

    /// Ready once connections are not made any more as those of `seen` were.
    ///
    /// # Cancel safety
    /// It holds nothing.
    pub(crate) async fn changed(&self, seen: Stamp) {
        let mut authorities = self.trust.changes();
        let mut certificate = self
            .shown
            .as_ref()
            .map(|shown| shown.lock().offered.clone());
        // Both are subscribed to before the first look, so no change is missed.
        while self.stamp() == seen {
            let authorities = std::pin::pin!(next(Some(&mut authorities)));
            let certificate = std::pin::pin!(next(certificate.as_mut()));
            match select(authorities, certificate).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }

    /// Whether there is something else to try than `seen`, which was refused.
    ///
    /// # Cancel safety
    /// As [`Identity::look_again`].
    pub(crate) async fn is_new(
        self: &Arc<Self>,
        seen: Stamp,
        clock: &dyn Clock,
        runtime: &Handle,
    ) -> bool {
        self.look_again(clock, true, runtime).await;
        self.stamp() != seen
    }

    /// Looks whether there are others by now, if it is time for it. A look that takes longer than half a second goes on by itself: what
    /// is there serves meanwhile.
    ///
    /// # Cancel safety
    /// The look goes on, on a thread for what blocks.
    pub(crate) async fn look_again(
        self: &Arc<Self>,
        clock: &dyn Clock,
        urgent: bool,
        runtime: &Handle,
    ) {
        let now = clock.now();
        let looks = self.begin_look(now, urgent, runtime);
        if !looks.is_empty() {
            // One ends without a result when it panics, or its runtime is dropped: then nothing is known.
            first(join_all(looks), clock.sleep_until(now + LOOK)).await;
        }
    }

    /// As [`Identity::look_again`], for a request that does not wait for it. Each source is looked at on a thread of its own: a slow disk
    /// holds up nobody else.
    pub(crate) fn begin_look(
        self: &Arc<Self>,
        now: Moment,
        urgent: bool,
        runtime: &Handle,
    ) -> Vec<JoinHandle<()>> {
        let mut looks = Vec::new();
        if let Some(look) = self.trust.begin_look(now, urgent) {
            let identity = Arc::clone(self);
            looks.push(runtime.spawn_blocking(move || {
                let _look = look;
                identity.trust.read_again();
            }));
        }
        if let Some(shown) = &self.shown
            && let Some(look) = shown.looks.begin(now, urgent)
        {
            let source = Arc::clone(&shown.source);
            looks.push(runtime.spawn_blocking(move || {
                let _look = look;
                source.look_again();
            }));
        }
        looks
    }
}

/// The next change; never, where there is nothing that could change.
async fn next<T>(changes: Option<&mut watch::Receiver<T>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    pending().await
}

impl Shown {
    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn new(offered: watch::Receiver<Result<ClientCertificate, Error>>) -> Self {
        let last = offered.borrow().as_ref().ok().cloned();
        Self {
            offered,
            last,
            number: 1,
        }
    }

    /// The number of the certificate that is offered now. One that has ended is none: connections that were made
    /// with it are not used any more, either.
    fn look(&mut self) -> u64 {
        let offered = self.offered.borrow().as_ref().ok().cloned();
        let offered = offered.filter(ClientCertificate::is_good);
        if offered != self.last {
            self.last = offered;
            self.number += 1;
        }
        self.number
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.shown.as_ref().map(|shown| &shown.source);
        f.debug_struct("Identity")
            .field("trust", &self.trust)
            .field("certificate", &source)
            .finish_non_exhaustive()
    }
}
