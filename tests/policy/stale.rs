//! Stale values: for how long, for which errors and names, and what ends them before.

use super::*;

#[tokio::test]
async fn stale_is_served_within_its_limit_marked_counted_and_reported() {
    let reports = Reports::default();
    let bench = bench(|builder, _| {
        builder
            .serve_stale_up_to(STALE)
            .on_downgrade(reports.callback())
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
    let freshness = Freshness::Stale { by };
    let reported = (NAME.to_owned(), freshness, ErrorKind::Unavailable);
    assert_eq!(reports.all(), [reported]);

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
async fn a_stale_limit_holds_for_its_prefix_alone() {
    let bench = bench(|builder, _| builder.serve_stale_up_to_for("prod/db", STALE));
    // Whole segments: this one is not below the path, though it begins as it does.
    bench.primary.set("prod/dbx", "x");
    bench.text().await.unwrap();
    bench.resolver.get("prod/dbx").await.unwrap();
    bench.clock.advance(TTL);
    bench.fail(ErrorKind::Unavailable);
    assert!(stale(bench.text().await));
    let other = bench.resolver.get("prod/dbx").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unavailable);
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
async fn a_refusal_by_the_store_ends_what_is_held_even_for_a_later_outage() {
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
