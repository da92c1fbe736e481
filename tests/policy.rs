//! What the two exceptions allow, and everything that they do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{ErrorKind, Freshness, Resolver, ResolverBuilder, SystemClock};

const NAME: &str = "prod/db#password";
const TTL: Duration = Duration::from_secs(300);
const STALE: Duration = Duration::from_secs(60);

struct Bench {
    clock: ManualClock,
    primary: MockBackend,
    fallback: MockBackend,
    resolver: Resolver,
}

fn bench(configure: impl FnOnce(ResolverBuilder, MockBackend) -> ResolverBuilder) -> Bench {
    let clock = ManualClock::new();
    let primary = MockBackend::new()
        .with_value(NAME, "primary")
        .with_clock(clock.clone());
    let fallback = MockBackend::new()
        .with_value(NAME, "fallback")
        .with_clock(clock.clone());
    let builder = Resolver::builder(primary.clone())
        .with_attempts(1)
        .with_clock(clock.clone());
    let resolver = configure(builder, fallback.clone()).build().unwrap();
    Bench {
        clock,
        primary,
        fallback,
        resolver,
    }
}

impl Bench {
    async fn text(&self) -> Result<(String, Freshness), ErrorKind> {
        let secret = self
            .resolver
            .get(NAME)
            .await
            .map_err(|error| error.kind())?;
        let freshness = secret.answer().freshness();
        Ok((secret.expose_str().unwrap().to_owned(), freshness))
    }

    fn fail(&self, kind: ErrorKind) {
        self.primary.always(Reply::Error(kind));
    }
}

fn stale(bench: Result<(String, Freshness), ErrorKind>) -> bool {
    matches!(bench, Ok((text, Freshness::Stale { .. })) if text == "primary")
}

#[tokio::test]
async fn by_default_a_failed_get_asks_nobody_else() {
    for kind in ErrorKind::ALL {
        let bench = bench(|builder, fallback| builder.dangerous_fallback_to_for("dev", fallback));
        bench.text().await.unwrap();
        bench.clock.advance(TTL);
        bench.fail(kind);
        assert_eq!(bench.text().await, Err(kind));
        assert_eq!(bench.fallback.calls(), 0);
    }
}

#[tokio::test]
async fn stale_is_served_within_its_limit_marked_counted_and_reported() {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let bench = bench(|builder, _| {
        builder
            .serve_stale_up_to(STALE)
            .on_downgrade(move |downgrade| {
                let name = downgrade.name.as_str().to_owned();
                seen.lock()
                    .unwrap()
                    .push((name, downgrade.freshness, downgrade.cause));
            })
    });
    let expires = bench
        .resolver
        .get(NAME)
        .await
        .unwrap()
        .answer()
        .expires_at()
        .unwrap();
    bench.fail(ErrorKind::Unavailable);
    let now = secret_resolver::Clock::now(&bench.clock);
    bench
        .clock
        .advance(expires.since(now) + Duration::from_secs(1));

    let by = Duration::from_secs(1);
    assert_eq!(
        bench.text().await,
        Ok(("primary".into(), Freshness::Stale { by }))
    );
    assert_eq!(bench.resolver.status().stale_answers, 1);
    let reported = [(
        NAME.to_owned(),
        Freshness::Stale { by },
        ErrorKind::Unavailable,
    )];
    assert_eq!(*reports.lock().unwrap(), reported);

    bench.clock.advance(STALE - by);
    assert_eq!(bench.text().await, Err(ErrorKind::Unavailable));
    assert_eq!(bench.resolver.status().entries, 0);
}

