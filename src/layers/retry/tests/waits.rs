//! When it is asked again: the back-off, the delay that the store asks for, and the deadline.

use super::*;
use crate::resolver::SecretResolverExt;

#[test]
fn what_the_store_asks_for_is_waited_for_when_it_fits() {
    for kind in [ErrorKind::Throttled, ErrorKind::Unavailable] {
        let error = Error::new(kind, "asked for by the test").with_retry_after(secs(1));
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        let request = Request::new(name()).with_deadline(manual.now() + secs(4));
        drive(&manual, retry.resolve(request)).unwrap_err();
        let asked = lock(&store.asked);
        assert_eq!(asked.len(), 3);
        for pair in asked.windows(2) {
            assert!(pair[1].0.since(pair[0].0) >= secs(1));
        }
    }
}

/// A store of two endpoints, each of which fails.
#[derive(Debug)]
struct Two(Arc<Failing>);

impl SecretResolver for Two {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    fn endpoints(&self) -> usize {
        2
    }
}

#[test]
fn what_every_endpoint_asks_for_is_waited_for() {
    let error = Error::new(ErrorKind::Throttled, "asked for by the test").with_retry_after(secs(1));
    let (manual, shared) = clock();
    let store = Failing::with(&manual, error);
    let retry = Retry::new(Two(Arc::clone(&store)), shared, RetryConfig::default()).unwrap();
    let request = Request::new(name());
    for request in [request, request.at_endpoint(1)] {
        let began = manual.now();
        drive(&manual, retry.resolve(request)).unwrap_err();
        assert!(manual.now() >= began + secs(2));
    }
}

#[test]
fn what_the_store_asks_for_in_vain_is_answered_at_once() {
    let too_long = [secs(2), secs(3600), Duration::MAX];
    for asked in too_long {
        let error =
            Error::new(ErrorKind::Throttled, "asked for by the test").with_retry_after(asked);
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        let request = Request::new(name()).with_deadline(manual.now() + secs(2));
        let mut answer = pin!(retry.resolve(request));
        assert!(poll(answer.as_mut()).is_ready(), "{asked:?}");
        assert_eq!((store.asked(), manual.next_wake()), (1, None));
        // Without a deadline, too, nobody is kept for an hour; two seconds are all right.
        let mut answer = pin!(retry.resolve(Request::new(name())));
        let kept = poll(answer.as_mut()).is_pending();
        assert_eq!(kept, asked == secs(2), "{asked:?}");
    }
}

#[test]
fn a_store_may_ask_for_the_longest_wait_and_for_no_longer_one() {
    let longest = RetryConfig::default().longest_asked;
    for (asked, times) in [(longest, 3), (longest + Duration::from_nanos(1), 1)] {
        let error =
            Error::new(ErrorKind::Throttled, "asked for by the test").with_retry_after(asked);
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        drive(&manual, retry.resolve(Request::new(name()))).unwrap_err();
        assert_eq!(store.asked(), times);
    }
}

#[test]
fn nothing_begins_at_or_after_the_deadline() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    manual.advance(secs(10));
    let late = Request::new(name()).with_deadline(manual.now());
    let error = drive(&manual, retry.resolve(late)).unwrap_err();
    assert_eq!((error.kind(), store.asked()), (ErrorKind::Timeout, 0));
    // Every deadline from none of the back-off to all of it: waits end before it, too.
    for millis in 1..200 {
        let (manual, store, retry) = failing(ErrorKind::Unavailable);
        let deadline = manual.now() + Duration::from_millis(millis);
        drive(
            &manual,
            retry.resolve(Request::new(name()).with_deadline(deadline)),
        )
        .unwrap_err();
        assert!(manual.now() < deadline);
        assert!(lock(&store.asked).iter().all(|&(at, _)| at < deadline));
    }
}

#[test]
fn the_back_off_doubles_up_to_its_longest_and_is_a_random_part_of_it() {
    let config = RetryConfig {
        max_attempts: 8,
        budget: 10_000,
        ..RetryConfig::default()
    };
    let (manual, store, retry) = failing_with(
        Error::new(ErrorKind::Timeout, "asked for by the test"),
        config,
    );
    let mut waits: Vec<Vec<Duration>> = vec![Vec::new(); 7];
    for _ in 0..300 {
        lock(&store.asked).clear();
        let _ = drive(&manual, retry.get(NAME));
        let asked = lock(&store.asked);
        assert_eq!(asked.len(), 8);
        for (waits, pair) in waits.iter_mut().zip(asked.windows(2)) {
            waits.push(pair[1].0.since(pair[0].0));
        }
    }
    let longest = [50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    for (waits, longest) in waits.into_iter().zip(longest) {
        assert!(waits.iter().all(|&wait| wait <= longest), "{longest:?}");
        // Full jitter: each quarter has its share of 300 draws.
        for quarter in 0..4 {
            let part = longest / 4 * quarter..longest / 4 * (quarter + 1);
            let drawn = waits.iter().filter(|wait| part.contains(wait)).count();
            assert!(drawn > 35, "{drawn} of 300 in {part:?}");
        }
    }
}

#[test]
fn a_wait_that_ends_late_begins_no_attempt_after_the_deadline() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    let request = Request::new(name()).with_deadline(manual.now() + secs(4));
    let mut answer = pin!(retry.resolve(request));
    assert!(poll(answer.as_mut()).is_pending());
    // The process was stopped meanwhile.
    manual.advance(secs(60));
    assert!(poll(answer.as_mut()).is_ready());
    assert_eq!(store.asked(), 1);
}

#[test]
fn while_the_clock_stands_still_nothing_is_asked_again() {
    let error =
        Error::new(ErrorKind::Unavailable, "asked for by the test").with_retry_after(secs(1));
    let (manual, store, retry) = failing_with(error, RetryConfig::default());
    let mut answer = pin!(retry.get(NAME));
    for _ in 0..1000 {
        assert!(poll(answer.as_mut()).is_pending());
    }
    assert_eq!(store.asked(), 1);
    assert!(manual.next_wake().is_some());
}

#[test]
fn a_stop_in_a_back_off_takes_no_attempt_from_a_caller_that_waits_for_a_store() {
    // A caller that set its own deadline gets no more time.
    for (moves, asked) in [(true, 3), (false, 1)] {
        let error =
            Error::new(ErrorKind::Unavailable, "asked for by the test").with_retry_after(secs(1));
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        let request = Request::new(name());
        let request = match moves {
            true => request.while_running(manual.now() + secs(4), manual.lost()),
            false => request.with_deadline(manual.now() + secs(4)),
        };
        let mut answer = pin!(retry.resolve(request));
        assert!(poll(answer.as_mut()).is_pending());
        manual.stall(secs(60));
        let error = drive(&manual, answer).unwrap_err();
        assert_eq!(
            (error.kind(), store.asked()),
            (ErrorKind::Unavailable, asked)
        );
    }
}
