//! What is reported about the work, and that no value is in it. One test, because it listens to the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{BreakerConfig, ErrorKind, LimitConfig, Resolver, SecretResolver, Version};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

const NAME: &str = "prod/db#password";

/// Keeps every event and span as a line of text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut text = Text(format!("span {}", span.metadata().name()));
        span.record(&mut text);
        self.0
            .lock()
            .unwrap()
            .push((*span.metadata().level(), text.0));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0
            .lock()
            .unwrap()
            .push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Lines {
    fn with(&self, part: &str) -> Vec<Level> {
        let lines = self.0.lock().unwrap();
        let found = lines
            .iter()
            .filter(|(_, line)| line.starts_with("secret_resolver::audit") && line.contains(part));
        found.map(|&(level, _)| level).collect()
    }

    fn all(&self) -> String {
        format!("{:?}", self.0.lock().unwrap())
    }
}

/// Counts what goes through the facade; one for the whole process, as an application installs it.
#[cfg(feature = "metrics")]
mod facade {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
        Recorder, SharedString, Unit,
    };

    #[derive(Clone, Default)]
    pub(crate) struct Facade(pub(crate) Arc<Mutex<BTreeMap<String, u64>>>);

    struct Cell(Facade, String);

    impl Cell {
        fn change(&self, change: impl FnOnce(&mut u64)) {
            change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
        }
    }

    impl CounterFn for Cell {
        fn increment(&self, by: u64) {
            self.change(|count| *count += by);
        }

        fn absolute(&self, value: u64) {
            self.change(|count| *count = value);
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers"
    )]
    impl GaugeFn for Cell {
        fn increment(&self, by: f64) {
            self.change(|value| *value += by as u64);
        }

        fn decrement(&self, by: f64) {
            self.change(|value| *value -= by as u64);
        }

        fn set(&self, to: f64) {
            self.change(|value| *value = to as u64);
        }
    }

    impl HistogramFn for Cell {
        fn record(&self, _: f64) {
            self.change(|count| *count += 1);
        }
    }

    fn text(key: &Key) -> String {
        let labels = key
            .labels()
            .map(|label| format!(",{}={}", label.key(), label.value()));
        format!("{}{}", key.name(), labels.collect::<String>())
    }

    impl Recorder for Facade {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(Cell(self.clone(), text(key))))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(Cell(self.clone(), text(key))))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(Cell(self.clone(), text(key))))
        }
    }
}

/// Waits until something is so; if it never is, the test fails.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), wait).await;
    ended.unwrap_or_else(|_| panic!("it was not so within 10 s"));
}

