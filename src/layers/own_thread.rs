//! A thread for the code of one store, so that it blocks only itself.
//!
//! A backend is foreign code: a poll of it that blocks would hold up every other fetch on its
//! thread, and its own timers. So everything asynchronous that it does runs here, and a
//! caller that asks it waits elsewhere.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use crate::address::{Address, Located};
use crate::audit;
use crate::clock::Moment;
use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::foreign::{contained, foreign};
use crate::name::{NameRef, SecretName};
use crate::race::race;
use crate::resolver::{
    ExcessFuture, OwnedRequest, Request, ResolveFuture, SecretResolver, ShutdownFuture,
    ShutdownReport,
};
use crate::status::IdentityStatus;

/// Runs what `inner` does on its own thread. Its methods that are not async run where they are called; a panic
/// of one stays there, too.
///
/// # Order
/// Innermost, below the attempt's deadline: that must end even while the store's code blocks. One
/// for each store: two on one thread could hold up each other.
///
/// # Cancel safety
/// Dropping a read ends it on the store's thread, as soon as that comes to it; one that has not
/// begun by then does not begin. A shutdown goes on.
pub(crate) struct OwnThread {
    inner: Arc<dyn SecretResolver>,
    driver: Driver,
}

/// How long a shutdown waits for a log that is slow.
const WRITTEN: Duration = Duration::from_millis(250);

impl OwnThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when the store's code panics as it is asked for its endpoints.
    pub(crate) fn start(inner: Arc<dyn SecretResolver>) -> Result<Self, Error> {
        let asked = foreign(|| {
            let number = inner.endpoints();
            (number, inner.origins(), inner.spreads(), inner.remembers())
        });
        if asked.is_none() {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "the backend panicked as it was asked for its endpoints",
            ));
        }
        let driver = Driver::for_a_store()?;
        Ok(Self { inner, driver })
    }

    /// What the work answers; `None` when it panicked, or the thread is gone.
    async fn run<T, W, F>(&self, work: W) -> Option<T>
    where
        T: Send + 'static,
        W: FnOnce(Arc<dyn SecretResolver>) -> F + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (mut done, answer) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let job = async move {
            let gone = async {
                done.closed().await;
                None
            };
            // Asked first, so that a call that no caller waits for any more does not begin.
            let worked = race(gone, contained(async { work(inner).await })).await;
            if let Some(answer) = worked {
                let _ = done.send(answer);
            }
        };
        self.driver.spawn(job);
        answer.await.ok()
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for OwnThread {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let owned = OwnedRequest::of(&request);
            let read = |inner: Arc<dyn SecretResolver>| async move {
                // What the backend logs stands in the span of the fetch. It is begun here, because a
                // subscriber is foreign code, too.
                let span = foreign(|| audit::fetching(owned.request().name()));
                let read = inner.resolve(owned.request());
                read.instrument(span.unwrap_or_else(Span::none)).await
            };
            self.run(read).await.unwrap_or_else(|| Err(lost()))
        })
    }

    each_alone!(self);
    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        foreign(|| self.inner.locate(name)).unwrap_or_else(|| Located::lost(name))
    }

    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        foreign(|| self.inner.addresses(own)).unwrap_or_else(|| vec![Address::lost(own.as_str())])
    }

    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        foreign(|| self.inner.below(prefix)).unwrap_or_else(|| vec![Address::lost(prefix.path())])
    }

    fn at_once(&self, request: &Request<'_>) -> usize {
        foreign(|| self.inner.at_once(request)).unwrap_or(1)
    }

    fn remembers(&self) -> bool {
        foreign(|| self.inner.remembers()).unwrap_or_default()
    }

    fn endpoints(&self) -> usize {
        foreign(|| self.inner.endpoints()).unwrap_or(1)
    }

    fn origins(&self) -> Vec<String> {
        foreign(|| self.inner.origins()).unwrap_or_default()
    }

    fn spreads(&self) -> bool {
        foreign(|| self.inner.spreads()).unwrap_or_default()
    }

    fn identity(&self) -> u64 {
        foreign(|| self.inner.identity()).unwrap_or_default()
    }

    fn login_ends(&self) -> Option<Moment> {
        foreign(|| self.inner.login_ends()).flatten()
    }

    fn identity_status(&self) -> Option<IdentityStatus> {
        foreign(|| self.inner.identity_status()).flatten()
    }

    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::new(async move {
            let names: Vec<_> = names.iter().copied().map(NameRef::to_owned).collect();
            let ask = |inner: Arc<dyn SecretResolver>| async move {
                let names: Vec<_> = names.iter().map(SecretName::borrowed).collect();
                inner.excess(&names).await
            };
            self.run(ask).await.unwrap_or_else(|| Err(lost()))
        })
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        let (done, report) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        ShutdownFuture::new(async move {
            // Goes on when no caller waits any more: what can still be revoked should be.
            let aside = self.driver.aside().clone();
            self.driver.spawn(async move {
                let report = inner.shutdown(deadline).await;
                // What it has reported is still written where the process ends after this.
                let _ = tokio::time::timeout(WRITTEN, aside.written()).await;
                let _ = done.send(report);
            });
            report.await.unwrap_or_else(|_| ShutdownReport {
                timed_out: true,
                ..ShutdownReport::default()
            })
        })
    }
}

