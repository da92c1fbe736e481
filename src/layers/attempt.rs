//! One attempt at a store: an end to it, and whether its outcome says anything about the store.

use std::sync::Arc;
use std::time::Duration;

use crate::aside::report;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::layers::Deadline;
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::secret::Record;

/// Gives each attempt `limit`, and makes it again when it failed because this process did not run.
///
/// Where another endpoint would be asked next, or the same again, it is half of that: one that is silent must leave time for
/// the others, and for the waiters behind it.
///
/// A process that was stopped finds its connections dead and its timers due, as if the store were
/// away. That is not evidence of an outage: it must open no breaker, spend no retry and ask no fallback.
/// An answer gets the moment at which it was asked for: from then on its life counts.
///
/// # Order
/// Right above the store and its thread, below all that acts on outages.
///
/// # Cancel safety
/// Dropping it drops the attempt.
#[derive(Debug)]
pub(crate) struct Attempt<R> {
    inner: Deadline<R>,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

impl<R: SecretResolver> Attempt<R> {
    /// How often an attempt is made again at most.
    const AGAIN: u32 = 3;
    /// More than this is notable, however long an attempt may take.
    const NOTABLE: Duration = Duration::from_millis(100);

    pub(crate) fn new(inner: R, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self {
            inner: Deadline::new(inner, Arc::clone(&clock), limit),
            clock,
            limit,
        }
    }

    async fn attempt(&self, request: Request<'_>) -> Result<Record, Error> {
        let mut lost = self.clock.lost();
        let mut again = 0;
        // What is lost is given to the fetch, too.
        let mut request = request.as_of_now(&*self.clock);
        loop {
            let sent = self.clock.now();
            let answer = self.inner.resolve(self.in_time(request, lost)).await;
            let lost_now = self.clock.lost();
            let lost_here = lost_now.saturating_sub(lost);
            let ran_for = self.clock.now().since(sent).saturating_sub(lost_here);
            // Half of its time is fair, however much was lost beside it.
            let fair = lost_here < self.notable() || ran_for >= self.limit / 2;
            match answer {
                Err(error) if !fair && is_of_time(&error) => {}
                Err(error) => return Err(self.located(error, &request)),
                Ok(record) => return Ok(record.asked_at(sent)),
            }
            // The store knows a plain deadline.
            request = request.as_of_now(&*self.clock);
            if again == Self::AGAIN || !self.fits(&request) {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "this process did not run for a part of the wait; ask again",
                )
                .held_back());
            }
            report(|| {
                tracing::debug!("this process did not run for a while: the attempt is made again")
            });
            lost = lost_now;
            again += 1;
        }
    }

    /// A timeout of ours, with the origin that did not answer.
    fn located(&self, error: Error, request: &Request<'_>) -> Error {
        if error.kind() != ErrorKind::Timeout || error.detail().is_some() {
            return error;
        }
        let origins = self.inner.origins();
        let origin = match (request.endpoint(), &*origins) {
            (Some(endpoint), _) => origins.get(endpoint),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        match origin {
            Some(origin) => error.with_detail(origin.clone()),
            None => error,
        }
    }

    /// The request with the deadline of one attempt, so that the store can say before it what it waits for.
    fn in_time<'a>(&self, request: Request<'a>, lost: Duration) -> Request<'a> {
        let limit = match request.has_alternative() {
            true => self.limit / 2,
            false => self.limit,
        };
        let limit = self.clock.now() + limit;
        let end = request.ends(&*self.clock);
        match end.is_some_and(|end| end < limit) {
            true => request,
            false => request.while_running(limit, lost),
        }
    }

    /// On a busy machine threads run a little late all the time: that alone ends no attempt. What is
    /// little depends on how long an attempt may take.
    fn notable(&self) -> Duration {
        (self.limit / 20).min(Self::NOTABLE)
    }

    /// Whether another attempt has a fair time: else its timeout would say nothing either.
    fn fits(&self, request: &Request<'_>) -> bool {
        let now = self.clock.now();
        let end = request.ends(&*self.clock);
        end.is_none_or(|end| end.since(now) >= self.limit / 2)
    }
}

