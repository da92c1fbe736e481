//! How often at most: all requests share one budget, so that retries are never the storm.

use super::*;
use crate::resolver::SecretResolverExt;

#[test]
fn a_thousand_failing_requests_are_not_a_storm() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    // All names of the store share it.
    for number in 0..1000 {
        drive(&manual, retry.get(&format!("n/{number}"))).unwrap_err();
    }
    let attempts = store.asked();
    assert!(attempts <= 1000 + 200 + 10, "{attempts}");
    // And the budget is used, not just kept.
    assert!(attempts >= 1000 + 200, "{attempts}");
}

#[test]
fn a_thousand_requests_at_once_are_not_a_storm() {
    let (manual, store, retry) = failing(ErrorKind::Timeout);
    let requests = (0..1000).map(|_| retry.resolve(Request::new(name())));
    let answers = drive(&manual, crate::resolver::join_all(requests));
    assert_eq!(answers.len(), 1000);
    let attempts = store.asked();
    assert!(
        (1000 + 200..=1000 + 200 + 10).contains(&attempts),
        "{attempts}"
    );
}

#[test]
fn a_spent_budget_answers_the_error_at_once_and_is_refilled_by_first_attempts() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    for _ in 0..100 {
        let _ = drive(&manual, retry.get(NAME));
    }
    let one = || {
        let before = (store.asked(), manual.now());
        let _ = drive(&manual, retry.get(NAME));
        (store.asked() - before.0, manual.now().since(before.1))
    };
    let attempts: Vec<_> = (0..10).map(|_| one()).collect();
    let once = attempts.iter().filter(|one| **one == (1, Duration::ZERO));
    assert_eq!(once.count(), 8, "{attempts:?}");
    // Success pays in, too, and never more than the bucket holds.
    *lock(&store.error) = None;
    for _ in 0..1000 {
        drive(&manual, retry.get(NAME)).unwrap();
    }
    *lock(&store.error) = Some(Error::new(ErrorKind::Unavailable, "asked for by the test"));
    let before = store.asked();
    for _ in 0..100 {
        let _ = drive(&manual, retry.get(NAME));
    }
    assert!(store.asked() - before <= 100 + 20 + 10);
}

#[test]
fn a_try_of_what_waited_for_us_takes_nothing_and_is_made_while_there_is_time() {
    let error = Error::new(ErrorKind::Unauthenticated, "asked for by the test");
    let error = error.with_retry_after(Duration::ZERO).at_endpoint(0);
    let not_sent = error.clone().not_sent();
    let none = RetryConfig {
        budget: 0,
        budget_percent: 0,
        ..RetryConfig::default()
    };
    for (error, time, asked) in [
        (not_sent.clone(), secs(1), 3),
        (not_sent.clone(), Retry::<Arc<Failing>>::ENOUGH, 1),
        // What was sent needs a budget, and so does what a source says.
        (error.held_back(), secs(1), 1),
        (not_sent.of_credential(), secs(1), 1),
    ] {
        let (manual, store, retry) = failing_with(error, none);
        let request = Request::new(name()).with_deadline(manual.now() + time);
        drive(&manual, retry.resolve(request)).unwrap_err();
        assert_eq!(store.asked(), asked, "{time:?}");
    }
}

#[test]
fn what_waited_for_us_is_sent_again_while_there_is_time() {
    let error = Error::new(ErrorKind::Unauthenticated, "asked for by the test");
    let error = error.with_retry_after(Duration::ZERO).held_back();
    for (time, asked) in [(secs(1), 3), (Retry::<Arc<Failing>>::ENOUGH, 1)] {
        let (manual, store, retry) =
            failing_with(error.clone().at_endpoint(0), RetryConfig::default());
        let request = Request::new(name()).with_deadline(manual.now() + time);
        drive(&manual, retry.resolve(request)).unwrap_err();
        assert_eq!(store.asked(), asked, "{time:?}");
    }
}

#[test]
fn the_budget_is_kept_from_many_threads_at_once() {
    let budget = Budget::new(10, 20);
    let retries: usize = std::thread::scope(|scope| {
        let count = || {
            let retry = |_: &usize| {
                budget.deposit();
                budget.withdraw()
            };
            (0..10_000).filter(retry).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(retries <= 40_000 / 5 + 10, "{retries}");
    // Except the first, none finds the bucket too full to pay in.
    assert!(retries >= 40_000 / 5, "{retries}");
}
