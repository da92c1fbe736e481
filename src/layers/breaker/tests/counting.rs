//! What counts as a failure, what as a sign of life, and what as neither.

use super::*;
use crate::layers::Deadline;

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

#[test]
fn what_the_store_answered_is_a_sign_of_life_and_what_we_decided_is_none() {
    use ErrorKind::{Closed, InvalidName, Misconfigured, Overloaded};
    for kind in ErrorKind::ALL {
        if kind.permits().counts_for_breaker {
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
fn an_outer_breaker_does_not_count_the_refusals_of_an_inner_one() {
    let bench = bench(1);
    bench.open();
    let clock = Arc::new(bench.clock.clone());
    let outer = Breaker::new(bench.breaker, clock, BreakerConfig::default()).unwrap();
    for _ in 0..50 {
        let error = now(outer.resolve(request())).unwrap_err();
        assert!(is_open(&error));
    }
    let status = outer.status()[0];
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[test]
fn callers_in_a_hurry_do_not_open_it_for_others() {
    let clock = ManualClock::new();
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
    assert_eq!(breaker.status()[0].failures, 0);
    timeout(secs(1));
    timeout(secs(4));
    assert_eq!(breaker.status()[0].failures, 2);
}