/// Whether more time might have brought another answer: of a store, or of the source of its credential.
fn is_of_time(error: &Error) -> bool {
    let waited = error.kind() == ErrorKind::Unauthenticated && error.is_held_back();
    waited || error.kind().permits().counts_for_breaker
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Attempt<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(self.attempt(request))
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner.shutdown(deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::name::NameRef;
    use crate::testing::{Gate, ManualClock, MockBackend, Reply};

    const LIMIT: Duration = Duration::from_secs(2);
    const STOP: Duration = Duration::from_secs(60);

    fn setup() -> (ManualClock, MockBackend, Attempt<MockBackend>) {
        let clock = ManualClock::strict();
        let store = MockBackend::new().with_value("a/b", "value");
        let layer = Attempt::new(store.clone(), Arc::new(clock.clone()), LIMIT);
        (clock, store, layer)
    }

    fn request(clock: &ManualClock) -> Request<'static> {
        let request = Request::new(NameRef::parse("a/b").unwrap());
        request.while_running(clock.now() + LIMIT * 2, clock.lost())
    }

    fn poll(read: &mut ResolveFuture<'_>) -> Poll<Result<(), ErrorKind>> {
        let answer = Pin::new(read).poll(&mut Context::from_waker(Waker::noop()));
        answer.map(|answer| answer.map(drop).map_err(|error| error.kind()))
    }

    /// Fails once its gate is open.
    fn fails(store: &MockBackend) -> Gate {
        let gate = Gate::new();
        let reply = gate.then(Reply::Error(ErrorKind::Unavailable));
        store.script("a/b", [reply]);
        gate
    }

    #[test]
    fn an_attempt_that_failed_while_the_process_was_stopped_is_made_again() {
        let (clock, store, layer) = setup();
        let gate = fails(&store);
        let mut read = layer.resolve(request(&clock));
        assert!(poll(&mut read).is_pending());
        clock.stall(STOP);
        gate.open();
        assert_eq!(poll(&mut read), Poll::Ready(Ok(())));
        assert_eq!(store.calls(), 2);
    }

    #[test]
    fn after_a_stop_an_attempt_that_fails_by_itself_is_the_answer() {
        let (clock, store, layer) = setup();
        let stopped = fails(&store);
        store.script("a/b", [Reply::Error(ErrorKind::Unavailable)]);
        let mut read = layer.resolve(request(&clock));
        assert!(poll(&mut read).is_pending());
        clock.stall(STOP);
        stopped.open();
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Unavailable)));
        assert_eq!(store.calls(), 2);
    }

    /// Notes the deadline of each attempt, and fails once its gate is open.
    #[derive(Debug)]
    struct Notes(MockBackend, std::sync::Mutex<Vec<Option<Moment>>>);

    impl SecretResolver for Notes {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            crate::sync::lock(&self.1).push(request.deadline());
            self.0.resolve(request)
        }
    }

    #[test]
    fn what_was_lost_puts_off_the_deadline_that_the_store_is_shown() {
        let clock = ManualClock::strict();
        let store = MockBackend::new().with_value("a/b", "value");
        let gate = fails(&store);
        let notes = Arc::new(Notes(store, std::sync::Mutex::default()));
        let layer = Attempt::new(Arc::clone(&notes), Arc::new(clock.clone()), LIMIT);
        // The attempt's own, which is earlier than the caller's.
        let end = clock.now() + LIMIT;
        let mut read = layer.resolve(request(&clock));
        assert!(poll(&mut read).is_pending());
        clock.stall(STOP);
        gate.open();
        assert_eq!(poll(&mut read), Poll::Ready(Ok(())));
        let shown = crate::sync::lock(&notes.1).clone();
        assert_eq!(shown, [Some(end), Some(end + STOP)]);
    }

    #[test]
    fn half_of_the_limit_is_enough_for_another_attempt_and_no_less() {
        let nano = Duration::from_nanos(1);
        for (left, again) in [(LIMIT / 2, true), (LIMIT / 2 - nano, false)] {
            let (clock, store, layer) = setup();
            let gate = fails(&store);
            let request = request(&clock);
            clock.advance(LIMIT * 2 - left);
            let mut read = layer.resolve(request);
            assert!(poll(&mut read).is_pending());
            clock.stall(STOP);
            gate.open();
            assert_eq!(
                poll(&mut read).map(|answer| answer.is_ok()),
                Poll::Ready(again)
            );
            assert_eq!(store.calls(), if again { 2 } else { 1 });
        }
    }

    #[test]
    fn a_failure_of_a_process_that_ran_is_the_answer() {
        let (clock, store, layer) = setup();
        for late in [Duration::ZERO, Duration::from_millis(50)] {
            let gate = fails(&store);
            let mut read = layer.resolve(request(&clock));
            assert!(poll(&mut read).is_pending());
            clock.stall(late);
            gate.open();
            assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Unavailable)));
        }
        // What the store itself says is the answer even after a stop.
        let gate = Gate::new();
        store.script("a/b", [gate.then(Reply::Error(ErrorKind::Denied))]);
        let mut read = layer.resolve(request(&clock));
        assert!(poll(&mut read).is_pending());
        clock.stall(STOP);
        gate.open();
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Denied)));
    }

    #[test]
    fn on_a_machine_that_is_starved_a_store_that_had_half_of_its_time_is_away() {
        let (clock, store, layer) = setup();
        let gate = fails(&store);
        let mut read = layer.resolve(request(&clock));
        for _ in 0..10 {
            assert!(poll(&mut read).is_pending());
            clock.advance(LIMIT / 20);
            clock.stall(LIMIT / 20);
        }
        gate.open();
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Unavailable)));
        // A store that hangs is away, too, after all of its time.
        store.script("a/b", [Reply::Hang]);
        let mut read = layer.resolve(request(&clock));
        for _ in 0..20 {
            assert!(poll(&mut read).is_pending());
            clock.advance(LIMIT / 20);
            clock.stall(LIMIT / 20);
        }
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Timeout)));
    }

    #[test]
    fn where_another_endpoint_would_be_asked_next_an_attempt_has_half_of_the_time() {
        let (clock, store, layer) = setup();
        store.always(Reply::Hang);
        for (alternative, time) in [(true, LIMIT / 2), (false, LIMIT)] {
            let request = request(&clock).with_alternative(alternative);
            let mut read = layer.resolve(request);
            assert!(poll(&mut read).is_pending());
            clock.advance(time - Duration::from_millis(1));
            assert!(poll(&mut read).is_pending());
            clock.advance(Duration::from_millis(1));
            assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Timeout)));
        }
        // A deadline that is earlier counts, and a stop of the process does not.
        let soon = Request::new(NameRef::parse("a/b").unwrap()).with_alternative(true);
        let mut read = layer.resolve(soon.with_deadline(clock.now() + LIMIT / 4));
        assert!(poll(&mut read).is_pending());
        clock.advance(LIMIT / 4);
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Timeout)));
        let mut read = layer.resolve(request(&clock).with_alternative(true));
        assert!(poll(&mut read).is_pending());
        clock.stall(STOP);
        assert!(poll(&mut read).is_pending());
    }

    #[test]
    fn an_answer_says_when_its_attempt_was_made() {
        let (clock, _, layer) = setup();
        clock.advance(LIMIT);
        let mut read = layer.resolve(request(&clock));
        let answer = Pin::new(&mut read).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(record)) = answer else {
            panic!("it is answered at once");
        };
        assert_eq!(record.answer().fetched_at(), Some(Moment::ZERO + LIMIT));
    }

    #[test]
    fn a_process_that_is_stopped_again_and_again_answers_that_it_is_overloaded() {
        let (clock, store, layer) = setup();
        let gates = [(); 5].map(|()| fails(&store));
        let mut read = layer.resolve(request(&clock));
        let mut ended = poll(&mut read);
        for gate in &gates {
            assert!(ended.is_pending());
            clock.stall(STOP);
            gate.open();
            ended = poll(&mut read);
            if ended.is_ready() {
                break;
            }
        }
        assert_eq!(ended, Poll::Ready(Err(ErrorKind::Overloaded)));
        assert_eq!(store.calls(), 4);
    }

    #[test]
    fn for_a_short_attempt_a_short_stop_is_notable() {
        let clock = ManualClock::strict();
        let store = MockBackend::new().with_value("a/b", "value");
        let limit = Duration::from_millis(100);
        let layer = Attempt::new(store.clone(), Arc::new(clock.clone()), limit);
        for (stop, calls) in [(4, 1), (60, 3)] {
            let gate = fails(&store);
            let mut read = layer.resolve(request(&clock));
            assert!(poll(&mut read).is_pending());
            clock.stall(Duration::from_millis(stop));
            gate.open();
            assert!(poll(&mut read).is_ready());
            assert_eq!(store.calls(), calls);
        }
    }

    #[test]
    fn an_attempt_is_not_made_again_without_a_fair_time_for_it() {
        let (clock, store, layer) = setup();
        let gate = fails(&store);
        let request = request(&clock);
        // An attempt before this one has taken its part of the four seconds.
        clock.advance(LIMIT * 13 / 10);
        let mut read = layer.resolve(request);
        assert!(poll(&mut read).is_pending());
        clock.advance(LIMIT / 4);
        clock.stall(STOP);
        gate.open();
        assert_eq!(poll(&mut read), Poll::Ready(Err(ErrorKind::Overloaded)));
        assert_eq!(store.calls(), 1);
    }
}
