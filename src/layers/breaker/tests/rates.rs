//! How much reaches a store that answers nothing useful, in the order of the stack.

use super::*;
use crate::layers::{Deadline, Limit, LimitConfig, Retry, RetryConfig};

/// A store that notes when it was asked, and always answers the same.
#[derive(Debug)]
struct Useless {
    clock: ManualClock,
    answer: Option<Error>,
    asked: Mutex<Vec<Duration>>,
}

impl SecretResolver for Useless {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        lock(&self.asked).push(self.clock.now().since(Moment::ZERO));
        match self.answer.clone() {
            Some(answer) => ResolveFuture::ready(Err(answer)),
            None => ResolveFuture::new(std::future::pending()),
        }
    }
}

/// When the store was asked in `time`: 200 callers, each for its own name, ask again 10 ms after
/// each answer. Names that are known are asked for by half of them.
fn asked(answer: impl Into<Option<Error>>, time: Duration) -> Vec<Duration> {
    let clock = ManualClock::strict();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let store = Arc::new(Useless {
        clock: clock.clone(),
        answer: answer.into(),
        asked: Mutex::default(),
    });
    let layers = Deadline::new(Arc::clone(&store), Arc::clone(&shared), secs(2));
    let limit = LimitConfig {
        fair_time: secs(2),
        ..LimitConfig::default()
    };
    let layers = Limit::new(layers, Arc::clone(&shared), limit).unwrap();
    let config = BreakerConfig::default();
    let breaker = Breaker::new(layers, Arc::clone(&shared), config).unwrap();
    let names: Vec<_> = (0..200).map(|number| format!("n/{number}")).collect();
    for name in &names[..100] {
        let known = &mut lock(&breaker.turns.state).known;
        let hash = known.hash(NameRef::parse(name).unwrap());
        known.note(hash);
    }
    let layers = Retry::new(breaker, shared, RetryConfig::default()).unwrap();
    let mut callers: Vec<Option<Answer<'_>>> = names.iter().map(|_| None).collect();
    while clock.now().since(Moment::ZERO) < time {
        for (caller, name) in callers.iter_mut().zip(&names) {
            let name = NameRef::parse(name).unwrap();
            let request = Request::new(name).with_deadline(clock.now() + secs(4));
            let answer = caller.get_or_insert_with(|| Box::pin(layers.resolve(request)));
            if poll(answer).is_ready() {
                *caller = None;
            }
        }
        clock.advance(Duration::from_millis(10));
    }
    drop(callers);
    let mut asked = lock(&store.asked);
    std::mem::take(&mut *asked)
}

fn most_in_a_second(asked: &[Duration]) -> usize {
    // They are in order.
    let end = |from: &Duration| asked.partition_point(|at| *at < *from + secs(1));
    let within = asked.iter().enumerate().map(|(at, from)| end(from) - at);
    within.max().unwrap_or(0)
}

#[test]
fn a_store_that_says_when_to_come_back_is_asked_a_handful_of_times() {
    for kind in [ErrorKind::Throttled, ErrorKind::Unavailable] {
        let error = Error::new(kind, "asked for by the test").with_retry_after(secs(10));
        let asked = asked(error, secs(12));
        // Once, and when the time is over by the trial and by a known name.
        assert!(asked.len() <= 3, "{kind:?}: {asked:?}");
    }
}

#[test]
fn a_store_that_answers_nothing_useful_is_asked_a_few_times_a_second() {
    use ErrorKind::{Malformed, Refused, Throttled, Unauthenticated};
    for kind in [Throttled, Malformed, Refused, Unauthenticated] {
        let asked = asked(Error::new(kind, "asked for by the test"), secs(15));
        // Twenty to open it, then a known name each second, and the trials.
        assert!(most_in_a_second(&asked) <= 20 + 1, "{kind:?}");
        assert!(most_in_a_second(&asked[21..]) <= 4, "{kind:?}");
        assert!(asked.len() <= 20 + 15 + 5, "{kind:?}: {}", asked.len());
        assert!(asked.len() >= 20 + 14, "{kind:?}: {}", asked.len());
    }
}

#[test]
fn a_store_that_is_away_is_asked_a_few_times_a_second() {
    let error = Error::new(ErrorKind::Unavailable, "asked for by the test");
    let refused = asked(error, secs(15));
    assert!(most_in_a_second(&refused) <= 6);
    // Five to open it, then each second a known name and a trial.
    assert!(refused.len() <= 5 + 15 + 15, "{}", refused.len());
    // A store that hangs has all permits once, until the first attempts end.
    let hangs = asked(None, secs(15));
    let later: Vec<_> = hangs.iter().copied().filter(|at| *at > secs(3)).collect();
    // Two of them waited for a permit.
    assert!(most_in_a_second(&later) <= 4, "{later:?}");
}
