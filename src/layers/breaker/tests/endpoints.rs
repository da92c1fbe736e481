//! Several endpoints: which is preferred, whose turn it is, which is passed over, and requests that are
//! directed.

use super::*;
use crate::resolver::Tried;

#[test]
fn the_first_endpoint_that_answers_is_asked_and_the_others_stand_by() {
    let bench = preferring(3);
    (0..30).for_each(|_| drop(bench.ask().unwrap()));
    assert_eq!(bench.fleet.calls(), [30, 0, 0]);
    bench.fleet.0[0].always(Reply::Error(ErrorKind::Unavailable));
    let failed = (0..30).filter(|_| bench.ask().is_err()).count();
    assert_eq!((failed, bench.fleet.calls()), (5, vec![35, 25, 0]));
    // It is preferred again once a trial has shown that it answers.
    bench.fleet.0[0].always(None);
    bench.clock.advance(secs(1));
    (0..30).for_each(|_| drop(bench.ask().unwrap()));
    assert_eq!(bench.fleet.calls(), [65, 25, 0]);
}

#[test]
fn where_requests_are_spread_a_slow_endpoint_gets_fewer() {
    let bench = bench(3);
    bench.fleet.0[1].always(Reply::Hang);
    let mut hang: Vec<_> = (0..3).map(|_| bench.start()).collect();
    let hanging = hang
        .iter_mut()
        .filter_map(|one| poll(one).is_pending().then_some(()))
        .count();
    assert_eq!(hanging, 1);
    (0..30).for_each(|_| drop(bench.ask().unwrap()));
    assert_eq!(bench.fleet.calls(), [16, 1, 16]);
    // What it has is counted, and no longer than it lasts.
    drop(hang);
    bench.fleet.0[1].always(None);
    (0..30).for_each(|_| drop(bench.ask().unwrap()));
    assert_eq!(bench.fleet.calls(), [26, 11, 26]);
}

#[test]
fn an_attempt_knows_whether_another_endpoint_would_be_asked_next() {
    #[derive(Debug)]
    struct Shows(Mutex<Vec<bool>>);
    impl SecretResolver for Shows {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            lock(&self.0).push(request.has_alternative());
            ResolveFuture::ready(Err(Error::new(ErrorKind::Unavailable, "down")))
        }

        fn endpoints(&self) -> usize {
            2
        }
    }
    let clock = Arc::new(ManualClock::strict());
    let config = BreakerConfig::default();
    let breaker = Breaker::new(Shows(Mutex::default()), clock, config).unwrap();
    let ask = |tried: &[usize]| {
        let mut all = Tried::default();
        tried.iter().for_each(|&endpoint| all.add(endpoint));
        let _ = now(breaker.resolve(request().elsewhere(all)));
        lock(&breaker.inner.0).pop()
    };
    assert_eq!(ask(&[]), Some(true));
    assert_eq!(ask(&[0]), Some(false));
    assert_eq!(ask(&[1]), Some(false));
    // The first is not asked while it is left alone.
    for _ in 0..3 {
        let _ = ask(&[1]);
    }
    assert_eq!((ask(&[]), ask(&[0])), (Some(false), Some(false)));
    let _ = now(breaker.resolve(request().at_endpoint(1)));
    assert_eq!(lock(&breaker.inner.0).pop(), Some(false));
    // A request that waits for a leader is not held by one that waits, too.
    let _ = now(breaker.resolve(request().latest()));
    assert_eq!(lock(&breaker.inner.0).pop(), Some(true));
}

#[test]
fn endpoints_are_asked_in_turn_and_the_next_attempt_goes_to_another() {
    let bench = bench(3);
    for _ in 0..4 {
        for turn in 0..3 {
            let before = bench.fleet.calls();
            bench.ask().unwrap();
            assert_eq!(bench.fleet.calls()[turn], before[turn] + 1);
        }
    }
    // Even when all hang at once.
    bench.all(Reply::Hang);
    let mut all: Vec<_> = (0..9).map(|_| bench.start()).collect();
    assert!(all.iter_mut().all(|one| poll(one).is_pending()));
    assert_eq!(bench.fleet.calls(), [7, 7, 7]);
}

