//! What counts as a failure, what as a sign of life, and what as neither.

use super::*;
use crate::layers::Deadline;
use crate::testing::Gate;

#[test]
fn only_what_the_table_says_counts() {
    for kind in ErrorKind::ALL {
        let bench = bench(1);
        bench.all(Reply::Error(kind));
        for _ in 0..50 {
            let _ = bench.ask();
        }
        assert_eq!(
            bench.refuses(),
            kind.permits().counts_for_breaker,
            "{kind:?}"
        );
    }
}

/// Useless answers of a store.
const USELESS: [ErrorKind; 4] = [
    ErrorKind::Throttled,
    ErrorKind::Unauthenticated,
    ErrorKind::Malformed,
    ErrorKind::Refused,
];

#[test]
fn what_the_store_answered_is_a_sign_of_life_and_what_we_decided_is_not() {
    use ErrorKind::{Closed, InvalidName, Misconfigured, Overloaded};
    for kind in ErrorKind::ALL {
        if kind.permits().counts_for_breaker || USELESS.contains(&kind) {
            continue;
        }
        let ours = matches!(kind, Overloaded | InvalidName | Misconfigured | Closed);
        let bench = bench(1);
        bench.fail();
        (0..4).for_each(|_| drop(bench.ask()));
        bench.all(Reply::Error(kind));
        let _ = bench.ask();
        assert_eq!(bench.failures(), if ours { 4 } else { 0 }, "{kind:?}");
        // As a trial: our own decision gives the place back, an answer closes it.
        let bench = self::bench(1);
        bench.open();
        bench.clock.advance(secs(1));
        bench.all(Reply::Error(kind));
        let _ = bench.ask();
        let after = match ours {
            true => BreakerState::HalfOpen { trial: None },
            false => BreakerState::Closed,
        };
        assert_eq!(bench.state(0), after, "{kind:?}");
        bench.all(None);
        bench.ask().unwrap();
        assert_eq!(bench.state(0), BreakerState::Closed);
    }
}

#[test]
fn twenty_names_in_a_row_that_get_nothing_useful_open_it() {
    for kind in USELESS {
        let bench = bench(1);
        let names: Vec<_> = (0..20).map(|number| format!("n/{number}")).collect();
        for name in &names {
            bench.fleet.0[0].script(name, [Reply::Error(kind), Reply::Error(kind)]);
        }
        for _ in 0..2 {
            for name in &names[..19] {
                assert_eq!(bench.ask_for(name).unwrap_err().kind(), kind);
            }
            bench.clock.advance(secs(1));
            // A useful answer between them: this store is not to be left alone.
            bench.ask().unwrap();
            assert_eq!(bench.failures(), 0);
        }
        bench.all(Reply::Error(kind));
        for name in &names {
            assert!(!bench.ask_for(name).unwrap_err().is_held_back(), "{kind:?}");
            bench.clock.advance(Duration::from_millis(100));
        }
        // No exception of a policy follows that did not follow from the answers.
        let refused = bench.ask_for("n/20").unwrap_err();
        assert!(refused.is_held_back());
        assert_eq!(refused.kind(), kind);
        assert!(refused.to_string().contains("left alone"), "{refused}");
        // A trial that brings the same again leaves it open for longer.
        bench.clock.advance(Duration::from_millis(900));
        assert!(!bench.ask_for("n/20").unwrap_err().is_held_back());
        let refused = bench.ask_for("n/20").unwrap_err();
        assert_eq!(refused.retry_after(), Some(secs(2)));
    }
}

#[test]
fn one_broken_record_closes_the_store_for_no_other_name() {
    for kind in USELESS {
        let bench = bench(1);
        bench.fail();
        (0..4).for_each(|_| drop(bench.ask()));
        bench.all(Reply::Error(kind));
        for number in 0..100 {
            let field = format!("broken/record#{number}");
            assert!(!bench.ask_for(&field).unwrap_err().is_held_back());
        }
        // It says nothing about the failures of others, either.
        assert_eq!(bench.failures(), 5);
        bench.all(None);
        bench.ask().unwrap();
    }
}

#[test]
fn a_failure_of_an_attempt_that_began_before_an_answer_does_not_count() {
    for kind in [ErrorKind::Timeout, ErrorKind::Malformed] {
        let bench = bench(1);
        let gate = Gate::new();
        bench.all(gate.then(Reply::Error(kind)));
        let names: Vec<_> = (0..20).map(|number| format!("hangs/{number}")).collect();
        let mut flood: Vec<_> = names.iter().map(|name| bench.start_for(name)).collect();
        assert!(flood.iter_mut().all(|one| poll(one).is_pending()));
        bench.clock.advance(Duration::from_millis(1));
        bench.all(None);
        bench.ask().unwrap();
        gate.open();
        assert!(flood.iter_mut().all(|one| poll(one).is_ready()));
        assert_eq!(
            (bench.state(0), bench.failures()),
            (BreakerState::Closed, 0)
        );
    }
}

#[test]
fn an_outer_breaker_does_not_count_the_refusals_of_an_inner_one() {
    let bench = bench(1);
    bench.open();
    let clock = Arc::new(bench.clock.clone());
    let outer = Breaker::new(bench.breaker, clock, BreakerConfig::default()).unwrap();
    for _ in 0..50 {
        let error = now(outer.resolve(request())).unwrap_err();
        assert!(error.is_held_back());
    }
    let status = outer.monitor().status().remove(0);
    assert_eq!((status.breaker, status.failures), (BreakerState::Closed, 0));
}

#[test]
fn callers_in_a_hurry_do_not_open_it_for_others() {
    let clock = ManualClock::strict();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let store = MockBackend::new().with_value(NAME, "v1");
    store.always(Reply::Hang);
    let patient = Deadline::new(store.clone(), Arc::clone(&shared), secs(2));
    let breaker = Breaker::new(patient, shared, BreakerConfig::default()).unwrap();
    let timeout = |deadline: Duration| {
        let request = request().with_deadline(clock.now() + deadline);
        let mut one = Box::pin(breaker.resolve(request));
        assert!(poll(&mut one).is_pending());
        clock.advance(deadline.min(secs(2)));
        let Poll::Ready(Err(error)) = poll(&mut one) else {
            panic!("it does not end");
        };
        assert_eq!(error.kind(), ErrorKind::Timeout);
    };
    for _ in 0..50 {
        timeout(Duration::from_millis(999));
    }
    assert_eq!(breaker.monitor().status()[0].failures, 0);
    timeout(secs(1));
    timeout(secs(4));
    assert_eq!(breaker.monitor().status()[0].failures, 2);
}
