//! Several ways to one store, by prefix of the name, each with its own guards.
//!
//! It decides by the name alone. `stack/assemble.rs` chooses the guards. The store is one,
//! and every call that is not a read goes past them.

use std::sync::Arc;

use crate::clock::Moment;
use crate::error::Error;
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::rules::ByPrefix;

/// Gives the names below some prefixes, and all others, a lane each: layers around the same store.
///
/// A flood of names on one lane fills, opens or spends nothing of another.
///
/// # Order
/// Right above the guards, and below a [`Route`](crate::layers::Route): a lane leads to one store.
/// Above a common breaker, retry or limit it would separate nothing.
///
/// # Cancel safety
/// It holds nothing: dropping a read drops what it asked for. Shutdown reaches every lane at its first
/// poll.
#[derive(Debug)]
pub(crate) struct Lanes<S, R> {
    store: Arc<S>,
    lanes: ByPrefix<R>,
}

impl<S: SecretResolver, R: SecretResolver> Lanes<S, R> {
    /// A lane for each of `settings`; `guarded` puts its layers around the store. It is given the prefix,
    /// where the lane is not for all names.
    ///
    /// Fails when a prefix is not a path, or `guarded` does.
    pub(crate) fn new<T>(
        store: S,
        settings: ByPrefix<T>,
        mut guarded: impl FnMut(End<S>, Option<&str>, T) -> Result<R, Error>,
    ) -> Result<Self, Error> {
        settings.check()?;
        let store = Arc::new(store);
        let guarded =
            |prefix: Option<&str>, settings| guarded(End(Arc::clone(&store)), prefix, settings);
        let lanes = settings.map(guarded)?;
        Ok(Self { store, lanes })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: SecretResolver, R: SecretResolver> SecretResolver for Lanes<S, R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.lanes.get(request.name().path()).resolve(request)
    }

    each_alone!(self);

    pass_on!(self => self.store);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            // None of them waits: there is no store at its end.
            for lane in self.lanes.values() {
                let _ = lane.shutdown(deadline).await;
            }
            self.store.shutdown(deadline).await
        })
    }
}

/// The store at the end of a lane, except for its shutdown: that comes once, however many lanes there
/// are.
#[derive(Debug)]
pub(crate) struct End<S>(Arc<S>);