impl fmt::Debug for OwnThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the read ended without an answer; the backend may have panicked",
    )
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::secret::Version;
    use crate::testing::{Gate, MockBackend, Reply, conformance};

    fn setup() -> (MockBackend, OwnThread) {
        let store = MockBackend::new().with_value("a/b#c", "one-canary");
        let layer = OwnThread::start(Arc::new(store.clone())).unwrap();
        (store, layer)
    }

    fn name() -> NameRef<'static> {
        NameRef::parse("a/b#c").unwrap()
    }

    #[tokio::test]
    async fn it_keeps_all_laws() {
        let (store, layer) = setup();
        store.set("a/d", "two-canary");
        let subject = conformance::Subject::new(Arc::new(layer), "no/such").unwrap();
        let subject = subject.stores("a/b#c", "one-canary").unwrap();
        let subject = subject.stores("a/d", "two-canary").unwrap();
        conformance::all(&subject).await.unwrap();
        let closed = conformance::after_shutdown_all_is_refused(&subject).await;
        closed.unwrap();
    }

    /// Answers nothing, and notes what it was asked.
    #[derive(Debug)]
    struct Notes(std::sync::Mutex<Option<String>>);

    impl SecretResolver for Notes {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            *self.0.lock().unwrap() = Some(format!("{request:?}"));
            ResolveFuture::ready(Err(lost()))
        }
    }

    #[tokio::test]
    async fn the_store_is_asked_for_everything_that_the_request_asks_for() {
        let notes = Arc::new(Notes(std::sync::Mutex::default()));
        let inner: Arc<dyn SecretResolver> = Arc::clone(&notes) as _;
        let layer = OwnThread::start(inner).unwrap();
        let (version, floor) = (Version::number(3), Version::number(2));
        let held = Version::tag(b"held");
        let request = Request::new(name())
            .with_version(&version)
            .at_least(&floor)
            .with_held(&held)
            .with_deadline(Moment::ZERO + Duration::from_secs(7))
            .at_endpoint(5)
            .with_alternative(true)
            .latest();
        let _ = layer.resolve(request).await;
        let asked = notes.0.lock().unwrap().take();
        assert_eq!(asked, Some(format!("{request:?}")));
    }

    #[tokio::test]
    async fn a_read_whose_caller_has_gone_ends_and_one_that_waits_its_turn_does_not_begin() {
        let (store, layer) = setup();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (begun, running) = oneshot::channel();
        // Something of the store's own that blocks its thread.
        let blocks = async move {
            let _ = begun.send(());
            let _ = blocked.recv();
        };
        layer.driver.spawn(blocks);
        running.await.unwrap();
        let mut read = layer.resolve(Request::new(name()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(std::pin::Pin::new(&mut read).poll(&mut cx).is_pending());
        drop(read);
        drop(release);
        layer.resolve(Request::new(name())).await.unwrap();
        assert_eq!(store.calls(), 1);

        // One that has begun drops all that it has.
        let held = Arc::new(());
        let (keeps, left) = (Arc::clone(&held), Arc::downgrade(&held));
        drop(held);
        let mut hangs = Box::pin(layer.run(|_| async move {
            std::future::pending::<()>().await;
            drop(keeps);
        }));
        assert!(hangs.as_mut().poll(&mut cx).is_pending());
        drop(hangs);
        layer.resolve(Request::new(name())).await.unwrap();
        while left.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// Panics in the call itself.
    #[derive(Debug)]
    struct Panics;

    impl SecretResolver for Panics {
        fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
            panic!("of the test's own making");
        }

        fn shutdown(&self, _: Moment) -> ShutdownFuture<'_> {
            panic!("of the test's own making");
        }
    }

    #[tokio::test]
    async fn a_shutdown_that_panics_is_one_that_did_not_end() {
        let panics = OwnThread::start(Arc::new(Panics)).unwrap();
        let report = panics.shutdown(Moment::NEVER).await;
        assert!(report.timed_out);
        assert_eq!((report.revoked, report.not_revoked), (0, 0));
    }

    #[tokio::test]
    async fn a_panic_of_the_store_is_an_error_of_that_read_alone() {
        let panics = OwnThread::start(Arc::new(Panics)).unwrap();
        for _ in 0..2 {
            let error = panics.resolve(Request::new(name())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        let (store, layer) = setup();
        let gate = Gate::new();
        store.script("a/b", [gate.then(Reply::Panic)]);
        let mut panics = layer.resolve(Request::new(name()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(std::pin::Pin::new(&mut panics).poll(&mut cx).is_pending());
        store.called(1).await;
        let other = layer.resolve(Request::new(name()));
        gate.open();
        assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(other.await.is_ok());
    }
}
