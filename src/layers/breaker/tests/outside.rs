//! The breaker as others see it: a resolver that keeps the laws, is shut down, watched and logged.

use super::*;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};

#[tokio::test]
async fn it_keeps_all_laws() {
    for endpoints in [1, 3] {
        let fleet = Fleet::new(endpoints, true);
        for endpoint in &fleet.0 {
            endpoint.set("a/b#c", "one-canary");
            endpoint.set("a/d", "two-canary");
        }
        let clock = Arc::new(ManualClock::strict());
        let breaker = Breaker::new(fleet, clock, BreakerConfig::default()).unwrap();
        let subject = Subject::new(Arc::new(breaker), "no/such").unwrap();
        let subject = subject.stores("a/b#c", "one-canary").unwrap();
        let subject = subject.stores("a/d", "two-canary").unwrap();
        all(&subject).await.unwrap();
        after_shutdown_all_is_refused(&subject).await.unwrap();
    }
}

#[test]
fn after_shutdown_an_open_breaker_does_not_hide_it() {
    let bench = bench(1);
    bench.open();
    let _ = now(bench.breaker.shutdown(bench.clock.now()));
    assert_eq!(bench.kind(), Some(ErrorKind::Closed));
}

#[test]
fn a_monitor_shows_the_breaker_after_it_has_gone() {
    let bench = bench(2);
    let monitor = bench.breaker.monitor();
    bench.fail();
    let _ = bench.ask();
    let resolver: Arc<dyn SecretResolver> = Arc::new(bench.breaker);
    let _ = now(resolver.resolve(request()));
    let failures: Vec<_> = monitor.status().iter().map(|one| one.failures).collect();
    assert_eq!(failures, [1, 1]);
}

#[test]
fn what_is_shown_of_a_breaker_waits_for_no_lock() {
    let bench = bench(1);
    assert!(format!("{:?}", bench.breaker).contains("breaker: Closed"));
    // As a thread may have held it that is not there in a forked child.
    let held = lock(&bench.breaker.turns.state);
    let (done, shown) = std::sync::mpsc::channel();
    let monitor = bench.breaker.monitor();
    std::thread::spawn(move || done.send(format!("{monitor:?}")));
    let shown = shown.recv_timeout(secs(10)).unwrap();
    drop(held);
    assert!(shown.contains("endpoints: None"), "{shown}");
}

/// A subscriber that keeps the events.
struct Events(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                use std::fmt::Write;
                let _ = write!(self.0, " {field}={value:?}");
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        lock(&self.0).push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn opening_warns_and_closing_informs_once_each_without_a_name() {
    let events = Arc::new(Mutex::default());
    tracing::subscriber::with_default(Events(Arc::clone(&events)), || {
        // Another test that opens one at this moment may leave it cached that nothing listens.
        let other = bench(1);
        other.open();
        other.clock.advance(secs(1));
        other.all(None);
        other.ask().unwrap();
        tracing::callsite::rebuild_interest_cache();
        lock(&events).clear();
        let bench = bench(1);
        bench.open();
        assert!(bench.refuses());
        bench.clock.advance(secs(1));
        bench.all(None);
        bench.ask().unwrap();
        bench.ask().unwrap();
    });
    let events = lock(&events);
    let wanted = [
        "WARN message=the breaker of an endpoint opened endpoint=0 wait=1s cause=Unavailable last=\"unavailable: scripted by the test\"",
        "INFO message=the breaker of an endpoint closed endpoint=0",
    ];
    assert_eq!(*events, wanted);
}

#[test]
fn an_endpoint_that_is_passed_over_for_its_answer_is_reported_at_warn() {
    use crate::layers::{Retry, RetryConfig};
    let events = Arc::new(Mutex::default());
    tracing::subscriber::with_default(Events(Arc::clone(&events)), || {
        let bench = preferring(2);
        bench.says(
            0,
            Error::new(ErrorKind::Malformed, "a page of another server"),
        );
        let clock = Arc::new(bench.clock.clone());
        let stack = Retry::new(bench.breaker, clock, RetryConfig::default()).unwrap();
        // Another test at this moment may leave it cached that nothing listens.
        let _ = now(stack.resolve(request()));
        tracing::callsite::rebuild_interest_cache();
        lock(&events).clear();
        now(stack.resolve(request())).unwrap();
    });
    let events = lock(&events);
    assert_eq!(events.len(), 1, "{events:?}");
    let passed_over =
        "WARN message=an endpoint gives no useful answer; the next is asked endpoint=0";
    assert!(events[0].starts_with(passed_over), "{events:?}");
    assert!(events[0].contains("malformed answer: a page of another server"));
}
