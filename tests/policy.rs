//! What the two exceptions allow, and everything that they do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{ErrorKind, Freshness, Resolver, ResolverBuilder};

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
