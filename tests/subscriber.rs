//! A subscriber that panics: it is the application's code, and costs nobody an answer.
//!
//! In its own program, because it is the whole process's subscriber.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use secret_resolver::Resolver;
use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Panics at each audit event of a fetch; and, once `AT_SPANS` is set, at each span of one. Or blocks.
struct Panics;

static AT_SPANS: AtomicBool = AtomicBool::new(false);
static BLOCKS: AtomicBool = AtomicBool::new(false);
static AT_HITS: AtomicBool = AtomicBool::new(false);

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let panics = AT_HITS.load(Ordering::Relaxed) && *metadata.level() == Level::TRACE;
        assert!(!panics, "of the test's own making");
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        assert!(
            !AT_SPANS.load(Ordering::Relaxed),
            "of the test's own making"
        );
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if BLOCKS.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        let audit = event.metadata().target() == "secret_resolver::audit";
        assert!(!audit, "of the test's own making");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_subscriber_that_panics_costs_nobody_an_answer() {
    tracing::subscriber::set_global_default(Panics).unwrap();
    let store = MockBackend::new().with_value("a/b", "value");
    let resolver = Resolver::builder(store.clone())
        .with_attempts(1)
        .with_clock(ManualClock::strict())
        .build()
        .unwrap();
    let gate = Gate::new();
    store.script("a/b", [gate.then(Reply::Stored)]);
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.get("a/b").await })
        })
        .collect();
    store.called(1).await;
    gate.open();
    for get in waiting {
        assert_eq!(get.await.unwrap().unwrap().expose_str().unwrap(), "value");
    }
    // Neither does one that panics when it is asked whether it wants hits.
    AT_HITS.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        resolver.get("a/b").await.unwrap();
    }
    AT_HITS.store(false, Ordering::Relaxed);
    // An error, too; and the thread of the fetches goes on.
    assert!(resolver.get("none/such").await.is_err());
    store.set("c/d", "other");
    let other = resolver.get("c/d").await.unwrap();
    assert_eq!(other.expose_str().unwrap(), "other");
    // Without its span a fetch is made anyway.
    AT_SPANS.store(true, Ordering::Relaxed);
    store.set("e/f", "read");
    let read = resolver.get("e/f").await.unwrap();
    assert_eq!(read.expose_str().unwrap(), "read");
    assert_eq!(resolver.status().flights, 0);
    // A subscriber that blocks does not hold up a fetch, either: events are reported aside.
    AT_SPANS.store(false, Ordering::Relaxed);
    BLOCKS.store(true, Ordering::Relaxed);
    let clock = secret_resolver::backend::SystemClock::shared().unwrap();
    let begun = secret_resolver::Clock::now(&clock);
    for number in 0..10 {
        let name = format!("g/{number}");
        store.set(&name, "read");
        resolver.get(&name).await.unwrap();
    }
    let took = secret_resolver::Clock::now(&clock).since(begun);
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}
