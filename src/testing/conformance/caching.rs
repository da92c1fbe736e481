//! The laws of everything that answers from memory: a cache, the assembled resolver, a layer around them.
//!
//! Their subject is made around a mock on a manual clock, so that a law can hold answers back, let
//! time pass and rotate values.

#[cfg(target_os = "linux")]
mod wiping;

#[cfg(target_os = "linux")]
pub use wiping::no_value_outlives_its_end_in_memory;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Kept, Violation, broken};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::invalidate::Invalidator;
use crate::race::race;
use crate::resolver::join_all;
use crate::resolver::{Request, SecretResolver, SecretResolverExt};
use crate::secret::{Freshness, Record, Secret};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};

/// A resolver that caches, made around the given store and clock, and what invalidates it.
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::Resolver;
/// use secret_resolver::testing::conformance::{Caching, all_of_caching};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let make = |store, clock| {
///     let resolver = Resolver::builder(store).with_attempts(1).with_clock(clock).build()?;
///     let invalidator = resolver.invalidator();
///     Ok(Caching::new(Arc::new(resolver), invalidator))
/// };
/// all_of_caching(&make).await.unwrap();
/// # });
/// ```
#[derive(Debug)]
pub struct Caching {
    resolver: Arc<dyn SecretResolver>,
    invalidator: Invalidator,
}

/// Makes a new subject for a law. Its time to live is 300 s and its deadline 5 s, the defaults;
/// it makes one attempt, because the law's clock passes no back-off.
pub type Make<'a> = &'a (dyn Fn(MockBackend, ManualClock) -> Result<Caching, Error> + Sync);

impl Caching {
    /// A resolver, and what invalidates all that it caches.
    #[must_use]
    pub fn new(resolver: Arc<dyn SecretResolver>, invalidator: Invalidator) -> Self {
        Self {
            resolver,
            invalidator,
        }
    }
}

const NAME: &str = "law/record#field";
const TTL: Duration = Duration::from_secs(300);

struct Court {
    law: &'static str,
    store: MockBackend,
    clock: ManualClock,
    subject: Caching,
    real: SystemClock,
}

/// Every law below, in turn.
///
/// # Errors
/// The first law that is broken.
pub async fn all_of_caching(make: Make<'_>) -> Result<(), Violation> {
    a_value_within_its_time_is_not_fetched_again(make).await?;
    an_expired_value_is_not_answered(make).await?;
    all_who_wait_share_one_fetch(make).await?;
    all_who_wait_share_an_error(make).await?;
    a_caller_who_leaves_does_not_end_the_fetch(make).await?;
    nothing_fetched_before_an_invalidation_is_answered(make).await?;
    no_answer_comes_after_the_deadline(make).await?;
    names_of_one_record_are_fetched_together(make).await?;
    an_outage_is_answered_as_an_error(make).await?;
    #[cfg(target_os = "linux")]
    no_value_outlives_its_end_in_memory(make).await?;
    Ok(())
}

/// A value is fetched once within its time to live.
///
/// # Errors
/// When it is fetched twice.
pub async fn a_value_within_its_time_is_not_fetched_again(make: Make<'_>) -> Kept {
    let court = Court::new("a_value_within_its_time_is_not_fetched_again", make)?;
    for _ in 0..3 {
        court.answers("first").await?;
    }
    court.clock.advance(TTL / 2);
    court.answers("first").await?;
    court.calls(1)
}

/// A value past its time to live is fetched again, even when the answer was asked for before and
/// is awaited after.
///
/// # Errors
/// When the old one is answered.
pub async fn an_expired_value_is_not_answered(make: Make<'_>) -> Kept {
    let court = Court::new("an_expired_value_is_not_answered", make)?;
    court.answers("first").await?;
    let late = court.subject.resolver.get(NAME);
    court.store.set(NAME, "second");
    court.clock.advance(TTL);
    court.check(court.in_time(late).await?, "second")?;
    court.answers("second").await
}

