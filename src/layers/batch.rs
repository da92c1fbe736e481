//! A batch of answers that are all good at one moment: the one at which the batch is answered.

use crate::clock::Clock;
use crate::error::Error;
use crate::layers::deadline::too_late;
use crate::race::{race, turn};
use crate::resolver::{Request, ResolveFuture, join_all};
use crate::secret::{Freshness, Record};

/// Asks for each request by `ask`, concurrently, and answers in order.
///
/// What was answered early while others were fetched is asked for again when all are there, if it
/// has expired meanwhile or anything was invalidated, which `epoch` tells. Each name ends at its own
/// deadline, which also bounds the repetition: one slow name does not cost a batch the rest.
///
/// # Cancel safety
/// As that of `ask`.
pub(crate) async fn whole<'a>(
    requests: &'a [Request<'a>],
    clock: &'a dyn Clock,
    epoch: impl Fn() -> u64,
    ask: impl Fn(Request<'a>) -> ResolveFuture<'a>,
) -> Vec<Result<Record, Error>> {
    let mut asked_in = epoch();
    let each = requests
        .iter()
        .map(|&request| in_time(request, clock, &ask));
    let mut answers = join_all(each).await;
    loop {
        let now = clock.now();
        let fenced = epoch() != asked_in;
        let old = |answer: &Result<Record, Error>| match answer {
            Ok(record) => {
                let answer = record.answer();
                // What is past its time by policy stays so.
                let fresh = !matches!(answer.freshness(), Freshness::Stale { .. });
                fenced || (fresh && answer.expires_at().is_some_and(|moment| now >= moment))
            }
            // What the store has said of a secret is fenced, too; an outage says nothing of it.
            Err(error) => fenced && error.kind().is_of_the_secret(),
        };
        let again: Vec<usize> = (0..answers.len()).filter(|&at| old(&answers[at])).collect();
        if again.is_empty() {
            return answers;
        }
        // Signals without end must neither hold the thread nor outlast a deadline.
        turn().await;
        let (late, again): (Vec<usize>, Vec<usize>) = again.into_iter().partition(|&at| {
            let deadline = requests[at].deadline();
            deadline.is_some_and(|deadline| clock.now() >= deadline)
        });
        for at in late {
            answers[at] = Err(too_late());
        }
        asked_in = epoch();
        let each = again.iter().map(|&at| in_time(requests[at], clock, &ask));
        let renewed = join_all(each).await;
        for (at, answer) in again.into_iter().zip(renewed) {
            answers[at] = answer;
        }
    }
}

/// A read that ends at its own deadline.
fn in_time<'a>(
    request: Request<'a>,
    clock: &'a dyn Clock,
    ask: impl Fn(Request<'a>) -> ResolveFuture<'a>,
) -> ResolveFuture<'a> {
    let answer = ask(request);
    match request.deadline() {
        Some(deadline) if !answer.is_ready() => {
            let late = clock.sleep_until(deadline);
            ResolveFuture::new(race(answer, async move {
                late.await;
                Err(too_late())
            }))
        }
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::name::NameRef;
    use crate::secret::SecretBuf;
    use crate::testing::ManualClock;

    #[test]
    fn under_signals_without_end_it_gives_others_a_turn_and_ends_at_its_deadline() {
        let clock = ManualClock::new();
        let deadline = clock.now() + Duration::from_secs(5);
        let name = NameRef::parse("a").unwrap();
        let requests = [Request::new(name).with_deadline(deadline); 2];
        // Whenever it looks, something was invalidated since.
        let signals = Cell::new(0);
        let epoch = || {
            signals.set(signals.get() + 1);
            signals.get()
        };
        let ask = |_: Request<'_>| {
            let value = SecretBuf::from_slice(b"x").unwrap();
            ResolveFuture::ready(Ok(Record::single("test", value)))
        };
        let mut batch = pin!(whole(&requests, &clock, epoch, ask));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(batch.as_mut().poll(&mut cx).is_pending());
        }
        clock.advance(Duration::from_secs(5));
        let Some(answers) = (0..3).find_map(|_| match batch.as_mut().poll(&mut cx) {
            Poll::Ready(answers) => Some(answers),
            Poll::Pending => None,
        }) else {
            panic!("it outlasts its deadline");
        };
        let kind = |answer: &Result<Record, Error>| answer.as_ref().unwrap_err().kind();
        assert!(
            answers
                .iter()
                .all(|answer| kind(answer) == ErrorKind::Timeout)
        );
    }
}
