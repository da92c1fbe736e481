//! A batch of answers that are all good at one moment: the one at which the batch is answered.

use std::pin::Pin;
use std::task::Poll;

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::in_time::{TimeLimit, in_time};
use crate::layers::deadline::too_late;
use crate::race::turn;
use crate::resolver::{Request, ResolveFuture, SecretResolver};
use crate::secret::Record;

type Answer = Result<Record, Error>;

/// Asks `resolver` for each request, so many at once, and answers in order.
///
/// What was answered early while others were fetched is looked at again when all is there, if it may
/// have expired or anything was invalidated, which `epoch` tells: what is not `good` any more is asked
/// for again. Each name ends at its own deadline. What is good then is answered, so one slow name
/// costs a batch only itself.
///
/// # Cancel safety
/// As that of `resolve`.
pub(crate) async fn whole<'a, R: SecretResolver>(
    requests: &'a [Request<'a>],
    clock: &'a dyn Clock,
    resolver: &'a R,
    epoch: impl Fn() -> u64,
    good: impl Fn(&Request<'a>, &Answer) -> bool,
) -> Vec<Answer> {
    let mut asked_in = epoch();
    let ask = |request: &Request<'a>| bounded(*request, clock, resolver);
    let mut answers = each(requests, ask).await;
    loop {
        let now = clock.now();
        let fenced = epoch() != asked_in;
        let over = |answer: &Answer| {
            let end = answer.as_ref().ok().and_then(|record| record.answer().expires_at());
            end.is_some_and(|end| now >= end)
        };
        asked_in = epoch();
        let again: Vec<usize> = (0..answers.len())
            .filter(|&at| fenced || over(&answers[at]))
            .filter(|&at| !good(&requests[at], &answers[at]))
            .collect();
        if again.is_empty() {
            return answers;
        }
        // Signals without end must not hold the thread.
        turn().await;
        let asked: Vec<Request<'a>> = again.iter().map(|&at| requests[at]).collect();
        let renewed = each(&asked, ask).await;
        for (at, answer) in again.into_iter().zip(renewed) {
            answers[at] = answer;
        }
    }
}

/// A read that ends at its own deadline. After that it is asked for still, for what is in memory needs
/// no time.
fn bounded<'a, R: SecretResolver>(
    request: Request<'a>,
    clock: &'a dyn Clock,
    resolver: &'a R,
) -> ResolveFuture<'a> {
    let answer = resolver.resolve(request);
    match request.deadline() {
        Some(deadline) if !answer.is_ready() => {
            let limit = TimeLimit::strict(clock, deadline);
            ResolveFuture::new(async move {
                in_time(limit, answer).await.unwrap_or_else(|| Err(too_late()))
            })
        }
        _ => answer,
    }
}

/// Asks for each of `requests`, at most [`AT_ONCE`] at once, and answers in order.
///
/// # Cancel safety
/// Dropping it drops all that is under way.
pub(crate) async fn each<'r, 'a>(
    requests: &'r [Request<'a>],
    ask: impl Fn(&'r Request<'a>) -> ResolveFuture<'a>,
) -> Vec<Answer> {
    todo!()
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