/// A hundred gets of a cold name are one fetch.
///
/// # Errors
/// When there are more.
pub async fn all_who_wait_share_one_fetch(make: Make<'_>) -> Kept {
    let court = Court::new("all_who_wait_share_one_fetch", make)?;
    for answer in court.herd(Reply::Stored).await? {
        court.check(answer.and_then(Record::into_secret), "first")?;
    }
    court.calls(1)
}

/// A hundred gets of a name whose fetch fails are one fetch, and all get its error.
///
/// # Errors
/// When there are more, or other errors.
pub async fn all_who_wait_share_an_error(make: Make<'_>) -> Kept {
    let court = Court::new("all_who_wait_share_an_error", make)?;
    for answer in court.herd(Reply::Error(ErrorKind::Unavailable)).await? {
        court.fails(answer.and_then(Record::into_secret), ErrorKind::Unavailable)?;
    }
    court.calls(1)?;
    // An outage is not remembered.
    court.answers("first").await
}

/// Twenty callers, each dropped while it waits, neither end the fetch nor start another.
///
/// # Errors
/// When there is another fetch, or none that ends.
pub async fn a_caller_who_leaves_does_not_end_the_fetch(make: Make<'_>) -> Kept {
    let court = Court::new("a_caller_who_leaves_does_not_end_the_fetch", make)?;
    let gate = Gate::new();
    court.store.script(NAME, [gate.then(Reply::Stored)]);
    for _ in 0..20 {
        let mut get = pin!(court.subject.resolver.get(NAME));
        court.is_pending(get.as_mut())?;
        court.in_time(court.store.called(1)).await?;
    }
    gate.open();
    court.answers("first").await?;
    court.calls(1)
}

/// What was fetched, or was being fetched, before `invalidate` returned is answered to nobody; a
/// get that waits already is given the next fetch's answer.
///
/// # Errors
/// When the old value is answered.
pub async fn nothing_fetched_before_an_invalidation_is_answered(make: Make<'_>) -> Kept {
    let court = Court::new("nothing_fetched_before_an_invalidation_is_answered", make)?;
    let gate = Gate::new();
    // The store reads the old value; its answer is on the way while the new one is written.
    court.store.script(NAME, [gate.then(Reply::Stored)]);
    let mut waiting = pin!(court.subject.resolver.get(NAME));
    court.is_pending(waiting.as_mut())?;
    court.in_time(court.store.called(1)).await?;
    court.store.set(NAME, "second");
    court.invalidate()?;
    gate.open();
    court.check(court.in_time(waiting).await?, "second")?;
    court.answers("second").await?;
    court.store.set(NAME, "third");
    court.invalidate()?;
    court.answers("third").await
}

/// A get of a store that hangs ends with its deadline.
///
/// # Errors
/// When it does not, or with another kind of error.
pub async fn no_answer_comes_after_the_deadline(make: Make<'_>) -> Kept {
    let court = Court::new("no_answer_comes_after_the_deadline", make)?;
    court.store.always(Reply::Hang);
    let mut get = pin!(court.subject.resolver.get(NAME));
    court.is_pending(get.as_mut())?;
    court.in_time(court.store.called(1)).await?;
    court.clock.advance(Duration::from_secs(5));
    court.fails(court.in_time(get).await?, ErrorKind::Timeout)
}

/// A batch with several fields of one record, and one of them twice, asks for the record once and
/// answers in order.
///
/// # Errors
/// When it asks more often, or answers otherwise.
pub async fn names_of_one_record_are_fetched_together(make: Make<'_>) -> Kept {
    let court = Court::new("names_of_one_record_are_fetched_together", make)?;
    court.store.set("law/record#other", "other");
    let names = ["law/record#other", NAME, "law/record#other"];
    let answers = court
        .in_time(court.subject.resolver.get_many(&names))
        .await?;
    if answers.len() != names.len() {
        return broken(court.law, "another number of answers than of names");
    }
    for (answer, value) in answers.into_iter().zip(["other", "first", "other"]) {
        court.check(answer, value)?;
    }
    court.calls(1)
}

