//! A store that asks to be left alone, and what a breaker says on its behalf.

use super::*;
use crate::testing::Gate;

fn asks(kind: ErrorKind, wait: Duration) -> Error {
    Error::new(kind, "asked for by the test").with_retry_after(wait)
}

#[test]
fn a_store_that_asks_to_be_left_alone_is_so_from_the_first_answer_on_for_all() {
    use ErrorKind::{Malformed, Refused, Throttled, Timeout, Unavailable};
    for kind in [Throttled, Unavailable, Timeout, Malformed, Refused] {
        let bench = bench(1);
        // A name that is known has no place before the time is over, either.
        bench.ask().unwrap();
        bench.says(0, asks(kind, secs(10)));
        assert!(!bench.ask_for("first/one").unwrap_err().is_held_back());
        let refusal = bench.ask().unwrap_err();
        assert_eq!(refusal.retry_after(), Some(secs(10)));
        let outage = kind.permits().counts_for_breaker;
        assert_eq!(refusal.kind(), if outage { Unavailable } else { kind });
        assert!(refusal.to_string().contains("left alone"), "{refusal}");
        for millis in [5_000, 4_999] {
            bench.clock.advance(Duration::from_millis(millis));
            bench.breaker.monitor().allow_trial();
            assert!(bench.refuses(), "{kind:?}");
            assert!(bench.ask().unwrap_err().is_held_back(), "{kind:?}");
        }
        bench.clock.advance(Duration::from_millis(1));
        // Then one trial as usual, and it may get the same answer again.
        assert!(!bench.ask_for("a/trial").unwrap_err().is_held_back());
        assert_eq!(bench.ask().unwrap_err().retry_after(), Some(secs(10)));
        bench.says(0, None);
        bench.clock.advance(secs(10));
        bench.ask().unwrap();
        assert_eq!(bench.state(0), BreakerState::Closed);
    }
}

#[test]
fn a_store_is_left_alone_for_a_minute_at_most_and_for_a_first_opening_at_least() {
    for (asked, wait) in [
        (secs(3600), secs(60)),
        (Duration::MAX, secs(60)),
        (Duration::from_nanos(1), secs(1)),
    ] {
        let bench = bench(1);
        bench.says(0, asks(ErrorKind::Throttled, asked));
        let _ = bench.ask();
        assert_eq!(bench.ask().unwrap_err().retry_after(), Some(wait));
    }
    // A delay of zero is not a wish.
    let bench = bench(1);
    bench.says(0, asks(ErrorKind::Throttled, Duration::ZERO));
    assert!((0..50).all(|_| !bench.refuses()));
}

#[test]
fn a_quota_that_is_used_up_again_and_again_leaves_the_store_alone_whatever_others_get() {
    let bench = bench(1);
    let throttled = Error::new(ErrorKind::Throttled, "too many");
    let round = |from: usize, names: usize| {
        for number in from..from + names {
            bench.says(0, throttled.clone());
            assert!(!bench.refuses_for(&format!("n/{number}")), "{number}");
            bench.says(0, None);
            bench.ask().unwrap();
        }
    };
    // Within a second, twenty names: nineteen are not enough, and what was before is forgotten.
    round(0, 19);
    bench.clock.advance(secs(1));
    round(19, 19);
    bench.says(0, throttled.clone());
    assert!(!bench.refuses_for("n/37"));
    assert!(!bench.refuses_for("n/38"));
    assert!((0..50).all(|_| bench.refuses()));
    assert_eq!(bench.ask().unwrap_err().kind(), ErrorKind::Throttled);
    bench.says(0, None);
    bench.clock.advance(secs(1));
    bench.ask().unwrap();
}

#[test]
fn a_delay_of_logins_or_of_one_name_leaves_no_store_alone() {
    use ErrorKind::{Denied, NotFound, Overloaded, Unauthenticated};
    for kind in [Denied, NotFound, Overloaded, Unauthenticated] {
        let bench = bench(1);
        bench.says(0, asks(kind, secs(10)));
        assert!((0..50).all(|_| !bench.refuses()), "{kind:?}");
    }
}

