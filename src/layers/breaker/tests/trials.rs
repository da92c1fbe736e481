//! Which attempt tries when the time has come: one at a time, whatever becomes of the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::testing::Gate;

#[test]
fn one_trial_at_a_time() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.all(gate.then(Reply::Stored));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    for _ in 0..1000 {
        assert!(bench.refuses());
    }
    gate.open();
    assert!(matches!(poll(&mut trial), Poll::Ready(Ok(_))));
    assert_eq!(bench.state(0), BreakerState::Closed);
    assert!(!bench.refuses());
}

#[test]
fn others_wait_for_the_trial_and_get_what_it_shows() {
    for (reply, answered) in [
        (Reply::Stored, true),
        (Reply::Error(ErrorKind::Timeout), false),
    ] {
        let bench = bench(1);
        bench.open();
        bench.clock.advance(secs(1));
        let gate = Gate::new();
        bench.all(gate.then(reply));
        let mut trial = bench.start();
        assert!(poll(&mut trial).is_pending());
        let mut others: Vec<_> = (0..100).map(|_| bench.start()).collect();
        assert!(others.iter_mut().all(|one| poll(one).is_pending()));
        assert_eq!(bench.fleet.calls(), [6]);
        // A dropped waiter takes nothing with it.
        drop(others.pop());
        gate.open();
        assert!(poll(&mut trial).is_ready());
        for mut one in others {
            let Poll::Ready(answer) = poll(&mut one) else {
                panic!("it waits for a trial that is over");
            };
            assert_eq!(answer.is_ok(), answered);
        }
        assert_eq!(bench.fleet.calls(), [if answered { 105 } else { 6 }]);
    }
}