/// When the store is away and nothing else was named, a value past its time is not answered.
///
/// # Errors
/// When something is.
pub async fn an_outage_is_answered_as_an_error(make: Make<'_>) -> Kept {
    let court = Court::new("an_outage_is_answered_as_an_error", make)?;
    court.answers("first").await?;
    court.clock.advance(TTL);
    for kind in ErrorKind::ALL {
        court.store.always(Reply::Error(kind));
        court.fails(court.in_time(court.subject.resolver.get(NAME)).await?, kind)?;
        // Past the time for which a refusal is remembered.
        court.clock.advance(Duration::from_secs(5));
    }
    Ok(())
}

impl Court {
    fn new(law: &'static str, make: Make<'_>) -> Kept<Self> {
        let store = MockBackend::new().with_value(NAME, "first");
        let clock = ManualClock::strict();
        let made = make(store.clone(), clock.clone());
        let (Ok(subject), Ok(real)) = (made, SystemClock::shared()) else {
            return broken(law, "the subject could not be made");
        };
        Ok(Self {
            law,
            store: store.with_clock(clock.clone()),
            clock,
            subject,
            real,
        })
    }

    /// What `future` answers, or a violation when it takes more than 10 s of real time.
    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Kept<T> {
        let late = self
            .real
            .sleep_until(self.real.now() + Duration::from_secs(10));
        let hung = async {
            late.await;
            broken(self.law, "it does not answer")
        };
        race(async { Ok(future.await) }, hung).await
    }

    async fn answers(&self, value: &str) -> Kept {
        let answer = self.in_time(self.subject.resolver.get(NAME)).await?;
        self.check(answer, value)
    }

    fn check(&self, answer: Result<Secret, Error>, value: &str) -> Kept {
        match answer {
            Ok(secret) if secret.answer().freshness() != Freshness::Fresh => {
                broken(self.law, "an answer that is marked as not fresh")
            }
            Ok(secret) if secret.expose_str().is_ok_and(|text| text == value) => Ok(()),
            Ok(_) => broken(self.law, "another value than the current one"),
            Err(error) => broken(self.law, &format!("an error instead of a value: {error}")),
        }
    }

    fn fails(&self, answer: Result<Secret, Error>, kind: ErrorKind) -> Kept {
        match answer {
            Err(error) if error.kind() == kind => Ok(()),
            Err(error) => broken(self.law, &format!("another error than {kind:?}: {error}")),
            Ok(_) => broken(self.law, &format!("a value instead of {kind:?}")),
        }
    }

    fn calls(&self, number: usize) -> Kept {
        match self.store.calls() == number {
            true => Ok(()),
            false => broken(
                self.law,
                &format!("{} fetches instead of {number}", self.store.calls()),
            ),
        }
    }

    fn invalidate(&self) -> Kept {
        let invalidated = self.subject.invalidator.invalidate(NAME);
        invalidated
            .map(drop)
            .or_else(|_| broken(self.law, "the name could not be invalidated"))
    }

    /// Polls once; a violation when there is an answer although the store has given none.
    fn is_pending<T>(&self, future: std::pin::Pin<&mut impl Future<Output = T>>) -> Kept {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(()),
            Poll::Ready(_) => broken(self.law, "an answer that the store has not given"),
        }
    }

    /// A hundred gets that wait for one answer, which is held back until all of them wait.
    async fn herd(&self, reply: Reply) -> Kept<Vec<Result<Record, Error>>> {
        let gate = Gate::new();
        self.store.script(NAME, [gate.then(reply)]);
        let Ok(name) = crate::name::NameRef::parse(NAME) else {
            return broken(self.law, "the law's own name is not valid");
        };
        let resolver = &self.subject.resolver;
        let gets = (0..100).map(|_| resolver.resolve(Request::new(name)));
        let mut all = pin!(join_all(gets));
        self.is_pending(all.as_mut())?;
        self.in_time(self.store.called(1)).await?;
        gate.open();
        self.in_time(all).await
    }
}

#[cfg(test)]
mod tests;
