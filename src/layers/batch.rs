//! A batch of answers that are all good at one moment: the one at which the batch is answered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::in_time::{TimeLimit, in_time};
use crate::layers::deadline::too_late;
use crate::name::NameRef;
use crate::race::turn;
use crate::resolver::{Request, ResolveFuture, join_all};
use crate::secret::{Freshness, Record};

type Answer = Result<Record, Error>;

/// Asks for each request by `ask`, concurrently, and answers in order.
///
/// What was answered early while others were fetched is looked at again when all is there: what has
/// expired meanwhile, or is `signalled` since the epoch in which it was asked for, is asked for again.
/// Everything else is as good as before. Each name ends at its own deadline; what is in memory then is
/// still answered. So one slow name costs a batch only itself.
///
/// # Cancel safety
/// As that of `ask`.
pub(crate) async fn whole<'a>(
    requests: &'a [Request<'a>],
    clock: &'a dyn Clock,
    epoch: impl Fn() -> u64 + Sync,
    signalled: impl Fn(NameRef<'a>, u64) -> bool,
    ask: impl Fn(Request<'a>) -> ResolveFuture<'a> + Sync,
) -> Vec<Answer> {
    // In which epoch each was asked for.
    let asked_in: Vec<AtomicU64> = requests.iter().map(|_| AtomicU64::new(0)).collect();
    let ask_at = |at: usize| {
        asked_in[at].store(epoch(), Ordering::Relaxed);
        in_turn(requests[at], clock, &ask)
    };
    let mut answers = join_all((0..requests.len()).map(ask_at)).await;
    // Those that were looked at for the last time.
    let mut ended = vec![false; answers.len()];
    loop {
        let now = clock.now();
        let fence = epoch();
        let mut again = Vec::new();
        for (at, answer) in answers.iter().enumerate() {
            if at % TURN == TURN - 1 {
                turn().await;
            }
            let asked_in = asked_in[at].load(Ordering::Relaxed);
            let fenced = || asked_in != fence && signalled(requests[at].name(), asked_in);
            let old = match answer {
                // One exact version is always the same.
                Ok(_) if requests[at].version().is_some() => false,
                Ok(record) => is_over(record, now) || fenced(),
                // What the store has said about a secret is fenced, too; an outage says nothing about it.
                Err(error) => error.kind().is_of_the_secret() && fenced(),
            };
            if old && !ended[at] {
                let deadline = requests[at].deadline();
                ended[at] = deadline.is_some_and(|deadline| now >= deadline);
                again.push(at);
            }
        }
        if again.is_empty() {
            return answers;
        }
        // Signals without end must neither hold the thread nor outlast a deadline.
        turn().await;
        let renewed = join_all(again.iter().map(|&at| ask_at(at))).await;
        for (&at, answer) in again.iter().zip(renewed) {
            answers[at] = answer;
        }
    }
}

/// After this many looks others get a turn.
const TURN: usize = 1024;

/// Whether the time of an answer is over. What is past it by policy stays so.
fn is_over(record: &Record, now: Moment) -> bool {
    let answer = record.answer();
    let stale = matches!(answer.freshness(), Freshness::Stale { .. });
    !stale && answer.expires_at().is_some_and(|end| now >= end)
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
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::secret::SecretBuf;
    use crate::testing::ManualClock;

    #[test]
    fn under_signals_without_end_it_gives_others_a_turn_and_ends_at_its_deadline_with_what_is_there()
     {
        let clock = ManualClock::strict();
        let deadline = clock.now() + Duration::from_secs(5);
        let name = NameRef::parse("a").unwrap();
        let requests = [Request::new(name).with_deadline(deadline); 2];
        // Whenever it looks, something was invalidated since.
        let signals = AtomicU64::new(0);
        let epoch = || signals.fetch_add(1, Ordering::Relaxed);
        let ask = |_: Request<'_>| {
            let value = SecretBuf::from_slice(b"x").unwrap();
            ResolveFuture::ready(Ok(Record::single("test", value)))
        };
        let always = |_: NameRef<'_>, _: u64| true;
        let mut batch = pin!(whole(&requests, &clock, epoch, always, ask));
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

    #[test]
    fn without_a_deadline_it_asks_again_as_often_as_something_was_signalled() {
        let clock = ManualClock::strict();
        let requests = [Request::new(NameRef::parse("a").unwrap())];
        let (signals, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        let ask = |_: Request<'_>| {
            // A signal comes while it is answered, the first three times.
            if asked.fetch_add(1, Ordering::Relaxed) < 3 {
                signals.fetch_add(1, Ordering::Relaxed);
            }
            let value = SecretBuf::from_slice(b"x").unwrap();
            ResolveFuture::ready(Ok(Record::single("test", value)))
        };
        let epoch = || signals.load(Ordering::Relaxed);
        let always = |_: NameRef<'_>, _: u64| true;
        let mut batch = pin!(whole(&requests, &clock, epoch, always, ask));
        let mut cx = Context::from_waker(Waker::noop());
        let ended = (0..100).any(|_| batch.as_mut().poll(&mut cx).is_ready());
        assert!(ended);
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}