#[test]
fn others_wait_for_a_trial_half_a_second_and_never_past_their_own_deadline() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    bench.all(Reply::Hang);
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let soon = bench.clock.now() + Duration::from_millis(500);
    let name = NameRef::parse("a/b").unwrap();
    let hurried = bench
        .breaker
        .resolve(Request::new(name).with_deadline(soon));
    assert!(now(hurried).unwrap_err().is_held_back());
    let mut waiting = bench.start();
    bench.clock.advance(Duration::from_millis(499));
    assert!(poll(&mut waiting).is_pending());
    bench.clock.advance(Duration::from_millis(1));
    let Poll::Ready(Err(error)) = poll(&mut waiting) else {
        panic!("it waits for longer");
    };
    // And does not say that the place of the trial is taken for a quarter of a minute.
    assert!(error.is_held_back());
    assert_eq!(error.retry_after(), Some(secs(1)));
    assert!(bench.ask().unwrap_err().is_held_back());
    // A shutdown ends the wait.
    drop(trial);
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let mut waiting = bench.start();
    assert!(poll(&mut waiting).is_pending());
    let _ = now(bench.breaker.shutdown(bench.clock.now()));
    let Poll::Ready(Err(error)) = poll(&mut waiting) else {
        panic!("it waits after the shutdown");
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn of_two_trials_the_one_that_ends_last_is_waited_for() {
    let bench = bench(2);
    bench.fail();
    while !(0..2).all(|one| matches!(bench.state(one), BreakerState::Open { .. })) {
        assert!(bench.ask().is_err());
    }
    bench.clock.advance(secs(1));
    bench.all(Reply::Hang);
    let later = Duration::from_millis(300);
    let mut trials = [bench.start(), bench.start()];
    for trial in &mut trials {
        assert!(poll(trial).is_pending());
        bench.clock.advance(later);
    }
    // The first has been under way for 600 ms, and the second for 300.
    let mut waiting = bench.start();
    assert!(poll(&mut waiting).is_pending());
    bench.clock.advance(Duration::from_millis(199));
    assert!(poll(&mut waiting).is_pending());
    bench.clock.advance(Duration::from_millis(1));
    assert!(poll(&mut waiting).is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn from_many_threads_at_once_one_tries() {
    #[derive(Debug, Default)]
    struct Counts(AtomicUsize, AtomicUsize);
    impl SecretResolver for Counts {
        fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
            ResolveFuture::new(async move {
                let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                self.1.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.0.fetch_sub(1, Ordering::SeqCst);
                Err(Error::new(ErrorKind::Unavailable, "down"))
            })
        }
    }
    let clock = ManualClock::strict();
    let shared = Arc::new(clock.clone());
    let config = BreakerConfig {
        failures: 1,
        ..BreakerConfig::default()
    };
    let breaker = Breaker::new(Counts::default(), shared, config).unwrap();
    let breaker = Arc::new(breaker);
    let _ = breaker.resolve(request()).await;
    for _ in 0..50 {
        clock.advance(secs(15));
        let tries = (0..64).map(|_| {
            let breaker = Arc::clone(&breaker);
            tokio::spawn(async move { breaker.resolve(request()).await.is_err() })
        });
        for one in tries.collect::<Vec<_>>() {
            assert!(one.await.unwrap());
        }
    }
    assert_eq!(breaker.inner.1.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cancelled_or_panicking_trial_gives_its_place_back() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    for _ in 0..100 {
        bench.all(Reply::Hang);
        let mut trial = bench.start();
        assert!(poll(&mut trial).is_pending());
        assert!(bench.refuses());
        drop(trial);
        bench.all(Reply::Panic);
        let mut trial = bench.start();
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut trial))).is_err());
        // The future is kept: the place must be free before it is dropped.
        assert_eq!(bench.state(0), BreakerState::HalfOpen { trial: None });
    }
    // An attempt that was never polled holds no place.
    let _idle = bench.start();
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn a_trial_that_is_lost_loses_its_place_and_its_late_answer_says_nothing() {
    let bench = bench(1);
    bench.open();
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.fleet.0[0].script(NAME, [gate.then(Reply::Stored), Reply::Hang]);
    // Somebody keeps it and never polls it again.
    let mut lost = bench.start();
    assert!(poll(&mut lost).is_pending());
    bench.clock.advance(secs(15) - Duration::from_nanos(1));
    assert!(bench.refuses());
    bench.clock.advance(Duration::from_nanos(1));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let half_open = bench.state(0);
    gate.open();
    assert!(poll(&mut lost).is_ready());
    drop(lost);
    assert_eq!(bench.state(0), half_open);
    drop(trial);
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn a_late_answer_from_before_a_change_changes_nothing() {
    let bench = bench(1);
    let (good, bad) = (Gate::new(), Gate::new());
    let endpoint = &bench.fleet.0[0];
    let fails = || Reply::Error(ErrorKind::Unavailable);
    // Begun while closed: two that will be answered, ten that will fail.
    endpoint.script(NAME, [good.then(Reply::Stored), good.then(Reply::Stored)]);
    endpoint.script(NAME, (0..10).map(|_| bad.then(fails())));
    let mut good_ones: Vec<_> = (0..2).map(|_| bench.start()).collect();
    let mut bad_ones: Vec<_> = (0..10).map(|_| bench.start()).collect();
    assert!(good_ones.iter_mut().all(|one| poll(one).is_pending()));
    assert!(bad_ones.iter_mut().all(|one| poll(one).is_pending()));
    bench.open();
    let open = bench.state(0);
    good.open();
    bad.open();
    // While open: neither closed by a success, nor longer open by a failure.
    assert!(poll(&mut good_ones[0]).is_ready() && poll(&mut bad_ones[0]).is_ready());
    assert_eq!(bench.state(0), open);
    // While a trial is under way: neither ended.
    bench.clock.advance(secs(1));
    let gate = Gate::new();
    bench.all(gate.then(Reply::Stored));
    let mut trial = bench.start();
    assert!(poll(&mut trial).is_pending());
    let half_open = bench.state(0);
    assert!(poll(&mut good_ones[1]).is_ready() && poll(&mut bad_ones[1]).is_ready());
    drop(bad_ones.pop());
    assert_eq!(bench.state(0), half_open);
    assert!(bench.refuses());
    // Once closed: the rest of the old failures is not a reason to open.
    gate.open();
    assert!(poll(&mut trial).is_ready());
    assert!(bad_ones[2..].iter_mut().all(|one| poll(one).is_ready()));
    assert_eq!(
        (bench.state(0), bench.failures()),
        (BreakerState::Closed, 0)
    );
}

/// Any order of beginnings, answers, cancellations and time, over thousands of schedules: nobody
/// is asked while it is open, one tries at a time, and it always comes back.
#[test]
fn no_schedule_breaks_it() {
    for seed in 1..3_000_u64 {
        let mut draw = draws(seed);
        let config = BreakerConfig {
            failures: 2,
            ..BreakerConfig::default()
        };
        let bench = bench_of(Fleet::new(1, false), config);
        let endpoint = &bench.fleet.0[0];
        let mut flying: Vec<(Gate, Answer<'_>)> = Vec::new();
        let mut trial_since = None;
        let (mut state, mut opened) = (bench.state(0), Moment::ZERO);
        for _ in 0..60 {
            match draw(5) {
                0 | 1 => {
                    let before = bench.state(0);
                    let gate = Gate::new();
                    let ends = match draw(4) {
                        // A sign of life, and the name does not get its own place.
                        0 => Reply::Error(ErrorKind::NotFound),
                        1 => Reply::Error(ErrorKind::Overloaded),
                        _ => Reply::Error(ErrorKind::Timeout),
                    };
                    endpoint.always(gate.then(ends));
                    let calls = endpoint.calls();
                    let mut answer = bench.start();
                    let waits = poll(&mut answer).is_pending();
                    let admitted = endpoint.calls() > calls;
                    assert!(waits || !admitted);
                    let now = bench.clock.now();
                    let may = match before {
                        BreakerState::Closed | BreakerState::HalfOpen { trial: None } => true,
                        // Nobody else answers.
                        BreakerState::Open { .. } => now >= opened + secs(1),
                        BreakerState::HalfOpen { trial: Some(since) } => {
                            assert_eq!(trial_since, Some(since));
                            now.since(since) >= secs(15)
                        }
                    };
                    assert_eq!(admitted, may, "seed {seed}");
                    if admitted && before != BreakerState::Closed {
                        trial_since = Some(now);
                    }
                    if admitted {
                        flying.push((gate, answer));
                    }
                }
                2 if !flying.is_empty() => {
                    let at = draw(flying.len() as u64) as usize;
                    let (gate, mut answer) = flying.swap_remove(at);
                    gate.open();
                    assert!(poll(&mut answer).is_ready());
                }
                3 if !flying.is_empty() => {
                    let at = draw(flying.len() as u64) as usize;
                    drop(flying.swap_remove(at));
                }
                _ => bench.clock.advance(Duration::from_millis(draw(4_000))),
            }
            if std::mem::replace(&mut state, bench.state(0)) != bench.state(0) {
                opened = bench.clock.now();
            }
            if let BreakerState::Open { until } = bench.state(0) {
                assert!(until.since(bench.clock.now()) <= secs(15), "seed {seed}");
            }
        }
        drop(flying);
        bench.all(None);
        bench.clock.advance(secs(15));
        bench.ask().unwrap();
        assert_eq!(bench.state(0), BreakerState::Closed, "seed {seed}");
    }
}

/// Whether the name that was answered before is let through, too.
fn known_tries(bench: &Bench) -> bool {
    !bench.refuses_for(NAME)
}

#[test]
fn a_name_that_was_answered_before_tries_beside_the_trial_of_another() {
    let bench = bench(1);
    bench.ask().unwrap();
    bench.open();
    // At once, and then once in a first opening.
    assert!(known_tries(&bench) && !known_tries(&bench) && bench.refuses());
    bench.clock.advance(Duration::from_millis(999));
    assert!(!known_tries(&bench));
    bench.clock.advance(Duration::from_millis(1));
    bench.all(Reply::Hang);
    let mut flood = bench.start_for("flood/1");
    assert!(poll(&mut flood).is_pending());
    let half_open = bench.state(0);
    // Its own failure lengthens nothing.
    bench.fail();
    assert!(known_tries(&bench) && !known_tries(&bench));
    assert_eq!(bench.state(0), half_open);
    // A name that was never answered waits for the trial.
    bench.all(None);
    bench.clock.advance(secs(1));
    assert!(bench.refuses() && known_tries(&bench));
    assert_eq!(bench.state(0), BreakerState::Closed);
    // The late result of the flood's trial is about another time.
    drop(flood);
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn a_known_name_tries_even_while_the_doubled_wait_of_others_lasts() {
    let bench = bench(1);
    bench.ask().unwrap();
    bench.open();
    for wait in [1, 2, 4, 8] {
        bench.clock.advance(secs(wait));
        assert!(!bench.refuses());
    }
    let open = bench.state(0);
    let BreakerState::Open { until } = open else {
        panic!("not open");
    };
    assert_eq!(until.since(bench.clock.now()), secs(15));
    assert!(known_tries(&bench));
    assert_eq!(bench.state(0), open);
    bench.clock.advance(secs(1));
    bench.all(None);
    bench.ask().unwrap();
    assert_eq!(bench.state(0), BreakerState::Closed);
}

#[test]
fn names_that_fail_at_once_keep_no_known_name_from_an_answer() {
    let bench = bench(1);
    bench.ask().unwrap();
    for _ in 0..100 {
        bench.open();
        bench.all(None);
        assert!(bench.refuses());
        bench.ask().unwrap();
        bench.clock.advance(Duration::from_millis(10));
    }
}