/// One test, because the subscriber and the recorder are the process's.
#[tokio::test]
async fn every_fetch_refusal_downgrade_and_invalidation_is_reported_and_no_value_is() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    #[cfg(feature = "metrics")]
    let facade = facade::Facade::default();
    #[cfg(feature = "metrics")]
    metrics::set_global_recorder(facade.clone())
        .map_err(|_| "installed twice")
        .unwrap();

    let clock = ManualClock::strict();
    let store = MockBackend::new()
        .with_value(NAME, "canary-4711")
        .with_clock(clock.clone());
    let fallback = MockBackend::new().with_value(NAME, "canary-4712");
    let resolver = Resolver::builder(store.clone())
        .with_attempts(1)
        .with_clock(clock.clone())
        .dangerous_fallback_to(fallback)
        .on_downgrade(|_| panic!("of the test's own making"))
        .serve_stale_up_to_for("prod/stale", Duration::from_secs(60))
        .build()
        .unwrap();
    for _ in 0..5 {
        resolver.get(NAME).await.unwrap();
    }
    resolver.get("none/such").await.unwrap_err();
    store.script("prod/denied", [Reply::Error(ErrorKind::Denied)]);
    resolver.get("prod/denied").await.unwrap_err();
    resolver.invalidator().invalidate(NAME).unwrap();
    store.script(NAME, [Reply::Error(ErrorKind::Unavailable)]);
    resolver.get(NAME).await.unwrap();

    // An event comes when the answer is out already.
    until(|| lines.with("name=").len() >= 10).await;
    assert_eq!(lines.with("message=fetched"), [Level::INFO, Level::INFO]);
    assert_eq!(lines.with("message=hit"), [Level::TRACE; 4]);
    // One failure a second is a warning, with its text.
    assert_eq!(
        lines.with("message=not fetched"),
        [Level::WARN, Level::INFO, Level::INFO]
    );
    let why = "error=not found by mock: ";
    assert_eq!(lines.with(why), [Level::WARN], "{}", lines.all());
    assert_eq!(lines.with("message=invalidated"), [Level::INFO]);
    assert_eq!(lines.with("that the primary did not give"), [Level::WARN]);
    let of_fallback = "name=prod/db#password freshness=Fallback cause=Unavailable";
    assert_eq!(lines.with(of_fallback), [Level::WARN]);
    // By the primary, then by the fallback.
    assert_eq!(lines.with("message=fetched store=\"primary\"").len(), 1);
    assert_eq!(lines.with("message=fetched store=\"fallback\"").len(), 1);
    let fetched = lines.with("name=prod/db#password backend=\"mock\" version=Version(1)");
    assert_eq!(fetched.len(), 2);
    let status = resolver.status();
    assert_eq!(
        (status.hits, status.fetches, status.fallback_answers),
        (4, 4, 1)
    );

    // What is refused again without asking is reported quietly: a loop must not fill the log.
    resolver.get("prod/denied").await.unwrap_err();
    assert_eq!(lines.with("refused without asking"), [Level::DEBUG]);

    // A read of an exact version is reported, and counted, like every fetch.
    let (fetched, version) = (lines.with("message=fetched").len(), Version::number(1));
    let exact = Request::new(NameRef::parse(NAME).unwrap()).with_version(&version);
    resolver.resolve(exact).await.unwrap();
    until(|| lines.with("message=fetched").len() == fetched + 1).await;
    assert_eq!(resolver.status().fetches, status.fetches + 1);

    // A stale answer is reported like one of the fallback.
    store.set("prod/stale", "canary-4713");
    resolver.get("prod/stale").await.unwrap();
    clock.advance(Duration::from_secs(300));
    store.script("prod/stale", [Reply::Error(ErrorKind::Timeout)]);
    resolver.get("prod/stale").await.unwrap();
    until(|| lines.with("name=prod/stale").len() >= 3).await;
    assert_eq!(lines.with("that the primary did not give").len(), 2);
    let stale = lines.with("name=prod/stale freshness=Stale");
    assert_eq!(stale, [Level::WARN]);
    assert_eq!(lines.with("cause=Timeout"), [Level::WARN]);
    // By now a second has passed: a warning again, which counts those before it.
    assert_eq!(
        lines.with("name=prod/stale backend=\"mock\" kind=Timeout"),
        [Level::WARN]
    );
    assert_eq!(lines.with("others=2"), [Level::WARN]);
    assert_eq!(resolver.status().stale_answers, 1);

    // A second resolver of the process: its hits add to those of the first.
    let second = Resolver::builder(store)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    second.get("prod/stale").await.unwrap();
    for _ in 0..3 {
        second.get("prod/stale").await.unwrap();
    }
    second.get("none/such").await.unwrap_err();
    resolver.get("none/last").await.unwrap_err();
    second.get("none/last").await.unwrap_err();
    // No fetch comes after this hit, which would hand it on.
    second.get("prod/stale").await.unwrap();

    // A fetch that a breaker refuses, too, is a warning with its text, once a second.
    let away = MockBackend::new();
    away.always(Reply::Error(ErrorKind::Unavailable));
    let third = Resolver::builder(away.clone())
        .with_limit_for("lane", LimitConfig::default())
        .with_breaker(
            BreakerConfig::default().with_open(Duration::from_secs(15), Duration::from_secs(15)),
        )
        .dangerous_fallback_to_for(
            "lane/kept",
            MockBackend::new().with_value("lane/kept", "canary-4714"),
        )
        .with_attempts(1)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    for number in 0..5 {
        third.get(&format!("lane/{number}")).await.unwrap_err();
    }
    until(|| lines.with("name=lane/").len() == 5).await;
    clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        third.get("lane/refused").await.unwrap_err();
    }
    let refused = "name=lane/refused";
    until(|| lines.with(refused).len() == 2).await;
    assert_eq!(
        lines.with(refused),
        [Level::WARN, Level::DEBUG],
        "{}",
        lines.all()
    );
    // The second answer is of the fallback's cache, which is no hit.
    for _ in 0..2 {
        third.get("lane/kept").await.unwrap();
    }
    until(|| lines.with("name=lane/kept").len() >= 5).await;
    assert_eq!((away.calls(), third.status().fetches), (5, 5));

    let all = lines.all();
    assert!(
        all.contains("span secret_fetch name=prod/db#password"),
        "{all}"
    );
    assert!(!all.contains("canary"), "{all}");
    let panicked = all.matches("the on_downgrade callback panicked");
    assert_eq!(panicked.count(), 2, "{all}");
    // No version went back.
    assert!(!all.contains("created again"), "{all}");

    #[cfg(feature = "metrics")]
    {
        let counts = || facade.0.lock().unwrap().clone();
        let seconds = |store| format!("secret_resolver_fetch_seconds,store={store}");
        until(|| counts().get(&seconds("primary")) == Some(&16)).await;
        // Hits and gauges are reported every five seconds, whatever else happens.
        clock.advance(Duration::from_secs(5));
        until(|| counts().get("secret_resolver_hits_total") == Some(&8)).await;
        until(|| counts().contains_key("secret_resolver_entries")).await;
        // What has ended leaves nothing alone, however it ends.
        let open = "secret_resolver_breaker_open,store=primary,limit_for=lane,endpoint=0";
        until(|| counts().get(open) == Some(&1)).await;
        drop(third);
        until(|| counts().get(open) == Some(&0)).await;
        assert_eq!(counts()["secret_resolver_hits_total"], 8);
        let counts = counts();
        let expected = [
            ("secret_resolver_downgrades_total,how=fallback", 3),
            ("secret_resolver_downgrades_total,how=stale", 1),
            (
                "secret_resolver_fetches_total,store=primary,outcome=denied",
                1,
            ),
            (
                "secret_resolver_fetches_total,store=primary,outcome=not found",
                4,
            ),
            ("secret_resolver_fetches_total,store=primary,outcome=ok", 4),
            ("secret_resolver_fetches_total,store=fallback,outcome=ok", 2),
            (
                "secret_resolver_fetches_total,store=primary,outcome=timed out",
                1,
            ),
            (
                "secret_resolver_fetches_total,store=primary,outcome=unavailable",
                1 + 5,
            ),
            (
                "secret_resolver_breaker_open,store=primary,limit_for=,endpoint=0",
                0,
            ),
            ("secret_resolver_login_seconds,store=primary", 0),
            ("secret_resolver_bytes", counts["secret_resolver_bytes"]),
            ("secret_resolver_hits_total", 4 + 4),
            ("secret_resolver_invalidations_total,how=name", 1),
        ];
        for (key, count) in expected {
            assert_eq!(counts.get(key), Some(&count), "{key} in {counts:?}");
        }
        assert!(
            !format!("{counts:?}").contains("prod"),
            "a name is a label: {counts:?}"
        );
    }
}