#[test]
fn an_endpoint_that_fails_is_passed_over_and_the_others_are_not() {
    let bench = bench(3);
    let fails = || Reply::Error(ErrorKind::Timeout);
    bench.fleet.0[1].always(fails());
    let failed = (0..30).filter(|_| bench.ask().is_err()).count();
    assert_eq!(failed, 5);
    assert_eq!(bench.fleet.calls()[1], 5);
    let status = bench.breaker.monitor().status();
    let closed = |at: usize| status[at].breaker == BreakerState::Closed;
    assert!(closed(0) && !closed(1) && closed(2));
    // While the others answer, it is tried when its time has come, and only once.
    bench.clock.advance(secs(1));
    let failed = (0..30).filter(|_| bench.ask().is_err()).count();
    assert_eq!((failed, bench.fleet.calls()[1]), (1, 6));
    bench.fleet.0[1].always(None);
    bench.clock.advance(secs(2));
    assert!((0..3).all(|_| bench.ask().is_ok()));
    assert_eq!(bench.state(1), BreakerState::Closed);
    // All of them down: refused, until the first one is due.
    bench.fail();
    while !bench.refuses() {}
    assert!((0..3).all(|_| !bench.ask().unwrap_err().is_held_back()));
    bench.clock.advance(Duration::from_millis(400));
    let error = bench.ask().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(600)));
}

#[test]
fn of_several_open_endpoints_the_soonest_says_when_to_come_back() {
    let bench = bench(2);
    bench.fail();
    for endpoint in 0..2 {
        for _ in 0..5 {
            let _ = now(bench.breaker.resolve(request().at_endpoint(endpoint)));
        }
        bench.clock.advance(Duration::from_millis(300));
    }
    let error = bench.ask().unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(400)));
}

#[test]
fn a_directed_request_stays_where_it_is_and_is_counted_there() {
    let bench = bench(2);
    let at = |endpoint: usize| now(bench.breaker.resolve(request().at_endpoint(endpoint)));
    bench.fleet.0[1].always(Reply::Error(ErrorKind::Unavailable));
    for _ in 0..5 {
        assert!(!at(1).unwrap_err().is_held_back());
    }
    assert!(at(1).unwrap_err().is_held_back());
    assert!(at(0).is_ok());
    assert_eq!(bench.fleet.calls(), [1, 5]);
    // The store itself refuses an endpoint that is not there.
    for _ in 0..10 {
        assert_eq!(at(usize::MAX).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_directed_request_moves_nobodys_turn() {
    let bench = bench(3);
    bench.ask().unwrap();
    now(bench.breaker.resolve(request().at_endpoint(2))).unwrap();
    bench.ask().unwrap();
    assert_eq!(bench.fleet.calls(), [1, 1, 1]);
}

#[test]
fn an_endpoint_that_cannot_reach_its_leader_is_passed_over_for_that_alone() {
    let bench = preferring(2);
    let latest = || now(bench.breaker.resolve(request().latest()));
    let away = Error::new(ErrorKind::Timeout, "no leader");
    for _ in 0..5 {
        bench.says(0, away.clone());
        assert!(!latest().unwrap_err().is_held_back());
        bench.says(0, None);
        bench.ask().unwrap();
    }
    assert_eq!(bench.fleet.calls(), [10, 0]);
    latest().unwrap();
    bench.ask().unwrap();
    assert_eq!(bench.fleet.calls(), [11, 1]);
    assert_eq!(bench.state(0), BreakerState::Closed);
    // An endpoint that answers nobody is not tried first for it.
    bench.clock.advance(secs(1));
    bench.says(0, away);
    for _ in 0..5 {
        bench.ask().unwrap_err();
    }
    latest().unwrap();
    assert_eq!(bench.fleet.calls(), [16, 2]);
}

#[test]
fn a_store_that_wants_to_be_left_alone_is_so_by_all() {
    for asks_first in [true, false] {
        let bench = preferring(1);
        let ask = |latest: bool| {
            let request = if latest {
                request().latest()
            } else {
                request()
            };
            now(bench.breaker.resolve(request))
        };
        let wish = Error::new(ErrorKind::Throttled, "too many").with_retry_after(secs(10));
        bench.says(0, wish);
        assert!(!ask(asks_first).unwrap_err().is_held_back());
        bench.says(0, None);
        bench.clock.advance(secs(9));
        for latest in [true, false] {
            let refused = ask(latest).unwrap_err();
            assert_eq!(refused.retry_after(), Some(secs(1)));
            assert_eq!(refused.kind(), ErrorKind::Throttled);
        }
        bench.clock.advance(secs(1));
        assert!(ask(true).is_ok() && ask(false).is_ok());
    }
}