#[tokio::test]
async fn stale_is_served_only_for_errors_that_may_pass() {
    for kind in ErrorKind::ALL {
        let bench = bench(|builder, _| builder.serve_stale_up_to(STALE));
        bench.text().await.unwrap();
        bench.clock.advance(TTL);
        bench.fail(kind);
        assert_eq!(stale(bench.text().await), kind.permits().stale, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refusal_by_the_store_ends_what_is_held_also_for_a_later_outage() {
    for kind in [ErrorKind::Denied, ErrorKind::NotFound] {
        let bench = bench(|builder, _| builder.serve_stale_up_to(STALE));
        bench.text().await.unwrap();
        bench.clock.advance(TTL);
        bench.fail(kind);
        assert_eq!(bench.text().await, Err(kind));
        bench.clock.advance(Duration::from_secs(6));
        bench.fail(ErrorKind::Unavailable);
        assert_eq!(bench.text().await, Err(ErrorKind::Unavailable));
    }
}

#[tokio::test]
async fn an_invalidated_value_is_never_served_stale() {
    let bench = bench(|builder, _| builder.serve_stale_up_to(STALE));
    bench.text().await.unwrap();
    bench.clock.advance(TTL);
    bench.fail(ErrorKind::Unavailable);
    assert!(stale(bench.text().await));
    bench.resolver.invalidator().invalidate(NAME).unwrap();
    assert_eq!(bench.text().await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_value_is_not_served_stale_past_its_lease() {
    let bench = bench(|builder, _| builder.serve_stale_up_to(TTL));
    bench.primary.set_lease(NAME, Duration::from_secs(10));
    bench.text().await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    bench.fail(ErrorKind::Unavailable);
    assert_eq!(bench.text().await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_stale_limit_holds_for_its_prefix_alone() {
    let bench = bench(|builder, _| builder.serve_stale_up_to_for("prod/db", STALE));
    bench.primary.set("prod/other", "x");
    bench.text().await.unwrap();
    bench.resolver.get("prod/other").await.unwrap();
    bench.clock.advance(TTL);
    bench.fail(ErrorKind::Unavailable);
    assert!(stale(bench.text().await));
    let other = bench.resolver.get("prod/other").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_fallback_is_asked_only_in_an_outage_and_its_answer_is_marked() {
    for kind in ErrorKind::ALL {
        let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
        bench.fail(kind);
        let expected = match kind.permits().fallback {
            true => Ok(("fallback".to_owned(), Freshness::Fallback)),
            false => Err(kind),
        };
        assert_eq!(bench.text().await, expected);
        let asked = usize::from(kind.permits().fallback);
        assert_eq!(bench.fallback.calls(), asked, "{kind:?}");
        assert_eq!(bench.resolver.status().fallback_answers, asked as u64);
    }
}

#[tokio::test]
async fn stale_comes_before_the_fallback() {
    let bench = bench(|builder, fallback| {
        builder
            .serve_stale_up_to(STALE)
            .dangerous_fallback_to(fallback)
    });
    bench.text().await.unwrap();
    bench.clock.advance(TTL);
    bench.fail(ErrorKind::Unavailable);
    assert!(stale(bench.text().await));
    assert_eq!(bench.fallback.calls(), 0);
    bench.clock.advance(STALE);
    assert_eq!(
        bench.text().await,
        Ok(("fallback".into(), Freshness::Fallback))
    );
}

#[tokio::test]
async fn a_fallbacks_answer_neither_replaces_nor_outlives_the_primarys() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    assert_eq!(bench.text().await.unwrap().1, Freshness::Fallback);
    bench.primary.always(None);
    // The primary is back: it is asked first, though the fallback's answer is still young.
    assert_eq!(bench.text().await, Ok(("primary".into(), Freshness::Fresh)));
}

#[tokio::test]
async fn one_failed_refresh_never_puts_a_fallbacks_value_over_a_live_one() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.text().await.unwrap();
    bench.fail(ErrorKind::Unavailable);
    // In the last fifth of its life: the next get asks for a refresh, which fails.
    bench.clock.advance(TTL * 85 / 100);
    for _ in 0..10 {
        assert_eq!(bench.text().await, Ok(("primary".into(), Freshness::Fresh)));
    }
    bench.primary.called(2).await;
    assert_eq!(bench.text().await, Ok(("primary".into(), Freshness::Fresh)));
    assert_eq!(bench.fallback.calls(), 0);
}

#[tokio::test]
async fn a_fallback_that_fails_leaves_the_primarys_error() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Timeout);
    bench.fallback.always(Reply::Error(ErrorKind::Denied));
    assert_eq!(bench.text().await, Err(ErrorKind::Timeout));
}

#[tokio::test]
async fn a_fallback_that_hangs_does_not_hold_a_get_past_its_deadline() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    bench.fallback.always(Reply::Hang);
    let get = bench.resolver.get(NAME);
    let advance = async {
        bench.fallback.called(1).await;
        bench.clock.advance(Duration::from_secs(5));
    };
    let (answer, ()) = tokio::join!(get, advance);
    assert!(matches!(
        answer.unwrap_err().kind(),
        ErrorKind::Timeout | ErrorKind::Unavailable
    ));
}

#[tokio::test]
async fn an_invalidation_reaches_the_fallbacks_answers_too() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    bench.text().await.unwrap();
    bench.text().await.unwrap();
    assert_eq!(bench.fallback.calls(), 1);
    bench.fallback.set(NAME, "rotated");
    bench.resolver.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        bench.text().await,
        Ok(("rotated".into(), Freshness::Fallback))
    );
}

#[tokio::test]
async fn a_callback_that_panics_costs_nobody_the_answer() {
    let bench = bench(|builder, fallback| {
        builder
            .dangerous_fallback_to(fallback)
            .on_downgrade(|_| panic!("of the test's own making"))
    });
    bench.fail(ErrorKind::Unavailable);
    assert_eq!(
        bench.text().await,
        Ok(("fallback".into(), Freshness::Fallback))
    );
}

#[tokio::test]
async fn batches_follow_the_same_policy_name_by_name() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to_for("prod/db", fallback));
    bench.fail(ErrorKind::Unavailable);
    let answers = bench.resolver.get_many(&[NAME, "prod/token"]).await;
    assert_eq!(
        answers[0].as_ref().unwrap().answer().freshness(),
        Freshness::Fallback
    );
    assert_eq!(
        answers[1].as_ref().unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[test]
fn limits_and_prefixes_that_make_no_sense_are_refused() {
    let builder = || Resolver::builder(MockBackend::new());
    for builder in [
        builder().serve_stale_up_to(Duration::MAX),
        builder().serve_stale_up_to_for("a//b", STALE),
        builder().with_ttl_for("a#b", TTL),
        builder().with_ttl_for("a", Duration::ZERO),
        builder().dangerous_fallback_to_for("/", MockBackend::new()),
        builder().with_settle_time(Duration::MAX),
    ] {
        assert_eq!(
            builder.build().unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
}

#[tokio::test]
async fn a_batch_that_waits_for_the_fallback_answers_nothing_that_was_invalidated_meanwhile() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.text().await.unwrap();
    bench
        .primary
        .script("other/name", [Reply::Error(ErrorKind::Unavailable)]);
    bench.fallback.set("other/name", "from-the-fallback");
    let gate = secret_resolver::testing::Gate::new();
    bench
        .fallback
        .script("other/name", [gate.then(Reply::Stored)]);
    let names = [NAME, "other/name"];
    let rotate = async {
        bench.fallback.called(1).await;
        bench.primary.set(NAME, "rotated");
        bench.resolver.invalidator().invalidate(NAME).unwrap();
        gate.open();
    };
    let (answers, ()) = tokio::join!(bench.resolver.get_many(&names), rotate);
    assert_eq!(
        answers[0].as_ref().unwrap().expose_str().unwrap(),
        "rotated"
    );
}

#[tokio::test]
async fn a_fallback_that_hangs_costs_a_batch_only_its_own_name() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.text().await.unwrap();
    bench
        .primary
        .script("other/name", [Reply::Error(ErrorKind::Unavailable)]);
    bench.fallback.always(Reply::Hang);
    let names = [NAME, "other/name"];
    let pass = async {
        bench.fallback.called(1).await;
        bench.clock.advance(Duration::from_secs(5));
    };
    let (answers, ()) = tokio::join!(bench.resolver.get_many(&names), pass);
    assert_eq!(
        answers[0].as_ref().unwrap().expose_str().unwrap(),
        "primary"
    );
    assert!(answers[1].is_err());
}

#[tokio::test]
async fn a_flood_of_cold_names_on_a_healthy_store_asks_no_fallback_and_opens_no_breaker() {
    // In real time: the store answers 64 at a time, each after a tenth of a second, so by far not
    // all of the names fit into the 4 s of a fetch.
    let clock = SystemClock::start().unwrap();
    let store = MockBackend::new().with_clock(clock.clone());
    let fallback = MockBackend::new();
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock)
        .dangerous_fallback_to(fallback.clone())
        .build()
        .unwrap();
    let names: Vec<String> = (0..10_000).map(|number| format!("cold/{number}")).collect();
    for name in &names {
        store.set(name, "value");
    }
    store.always(Reply::Delay(
        Duration::from_millis(100),
        Box::new(Reply::Stored),
    ));
    let gets = names.into_iter().map(|name| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.get(&name).await })
    });
    let mut answered = 0;
    for get in gets.collect::<Vec<_>>() {
        match get.await.unwrap() {
            Ok(secret) => {
                assert_eq!(secret.answer().freshness(), Freshness::Fresh);
                answered += 1;
            }
            // Timeout where the caller's own deadline came before the end of the fetch.
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::Overloaded | ErrorKind::Timeout),
                    "{kind:?}"
                );
            }
        }
    }
    assert!((64..10_000).contains(&answered), "{answered} were answered");
    assert_eq!(fallback.calls(), 0);
    let status = resolver.status();
    assert_eq!(status.fallback_answers, 0);
    let closed = secret_resolver::layers::BreakerState::Closed;
    assert!(
        status
            .breakers
            .iter()
            .all(|breaker| breaker.state == closed),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_store_that_is_away_takes_no_other_stores_names_with_it() {
    let clock = ManualClock::new();
    let primary = MockBackend::new().with_value("prod/token", "primary");
    let routed = MockBackend::new().with_value("legacy/token", "routed");
    let resolver = Resolver::builder(primary.clone())
        .with_attempts(1)
        .with_clock(clock.clone())
        .with_route("legacy", routed.clone())
        .build()
        .unwrap();
    primary.always(Reply::Error(ErrorKind::Unavailable));
    for number in 0..20 {
        let away = resolver.get(&format!("prod/{number}")).await.unwrap_err();
        assert_eq!(away.kind(), ErrorKind::Unavailable);
    }
    // Its breaker is open: it was asked five times, and says so in the status.
    assert_eq!(primary.calls(), 5);
    assert_eq!(resolver.status().breakers.len(), 2);
    assert_eq!(
        resolver
            .get("legacy/token")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "routed"
    );
    assert!(resolver.get("legacy/none").await.is_err());
    primary.always(None);
    clock.advance(Duration::from_secs(15));
    assert_eq!(
        resolver
            .get("prod/token")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "primary"
    );
}

#[tokio::test]
async fn a_fetch_that_fails_for_a_moment_is_tried_again_within_its_budget() {
    let clock = ManualClock::new();
    let store = MockBackend::new().with_value(NAME, "primary");
    let failures = [
        Reply::Error(ErrorKind::Unavailable),
        Reply::Error(ErrorKind::Timeout),
    ];
    store.script(NAME, failures);
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let mut get = Box::pin(resolver.get(NAME));
    let secret = loop {
        match tokio::time::timeout(Duration::from_millis(1), &mut get).await {
            Ok(secret) => break secret.unwrap(),
            // Back-offs of at most 50 and 100 ms; the get has 5 s.
            Err(_) => clock.advance(Duration::from_millis(10)),
        }
    };
    assert_eq!(secret.expose_str().unwrap(), "primary");
    assert_eq!(store.calls(), 3);
}

#[tokio::test]
async fn a_scoped_resolver_never_leaves_its_path() {
    let store = MockBackend::new()
        .with_value("tenants/42/db#password", "theirs")
        .with_value("tenants/43/db#password", "another's");
    let resolver = Resolver::builder(store).build().unwrap();
    let scoped = resolver.scoped("tenants/42").unwrap();
    use secret_resolver::SecretResolverExt as _;
    assert_eq!(
        scoped
            .get("db#password")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "theirs"
    );
    for name in [
        "../43/db#password",
        "/tenants/43/db#password",
        "tenants/43/db#password",
    ] {
        assert!(scoped.get(name).await.is_err(), "{name}");
    }
    assert!(resolver.scoped("a#b").is_err());
}

#[test]
fn the_status_tells_which_exceptions_and_which_memory_are_in_force() {
    let closed = bench(|builder, _| builder).resolver.status();
    assert!(!closed.stale_allowed && !closed.fallback_named);
    assert_eq!(closed.memory, secret_resolver::MemoryKind::WipedHeap);
    assert_eq!(closed.login_ends, None);
    let open = bench(|builder, fallback| {
        builder
            .serve_stale_up_to_for("a", STALE)
            .dangerous_fallback_to_for("b", fallback)
    });
    let open = open.resolver.status();
    assert!(open.stale_allowed && open.fallback_named);
}

#[tokio::test]
async fn a_store_that_hangs_opens_its_breaker_however_short_the_deadline_is() {
    let clock = ManualClock::new();
    let store = MockBackend::new().with_value(NAME, "primary");
    store.always(Reply::Hang);
    let resolver = Resolver::builder(store.clone())
        .with_attempts(1)
        .with_deadline(Duration::from_secs(1))
        .with_clock(clock.clone())
        .build()
        .unwrap();
    for call in 1..=5 {
        let pass = async {
            store.called(call).await;
            clock.advance(Duration::from_millis(900));
        };
        let (answer, ()) = tokio::join!(resolver.get(NAME), pass);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(
        resolver.get(NAME).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(store.calls(), 5);
}

#[tokio::test]
async fn a_request_for_a_version_asks_no_fallback() {
    use secret_resolver::{NameRef, Request, SecretResolver as _, Version};
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    let version = Version::number(1);
    let request = Request::new(NameRef::parse(NAME).unwrap());
    for request in [request.with_version(&version), request.at_least(&version)] {
        let error = bench.resolver.resolve(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(bench.fallback.calls(), 0);
    assert_eq!(bench.resolver.status().fetches, 2);
}

#[tokio::test]
async fn a_floor_is_one_of_the_primarys_versions_alone() {
    use secret_resolver::Version;
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    let invalidator = bench.resolver.invalidator();
    invalidator
        .invalidate_below_version(NAME, &Version::number(5))
        .unwrap();
    assert_eq!(bench.text().await, Err(ErrorKind::Refused));
    bench.fail(ErrorKind::Unavailable);
    assert_eq!(
        bench.text().await,
        Ok(("fallback".into(), Freshness::Fallback))
    );
}
