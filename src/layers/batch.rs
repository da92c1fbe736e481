//! A batch of answers that are all good at one moment: the one at which the batch is answered.

use crate::clock::Clock;
use crate::error::Error;
use crate::in_time::{TimeLimit, in_time};
use crate::layers::deadline::too_late;
use crate::race::turn;
use crate::resolver::{Request, ResolveFuture, join_all};
use crate::secret::Record;

type Answer = Result<Record, Error>;

/// Asks for each request by `ask`, concurrently, and answers in order.
///
/// What was answered early while others were fetched is looked at again when all is there, if it has
/// expired meanwhile or anything was invalidated, which `epoch` tells: what is not `good` any more is
/// asked for again. Each name ends at its own deadline; what is in memory then is still answered. So
/// one slow name costs a batch only itself.
///
/// # Cancel safety
/// As that of `ask`.
pub(crate) async fn whole<'a>(
    requests: &'a [Request<'a>],
    clock: &'a dyn Clock,
    epoch: impl Fn() -> u64,
    good: impl Fn(&Request<'a>, &Answer) -> bool,
    ask: impl Fn(Request<'a>) -> ResolveFuture<'a> + Sync,
) -> Vec<Answer> {
    let is_late = |request: &Request<'a>| {
        let deadline = request.deadline();
        deadline.is_some_and(|deadline| clock.now() >= deadline)
    };
    let mut asked_in = epoch();
    let asked = requests
        .iter()
        .map(|&request| in_turn(request, clock, &ask));
    let mut answers = join_all(asked).await;
    // Those that were looked at for the last time.
    let mut ended = vec![false; answers.len()];
    loop {
        let (now, fenced) = (clock.now(), epoch() != asked_in);
        asked_in = epoch();
        let doubtful = |answer: &Answer| {
            let times = answer.as_ref().ok().map(|record| record.answer());
            let end = times.and_then(|times| times.expires_at());
            fenced || end.is_some_and(|end| now >= end)
        };
        let again: Vec<usize> = (0..answers.len())
            .filter(|&at| !ended[at] && doubtful(&answers[at]))
            .filter(|&at| !good(&requests[at], &answers[at]))
            .collect();
        if again.is_empty() {
            return answers;
        }
        // Signals without end must neither hold the thread nor outlast a deadline.
        turn().await;
        for &at in &again {
            ended[at] = is_late(&requests[at]);
        }
        let asked = again.iter().map(|&at| in_turn(requests[at], clock, &ask));
        let renewed = join_all(asked).await;
        for (&at, answer) in again.iter().zip(renewed) {
            answers[at] = answer;
        }
    }
}

/// A read that ends at its own deadline.
fn in_turn<'i, 'a: 'i>(
    request: Request<'a>,
    clock: &'i dyn Clock,
    ask: &'i (impl Fn(Request<'a>) -> ResolveFuture<'a> + Sync),
) -> ResolveFuture<'i> {
    let answer = ask(request);
    let Some(deadline) = request.deadline().filter(|_| !answer.is_ready()) else {
        return answer;
    };
    let limit = TimeLimit::strict(clock, deadline);
    if limit.is_over() {
        return ResolveFuture::ready(Err(too_late()));
    }
    ResolveFuture::new(async move {
        match in_time(limit, answer).await {
            Some(answer) => answer,
            None => in_memory(ask(request)).await,
        }
    })
}

/// What is there without waiting: for a caller whose time is over.
pub(crate) async fn in_memory(answer: ResolveFuture<'_>) -> Result<Record, Error> {
    match answer.is_ready() {
        true => answer.await,
        false => Err(too_late()),
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
    use crate::name::NameRef;
    use crate::secret::SecretBuf;
    use crate::testing::ManualClock;

    #[test]
    fn under_signals_without_end_it_gives_others_a_turn_and_ends_at_its_deadline_with_what_is_there()
     {
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
        let never = |_: &Request<'_>, _: &Answer| false;
        let mut batch = pin!(whole(&requests, &clock, epoch, never, ask));
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
        // From memory, at that moment: nothing was asked for that takes time.
        assert!(answers.iter().all(Result::is_ok));
    }
}