#[test]
fn the_wish_of_one_endpoint_is_not_that_of_the_others() {
    let bench = bench(3);
    bench.says(1, asks(ErrorKind::Throttled, secs(10)));
    let failed = (0..300).filter(|_| bench.ask().is_err()).count();
    assert_eq!((failed, bench.fleet.calls()[1]), (1, 1));
}

#[test]
fn a_wish_that_comes_late_holds_and_no_earlier_answer_shortens_it() {
    let bench = bench(1);
    bench.ask().unwrap();
    bench.open();
    bench.clock.advance(secs(1));
    // The trial, and beside it the name that is known.
    let (gate, good) = (Gate::new(), Gate::new());
    bench.all(gate.then(Reply::Stored));
    let mut trial = bench.start_for("a/trial");
    assert!(poll(&mut trial).is_pending());
    bench.all(good.then(Reply::Stored));
    let mut known = bench.start();
    assert!(poll(&mut known).is_pending());
    gate.open();
    let _ = poll(&mut trial);
    assert_eq!(bench.state(0), BreakerState::Closed);
    // It began long before the breaker closed, but it is about now.
    let endpoint = &mut lock(&bench.breaker.turns.state).endpoints[0];
    let config = BreakerConfig::default();
    let now = bench.clock.now();
    let late = endpoint.admit(1, false, now, &config).unwrap();
    let later = endpoint.admit(2, false, now, &config).unwrap();
    let wish = |secs| Evidence::Bad(ErrorKind::Throttled, Some(self::secs(secs)));
    assert!(endpoint.settle(late, wish(10), now, &config).is_some());
    for evidence in [wish(3), Evidence::Good, Evidence::Nothing] {
        assert_eq!(endpoint.settle(later, evidence, now, &config), None);
        assert_eq!(endpoint.admits_at(false, &config), now + secs(10));
    }
    assert_eq!(endpoint.settle(later, wish(20), now, &config), None);
    assert_eq!(endpoint.admits_at(false, &config), now + secs(20));
}

#[test]
fn endpoints_that_are_closed_for_different_reasons_are_an_outage_only_if_all_are_away() {
    use ErrorKind::{Malformed, Throttled, Timeout, Unavailable};
    for (first, second, kind_of_both) in [
        ((Timeout, 9), (Unavailable, 3), Unavailable),
        ((Unavailable, 3), (Malformed, 9), Malformed),
        ((Throttled, 9), (Unavailable, 3), Throttled),
        ((Throttled, 9), (Malformed, 3), Malformed),
        ((Throttled, 3), (Malformed, 9), Throttled),
    ] {
        let bench = bench(2);
        for (endpoint, (kind, wait)) in [first, second].into_iter().enumerate() {
            bench.says(endpoint, asks(kind, secs(wait)));
            let _ = now(bench.breaker.resolve(request().at_endpoint(endpoint)));
        }
        let refused = bench.ask().unwrap_err();
        assert_eq!(
            (refused.kind(), refused.retry_after()),
            (kind_of_both, Some(secs(3)))
        );
        assert!(refused.is_held_back());
    }
}

#[test]
fn an_outage_in_which_a_known_name_gets_a_useless_answer_does_not_count_as_one() {
    let bench = bench(1);
    bench.ask().unwrap();
    bench.open();
    bench.clock.advance(secs(1));
    bench.all(Reply::Hang);
    let mut trial = bench.start_for("a/trial");
    assert!(poll(&mut trial).is_pending());
    // Past the time for which others wait for a trial.
    bench.clock.advance(secs(1));
    assert_eq!(
        bench.ask_for("b").unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    bench.all(Reply::Error(ErrorKind::Malformed));
    assert_eq!(bench.kind(), Some(ErrorKind::Malformed));
    assert_eq!(bench.ask_for("b").unwrap_err().kind(), ErrorKind::Malformed);
}