#[deny(clippy::missing_trait_methods)]
impl<S: SecretResolver> SecretResolver for End<S> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    each_alone!(self);

    pass_on!(self => self.0);

    fn shutdown(&self, _: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::ready(crate::resolver::ShutdownReport::default())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::error::ErrorKind;
    use crate::layers::{Breaker, BreakerConfig, Limit, LimitConfig};
    use crate::resolver::{SecretResolverExt, ShutdownReport};
    use crate::secret::Secret;
    use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
    use crate::testing::{ManualClock, MockBackend, Reply};

    const NAME: &str = "prod/db#password";

    type Limited<S> = Lanes<S, Limit<End<S>>>;

    fn config(max_concurrent: u32, max_queued: u32) -> LimitConfig {
        LimitConfig {
            max_concurrent,
            max_queued,
            ..LimitConfig::default()
        }
    }

    /// One limit for all, and others for these prefixes.
    fn limited<S: SecretResolver>(
        store: S,
        own: &[(&str, LimitConfig)],
    ) -> Result<Limited<S>, Error> {
        let mut limits = ByPrefix::new(config(1, 0));
        for (prefix, limit) in own {
            limits.set(prefix, *limit);
        }
        let clock = Arc::new(ManualClock::strict());
        Lanes::new(store, limits, |end, _, limit| {
            Limit::new(end, Arc::clone(&clock) as _, limit)
        })
    }

    fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        let mut cx = Context::from_waker(Waker::noop());
        future.as_mut().poll(&mut cx)
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match poll(&mut Box::pin(future)) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    fn shown(answer: Result<Secret, Error>) -> String {
        match answer {
            Ok(secret) => secret.expose_str().unwrap().to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        }
    }

    #[tokio::test]
    async fn it_keeps_all_laws() {
        let store = MockBackend::new()
            .with_value("a/b#c", "one-canary")
            .with_value("d/e", "two-canary");
        let mut limits = ByPrefix::new(config(64, 1_000));
        limits.set("a", config(64, 1_000));
        let lanes = Lanes::new(store, limits, |end, _, limit| {
            Limit::new(end, Arc::new(ManualClock::strict()), limit)
        });
        let subject = Subject::new(Arc::new(lanes.unwrap()), "no/such").unwrap();
        let subject = subject.stores("a/b#c", "one-canary").unwrap();
        let subject = subject.stores("d/e", "two-canary").unwrap();
        all(&subject).await.unwrap();
        after_shutdown_all_is_refused(&subject).await.unwrap();
    }

    #[test]
    fn names_below_a_prefix_wait_for_each_other_and_for_nobody_else() {
        let store = MockBackend::new().with_value(NAME, "v1");
        store.set("tenants/42", "theirs");
        store.set("tenants/vip", "theirs");
        let own = [("tenants", config(2, 1)), ("tenants/vip", config(1, 0))];
        let lanes = limited(store.clone(), &own).unwrap();
        store.always(Reply::Hang);
        // The limit of the prefix is full, and its queue.
        let mut held: Vec<_> = (0..3).map(|_| Box::pin(lanes.get("tenants/42"))).collect();
        assert!(held.iter_mut().all(|get| poll(get).is_pending()));
        assert_eq!(store.calls(), 2);
        store.always(None);
        assert_eq!(shown(now(lanes.get("tenants/7"))), "Overloaded");
        // The others do not notice, and names of a longer prefix do not either; in a batch, too.
        store.set("tenants2/42", "others");
        let names = [
            "tenants/42",
            NAME,
            "tenants/vip",
            "tenants2/42",
            "tenants/7",
        ];
        let answers = now(lanes.get_many(&names)).into_iter().map(shown);
        let answers: Vec<_> = answers.collect();
        assert_eq!(
            answers,
            ["Overloaded", "v1", "theirs", "others", "Overloaded"]
        );
    }

    #[test]
    fn a_lane_with_a_wrong_prefix_or_with_guards_that_make_no_sense_is_refused() {
        let wrong = [
            ("a/", config(1, 0)),
            ("a#b", config(1, 0)),
            ("a", config(0, 0)),
        ];
        for own in wrong {
            let refused = limited(MockBackend::new(), &[own]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        }
    }

    #[test]
    fn a_breaker_that_opens_on_one_lane_is_closed_on_the_others() {
        let store = MockBackend::new().with_value(NAME, "v1");
        let mut own = ByPrefix::new(());
        own.set("flood", ());
        let clock = Arc::new(ManualClock::strict());
        let lanes = Lanes::new(store.clone(), own, |end, _, ()| {
            Breaker::new(end, Arc::clone(&clock) as _, BreakerConfig::default())
        });
        let lanes = lanes.unwrap();
        store.always(Reply::Error(ErrorKind::Unavailable));
        for number in 0..50 {
            assert!(now(lanes.get(&format!("flood/{number}"))).is_err());
        }
        assert_eq!(store.calls(), 5);
        store.always(None);
        assert_eq!(shown(now(lanes.get(NAME))), "v1");
        assert_eq!(shown(now(lanes.get("flood/1"))), "Unavailable");
    }

    #[test]
    fn shutdown_ends_every_wait_on_every_lane_and_the_store_once() {
        #[derive(Debug)]
        struct Ends(MockBackend, AtomicUsize);
        impl SecretResolver for Ends {
            fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
                self.0.resolve(request)
            }
            fn shutdown(&self, _: Moment) -> ShutdownFuture<'_> {
                self.1.fetch_add(1, Ordering::SeqCst);
                ShutdownFuture::ready(ShutdownReport {
                    revoked: 1,
                    ..ShutdownReport::default()
                })
            }
        }
        let store = Ends(MockBackend::new(), AtomicUsize::new(0));
        store.0.always(Reply::Hang);
        let own = [("a", config(1, 5)), ("b", config(1, 5))];
        let lanes = limited(store, &own).unwrap();
        let mut gets: Vec<_> = ["a/1", "b/1", "a/2", "b/2"]
            .iter()
            .map(|name| Box::pin(lanes.get(name)))
            .collect();
        assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
        assert_eq!(now(lanes.shutdown(Moment::ZERO)).revoked, 1);
        assert_eq!(lanes.store.1.load(Ordering::SeqCst), 1);
        for get in &mut gets[2..] {
            let Poll::Ready(answer) = poll(get) else {
                panic!("it waits");
            };
            assert_eq!(shown(answer), "Closed");
        }
        assert_eq!(shown(now(lanes.get("c"))), "Closed");
    }
}
