//! When the breaker opens, what it says while it is open, and for how long it stays so.

use super::*;

#[test]
fn five_failures_in_a_row_open_it_and_four_do_not() {
    let bench = bench(1);
    for _ in 0..10 {
        bench.fail();
        for _ in 0..4 {
            assert!(!bench.refuses());
        }
        assert_eq!(
            (bench.state(0), bench.failures()),
            (BreakerState::Closed, 4)
        );
        bench.all(None);
        bench.ask().unwrap();
        assert_eq!(bench.failures(), 0);
    }
    bench.open();
    assert!(bench.refuses());
}

#[test]
fn an_open_breaker_answers_at_once_and_says_when_to_come_back() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(Duration::from_millis(300));
    let error = bench.ask().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(700)));
    assert!(error.to_string().contains("the breaker is open"), "{error}");
    assert_eq!(bench.fleet.calls(), [5]);
    bench.clock.advance(Duration::from_millis(699));
    assert!(bench.refuses());
    bench.clock.advance(Duration::from_millis(1));
    assert!(!bench.refuses());
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let wrong: [fn(&mut BreakerConfig); 6] = [
        |config| config.failures = 0,
        |config| config.failures = 1_001,
        |config| config.first_open = Duration::ZERO,
        |config| config.first_open = secs(16),
        |config| config.longest_open = secs(16),
        |config| config.fair_time = secs(16),
    ];
    for wrong in wrong {
        let mut config = BreakerConfig::default();
        wrong(&mut config);
        let clock = Arc::new(ManualClock::strict());
        let refused = Breaker::new(MockBackend::new(), clock, config).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{config:?}");
    }
}

#[test]
fn while_no_endpoint_answers_each_is_tried_once_a_second() {
    for endpoints in 1..4 {
        let bench = bench(endpoints);
        bench.fail();
        while !bench.refuses() {}
        let before: usize = bench.fleet.calls().iter().sum();
        for _ in 0..600 {
            bench.clock.advance(Duration::from_millis(100));
            while !bench.refuses() {}
            let error = bench.ask().unwrap_err();
            assert!(error.retry_after().unwrap() <= secs(1), "{error}");
        }
        let asked = bench.fleet.calls().iter().sum::<usize>() - before;
        assert_eq!(asked, 60 * endpoints);
        bench.all(None);
        bench.clock.advance(secs(1));
        bench.ask().unwrap();
    }
}

#[test]
fn it_stays_open_twice_as_long_each_time_and_never_longer_than_15_s() {
    let bench = bench(2);
    // The other endpoint answers, for everyone else.
    bench.fleet.0[0].always(Reply::Error(ErrorKind::Unavailable));
    let refuses = || {
        let name = NameRef::parse("never/answered").unwrap();
        let answer = now(bench.breaker.resolve(Request::new(name).at_endpoint(0)));
        answer.is_err_and(|error| error.is_held_back())
    };
    let open = || while !refuses() {};
    open();
    for wait in [1, 2, 4, 8, 15, 15, 15] {
        let BreakerState::Open { until } = bench.state(0) else {
            panic!("not open");
        };
        assert_eq!(until.since(bench.clock.now()), secs(wait));
        bench.clock.advance(secs(wait));
        assert!(!refuses());
    }
    // A day of outage, and it is still asked every 15 s.
    for _ in 0..5760 {
        bench.clock.advance(secs(15));
        assert!(!refuses() && refuses());
    }
    // Once it was closed, it starts at one second again, after five failures.
    bench.clock.advance(secs(15));
    bench.all(None);
    assert!(!refuses());
    assert_eq!(bench.failures(), 0);
    bench.fleet.0[0].always(Reply::Error(ErrorKind::Unavailable));
    open();
    bench.clock.advance(secs(1));
    assert!(!refuses());
}
