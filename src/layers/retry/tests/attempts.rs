//! What is asked again and what is not, and what is left of an attempt that was cut off.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::resolver::SecretResolverExt;
use crate::testing::{MockBackend, Reply};

#[test]
fn a_failure_that_passes_is_not_seen() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let passing = [ErrorKind::Unavailable, ErrorKind::Timeout].map(Reply::Error);
    backend.script(NAME, passing);
    let retry = Retry::new(backend.clone(), shared, RetryConfig::default()).unwrap();
    let secret = drive(&manual, retry.get(NAME)).unwrap();
    assert_eq!(secret.expose_str().unwrap(), "v1");
    assert_eq!(backend.calls(), 3);
}

#[test]
fn each_kind_is_retried_as_its_permits_say() {
    for kind in ErrorKind::ALL {
        let (manual, store, retry) = failing(kind);
        let error = drive(&manual, retry.get(NAME)).unwrap_err();
        assert_eq!(error.kind(), kind);
        let attempts = match kind.permits().retry {
            crate::error::Repeat::Never => 1,
            crate::error::Repeat::Yes | crate::error::Repeat::AfterDelay => 3,
        };
        assert_eq!(store.asked(), attempts, "{kind:?}");
    }
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let wrong: [fn(&mut RetryConfig); 8] = [
        |config| config.max_attempts = 0,
        |config| config.max_attempts = 11,
        |config| config.first_backoff = Duration::ZERO,
        |config| config.first_backoff = secs(2),
        |config| config.longest_backoff = Duration::MAX,
        |config| config.longest_asked = Duration::MAX,
        |config| config.budget = 10_001,
        |config| config.budget_percent = 101,
    ];
    for wrong in wrong {
        let mut config = RetryConfig::default();
        wrong(&mut config);
        let refused = Retry::new(MockBackend::new(), clock().1, config).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{config:?}");
    }
}

#[test]
fn a_backend_that_panics_takes_nobody_else_with_it() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    backend.script(NAME, [Reply::Panic]);
    let retry = Retry::new(backend, shared, RetryConfig::default()).unwrap();
    let first = catch_unwind(AssertUnwindSafe(|| drive(&manual, retry.get(NAME))));
    assert!(first.is_err());
    assert!(drive(&manual, retry.get(NAME)).is_ok());
}

#[test]
fn dropped_at_any_await_it_leaves_nothing_behind() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let config = RetryConfig {
        budget: 1000,
        ..RetryConfig::default()
    };
    let retry = Retry::new(backend.clone(), shared, config).unwrap();
    let fails = Reply::Error(ErrorKind::Unavailable);
    for _ in 0..100 {
        // In the first attempt.
        backend.script(NAME, [Reply::Hang]);
        let mut first = Box::pin(retry.get(NAME));
        assert!(poll(first.as_mut()).is_pending());
        drop(first);
        // In the back-off.
        backend.script(NAME, [fails.clone()]);
        let mut waits = Box::pin(retry.get(NAME));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(manual.next_wake().is_some());
        drop(waits);
        assert_eq!(manual.next_wake(), None);
        // In the second attempt.
        backend.script(NAME, [fails.clone(), Reply::Hang]);
        let mut second = Box::pin(retry.get(NAME));
        assert!(poll(second.as_mut()).is_pending());
        manual.advance(secs(1));
        assert!(poll(second.as_mut()).is_pending());
        drop(second);
        assert_eq!(manual.next_wake(), None);
        assert!(drive(&manual, retry.get(NAME)).is_ok());
    }
}

/// Answers these errors, from the last to the first, and then not at all.
#[derive(Debug)]
struct Errors(Mutex<Vec<Error>>);

impl SecretResolver for Errors {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::ready(Err(lock(&self.0).pop().unwrap()))
    }
}

#[test]
fn our_own_overload_hides_no_outage_that_an_attempt_has_shown() {
    let away = Error::new(ErrorKind::Timeout, "away");
    let ours = Error::new(ErrorKind::Overloaded, "no permit");
    // An overload that the store's answer causes is the store's word, and the latest.
    let theirs = Error::new(ErrorKind::Overloaded, "too large").with_backend("store");
    for (errors, expected) in [
        (vec![ours.clone(), away.clone()], ErrorKind::Timeout),
        (vec![theirs, away], ErrorKind::Overloaded),
        (vec![ours], ErrorKind::Overloaded),
    ] {
        let (manual, shared) = clock();
        let store = Errors(Mutex::new(errors));
        let retry = Retry::new(store, shared, RetryConfig::default()).unwrap();
        let error = drive(&manual, retry.resolve(Request::new(name()))).unwrap_err();
        assert_eq!(error.kind(), expected);
    }
}

#[test]
fn the_latest_version_is_asked_for_until_the_deadline() {
    let error = || Error::new(ErrorKind::Unavailable, "no leader");
    let (manual, store, retry) = failing_with(error(), RetryConfig::default());
    let end = manual.now() + secs(4);
    let request = Request::new(name()).latest();
    drive(&manual, retry.resolve(request.with_deadline(end))).unwrap_err();
    // Back-offs that double, to a second, of which half is waited on average.
    assert!((5..=12).contains(&store.asked()), "{}", store.asked());
    assert!(manual.now() > Moment::ZERO + secs(1));
    // Not without a deadline, not where none are to be made, and not past the budget.
    let one = RetryConfig {
        max_attempts: 1,
        ..RetryConfig::default()
    };
    let poor = RetryConfig {
        budget: 2,
        ..RetryConfig::default()
    };
    for (config, request, asked) in [
        (RetryConfig::default(), request, 3),
        (one, request.with_deadline(end), 1),
        (poor, request.with_deadline(end), 3),
    ] {
        let (manual, store, retry) = failing_with(error(), config);
        drive(&manual, retry.resolve(request)).unwrap_err();
        assert_eq!(store.asked(), asked);
    }
}
