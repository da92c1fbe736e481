//! The fallback: when it is asked, what its answer may not do, and that it holds nobody up.

use secret_resolver::{Address, Error, Invalidator, Version};

use super::*;

type Signal = fn(&Invalidator) -> Result<usize, Error>;

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
async fn every_answer_of_a_fallback_is_reported_with_its_name_and_its_cause() {
    let reports = Reports::default();
    let bench = bench(|builder, fallback| {
        builder
            .dangerous_fallback_to(fallback)
            .on_downgrade(reports.callback())
    });
    bench.fail(ErrorKind::Timeout);
    bench.text().await.unwrap();
    // From the fallback's cache, and reported anyway.
    bench.fail(ErrorKind::Unavailable);
    bench.text().await.unwrap();
    assert_eq!(bench.fallback.calls(), 1);
    let report = |cause| (NAME.to_owned(), Freshness::Fallback, cause);
    let causes = [ErrorKind::Timeout, ErrorKind::Unavailable];
    assert_eq!(reports.all(), causes.map(report));
}

#[tokio::test]
async fn a_fallback_that_fails_leaves_the_primarys_error() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Timeout);
    bench.fallback.always(Reply::Error(ErrorKind::Denied));
    assert_eq!(bench.text().await, Err(ErrorKind::Timeout));
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
async fn batches_follow_the_same_policy_name_by_name() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to_for("prod/db", fallback));
    bench.fail(ErrorKind::Unavailable);
    let names = [NAME, "prod/token", "prod/dbx"];
    let answers = bench.resolver.get_many(&names).await;
    assert_eq!(
        answers[0].as_ref().unwrap().answer().freshness(),
        Freshness::Fallback
    );
    for answer in &answers[1..] {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(bench.fallback.calls(), 1);
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
async fn a_fallbacks_answer_neither_replaces_nor_outlives_the_primarys() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    assert_eq!(bench.text().await.unwrap().1, Freshness::Fallback);
    bench.primary.always(None);
    // The primary is back: it is asked first, although the fallback's answer is still young.
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
    // Only what is asked from here on is asked after the failure.
    bench.landed().await;
    assert_eq!(bench.text().await, Ok(("primary".into(), Freshness::Fresh)));
    assert_eq!((bench.primary.calls(), bench.fallback.calls()), (2, 0));
}

#[tokio::test]
async fn a_fallback_is_asked_again_after_two_seconds_of_an_outage() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    for asked in 1..=3 {
        let value = format!("the {asked}. value");
        bench.fallback.set(NAME, &value);
        assert_eq!(bench.text().await, Ok((value, Freshness::Fallback)));
        assert_eq!(bench.fallback.calls(), asked);
        bench.clock.advance(Duration::from_secs(2));
    }
}

#[tokio::test]
async fn an_invalidation_reaches_the_fallbacks_answers_too() {
    let signals: [Signal; 5] = [
        |signal| signal.invalidate(NAME),
        |signal| signal.invalidate_address(&Address::from("prod/db")),
        |signal| signal.invalidate_prefix("prod"),
        |signal| signal.invalidate_all(),
        |signal| signal.invalidate_below_version(NAME, &Version::number(1)),
    ];
    for (number, signal) in signals.into_iter().enumerate() {
        let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
        bench.fail(ErrorKind::Unavailable);
        bench.text().await.unwrap();
        bench.text().await.unwrap();
        assert_eq!(bench.fallback.calls(), 1);
        bench.fallback.set(NAME, "rotated");
        assert_eq!(signal(&bench.resolver.invalidator()).unwrap(), 1);
        let rotated = ("rotated".to_owned(), Freshness::Fallback);
        assert_eq!(bench.text().await, Ok(rotated), "after signal {number}");
    }
}

#[tokio::test]
async fn a_request_for_a_version_asks_no_fallback() {
    use secret_resolver::SecretResolver as _;
    use secret_resolver::backend::{NameRef, Request};
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
async fn a_fallback_that_hangs_leaves_the_primarys_error_before_the_callers_deadline() {
    let bench = bench(|builder, fallback| builder.dangerous_fallback_to(fallback));
    bench.fail(ErrorKind::Unavailable);
    bench.fallback.always(Reply::Hang);
    let pass = async {
        bench.fallback.called(1).await;
        // The fallback has a fifth of the caller's five seconds.
        bench.clock.advance(Duration::from_secs(1));
    };
    let (answer, ()) = within(async { tokio::join!(bench.text(), pass) }).await;
    assert_eq!(answer, Err(ErrorKind::Unavailable));
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
