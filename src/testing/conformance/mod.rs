//! The laws that every resolver keeps, one public function a law.
//!
//! A backend and a layer run [`all`] on themselves; a law that a resolver breaks comes back as a
//! [`Violation`], so that the suite can be tested, too: each law has a deliberately broken resolver
//! that it must reject. A resolver that answers from memory runs [`all_of_caching`], too.

mod caching;

#[cfg(target_os = "linux")]
pub use caching::no_value_outlives_its_end_in_memory;
pub use caching::{
    Caching, Make, a_caller_who_leaves_does_not_end_the_fetch,
    a_value_within_its_time_is_not_fetched_again, all_of_caching, all_who_wait_share_an_error,
    all_who_wait_share_one_fetch, an_expired_value_is_not_answered,
    an_outage_is_answered_as_an_error, names_of_one_record_are_fetched_together,
    no_answer_comes_after_the_deadline, nothing_fetched_before_an_invalidation_is_answered,
};

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::name::SecretName;
use crate::race::race;
use crate::resolver::{Request, SecretResolver, SecretResolverExt};
use crate::secret::{Secret, Version};

/// A resolver under test, and what is known about the store behind it.
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::testing::{MockBackend, conformance::{Subject, all}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = MockBackend::new().with_value("a/b#c", "first-value").with_value("a/d", "second-value");
/// let subject = Subject::new(Arc::new(backend), "no/such")?.stores("a/b#c", "first-value")?.stores("a/d", "second-value")?;
/// all(&subject).await.unwrap();
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Subject {
    resolver: Arc<dyn SecretResolver>,
    stored: Vec<(SecretName, Vec<u8>)>,
    absent: SecretName,
    clock: SystemClock,
}

/// A law that was broken, and how. It quotes no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The law's name.
    pub law: &'static str,
    /// What was found instead.
    pub found: String,
}

impl Subject {
    /// A resolver that has nothing under the name `absent`, nor a field of that path.
    ///
    /// # Errors
    /// When the name is not a valid one, or no thread can be started for time limits.
    pub fn new(resolver: Arc<dyn SecretResolver>, absent: &str) -> Result<Self, Error> {
        Ok(Self {
            resolver,
            stored: Vec::new(),
            absent: SecretName::parse(absent)?,
            clock: SystemClock::shared()?,
        })
    }

    /// What the store holds under a name. At least two names are needed, with different values that
    /// stand in no `Debug` text by chance: eight bytes or more.
    ///
    /// # Errors
    /// When the name is not a valid one.
    pub fn stores(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, Error> {
        let value = value.as_ref().to_vec();
        self.stored.push((SecretName::parse(name)?, value));
        Ok(self)
    }

    /// What `future` answers, or a violation when it takes more than 10 s of real time.
    async fn in_time<T>(&self, law: &'static str, future: impl Future<Output = T>) -> Kept<T> {
        let late = self
            .clock
            .sleep_until(self.clock.now() + Duration::from_secs(10));
        let hung = async {
            late.await;
            broken(law, "it does not answer")
        };
        race(async { Ok(future.await) }, hung).await
    }

    async fn get(&self, law: &'static str, name: &SecretName) -> Kept<Result<Secret, Error>> {
        self.in_time(law, self.resolver.get(name.as_str())).await
    }
}

type Kept<T = ()> = Result<T, Violation>;

/// Every law below, in turn, except the one about shutdown, which is the last thing that a resolver
/// can be asked.
///
/// # Errors
/// The first law that is broken.
pub async fn all(subject: &Subject) -> Result<(), Violation> {
    answers_what_is_stored(subject).await?;
    answers_not_found_for_what_is_not(subject).await?;
    a_missing_field_is_not_found(subject).await?;
    the_named_field_is_selected(subject).await?;
    a_batch_keeps_its_order_and_each_fails_alone(subject).await?;
    gets_at_once_agree(subject).await?;
    locate_is_stable(subject).await?;
    an_exact_version_is_never_another(subject).await?;
    a_version_below_the_floor_is_not_answered(subject).await?;
    a_dropped_call_leaves_it_usable(subject).await?;
    nothing_shown_holds_a_value(subject).await
}

/// `get` answers the bytes that the store holds.
///
/// # Errors
/// When it does not.
pub async fn answers_what_is_stored(subject: &Subject) -> Result<(), Violation> {
    let law = "answers_what_is_stored";
    enough(law, subject)?;
    for (name, value) in &subject.stored {
        check_value(law, subject.get(law, name).await?, value)?;
    }
    Ok(())
}

/// A name that the store does not have is an error of kind [`ErrorKind::NotFound`].
///
/// # Errors
/// When it is not.
pub async fn answers_not_found_for_what_is_not(subject: &Subject) -> Result<(), Violation> {
    let law = "answers_not_found_for_what_is_not";
    check_kind(
        law,
        subject.get(law, &subject.absent).await?,
        ErrorKind::NotFound,
    )
}

/// A field that the record does not have is an error of kind [`ErrorKind::NotFound`], and its
/// neighbours are answered.
///
/// # Errors
/// When it is not.
pub async fn a_missing_field_is_not_found(subject: &Subject) -> Result<(), Violation> {
    let law = "a_missing_field_is_not_found";
    for (name, value) in &subject.stored {
        let missing = format!("{}#no-such-field-here", name.path());
        let Ok(missing) = SecretName::parse(&missing) else {
            return broken(law, "the names given leave no room for another field");
        };
        check_kind(law, subject.get(law, &missing).await?, ErrorKind::NotFound)?;
        check_value(law, subject.get(law, name).await?, value)?;
    }
    Ok(())
}

/// A record comes with the field selected that the request named.
///
/// # Errors
/// When another one, or none, is.
pub async fn the_named_field_is_selected(subject: &Subject) -> Result<(), Violation> {
    let law = "the_named_field_is_selected";
    for (name, value) in &subject.stored {
        let request = Request::new(name.borrowed());
        let record = subject
            .in_time(law, subject.resolver.resolve(request))
            .await?;
        check_value(law, record.and_then(crate::Record::into_secret), value)?;
    }
    Ok(())
}

/// A batch is answered in the order asked, the same name as often as it was asked, and a name that
/// is not there fails alone.
///
/// # Errors
/// When it is not.
pub async fn a_batch_keeps_its_order_and_each_fails_alone(
    subject: &Subject,
) -> Result<(), Violation> {
    let law = "a_batch_keeps_its_order_and_each_fails_alone";
    let mut names = vec![subject.absent.clone()];
    for (name, _) in subject.stored.iter().chain(subject.stored.iter().rev()) {
        names.push(name.clone());
    }
    names.push(subject.absent.clone());
    let answers = subject
        .in_time(law, subject.resolver.get_many(&names))
        .await?;
    if answers.len() != names.len() {
        return broken(law, "another number of answers than of names");
    }
    for (name, answer) in names.iter().zip(answers) {
        match subject.stored.iter().find(|(stored, _)| stored == name) {
            Some((_, value)) => check_value(law, answer, value)?,
            None => check_kind(law, answer, ErrorKind::NotFound)?,
        }
    }
    Ok(())
}

/// Many gets at once are all answered, and in the same way.
///
/// # Errors
/// When one is not.
pub async fn gets_at_once_agree(subject: &Subject) -> Result<(), Violation> {
    let law = "gets_at_once_agree";
    for (name, value) in &subject.stored {
        let request = || subject.resolver.resolve(Request::new(name.borrowed()));
        let answers = crate::resolver::join_all((0..50).map(|_| request()));
        for answer in subject.in_time(law, answers).await? {
            check_value(law, answer.and_then(crate::Record::into_secret), value)?;
        }
    }
    Ok(())
}

/// `locate` answers the same at every call.
///
/// # Errors
/// When it does not.
pub async fn locate_is_stable(subject: &Subject) -> Result<(), Violation> {
    let law = "locate_is_stable";
    for (name, _) in &subject.stored {
        let before = subject.resolver.locate(name.borrowed());
        let _ = subject.get(law, name).await?;
        if subject.resolver.locate(name.borrowed()) != before {
            return broken(law, "another address or field at another call");
        }
    }
    Ok(())
}

/// A request for one version is answered with that version or with an error.
///
/// # Errors
/// When another version is answered.
pub async fn an_exact_version_is_never_another(subject: &Subject) -> Result<(), Violation> {
    let law = "an_exact_version_is_never_another";
    let version = Version::number(u64::from(u32::MAX));
    for (name, _) in &subject.stored {
        let request = Request::new(name.borrowed()).with_version(&version);
        if subject
            .in_time(law, subject.resolver.resolve(request))
            .await?
            .is_ok()
        {
            return broken(law, "an answer to a version that never was");
        }
    }
    Ok(())
}

/// A version that is known to be lower than the lowest accepted is not answered.
///
/// # Errors
/// When it is.
pub async fn a_version_below_the_floor_is_not_answered(subject: &Subject) -> Result<(), Violation> {
    let law = "a_version_below_the_floor_is_not_answered";
    let floor = Version::number(u64::from(u32::MAX));
    for (name, _) in &subject.stored {
        let request = Request::new(name.borrowed()).at_least(&floor);
        let answer = subject
            .in_time(law, subject.resolver.resolve(request))
            .await?;
        if answer.is_ok_and(|record| !request.accepts(record.version())) {
            return broken(law, "a version below the floor");
        }
    }
    Ok(())
}

/// A call that is dropped at its first await, twenty times over, leaves the resolver usable.
///
/// # Errors
/// When it does not.
pub async fn a_dropped_call_leaves_it_usable(subject: &Subject) -> Result<(), Violation> {
    let law = "a_dropped_call_leaves_it_usable";
    for (name, value) in &subject.stored {
        for _ in 0..20 {
            let mut call = pin!(subject.resolver.get(name.as_str()));
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        check_value(law, subject.get(law, name).await?, value)?;
    }
    Ok(())
}

/// Neither the `Debug` text of the resolver, of what it answers and of its errors nor an error's
/// message holds a value, before and after it was answered.
///
/// # Errors
/// When one does.
pub async fn nothing_shown_holds_a_value(subject: &Subject) -> Result<(), Violation> {
    let law = "nothing_shown_holds_a_value";
    for (name, value) in &subject.stored {
        let answered = subject.get(law, name).await?;
        let refused = subject.get(law, &subject.absent).await?;
        let request = Request::new(name.borrowed());
        let record = subject
            .in_time(law, subject.resolver.resolve(request))
            .await?;
        let mut shown = format!("{:?} {answered:?} {refused:?} {record:?}", subject.resolver);
        for error in [answered.err(), refused.err(), record.err()]
            .into_iter()
            .flatten()
        {
            shown.push_str(&error.to_string());
        }
        if contains(shown.as_bytes(), value) {
            return broken(law, "a Debug text or a message with a value in it");
        }
    }
    Ok(())
}

/// After `shutdown`, nothing is answered except errors of kind [`ErrorKind::Closed`]. For resolvers
/// that hold something; it leaves the resolver closed.
///
/// # Errors
/// When something else is answered.
pub async fn after_shutdown_all_is_refused(subject: &Subject) -> Result<(), Violation> {
    let law = "after_shutdown_all_is_refused";
    let (name, value) = enough(law, subject)?;
    check_value(law, subject.get(law, name).await?, value)?;
    // The subject's own clock is not the resolver's; the end of all time is the same on both.
    let deadline = crate::Moment::ZERO + Duration::MAX;
    subject
        .in_time(law, subject.resolver.shutdown(deadline))
        .await?;
    check_kind(law, subject.get(law, name).await?, ErrorKind::Closed)
}

fn enough<'a>(law: &'static str, subject: &'a Subject) -> Kept<&'a (SecretName, Vec<u8>)> {
    match &subject.stored[..] {
        [first, second, ..] if first.1 != second.1 && first.1.len().min(second.1.len()) >= 8 => {
            Ok(first)
        }
        _ => broken(
            law,
            "the subject needs two names with different values of 8 bytes or more",
        ),
    }
}

fn check_value(law: &'static str, answer: Result<Secret, Error>, value: &[u8]) -> Kept {
    match answer {
        Ok(secret) if secret.expose_secret() == value => Ok(()),
        Ok(_) => broken(law, "another value than the stored one"),
        Err(error) => broken(law, &format!("an error instead of a value: {error}")),
    }
}

fn check_kind(law: &'static str, answer: Result<Secret, Error>, kind: ErrorKind) -> Kept {
    match answer {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => broken(
            law,
            &format!("an error of another kind than {kind:?}: {error}"),
        ),
        Ok(_) => broken(
            law,
            &format!("a value instead of an error of kind {kind:?}"),
        ),
    }
}

fn broken<T>(law: &'static str, found: &str) -> Kept<T> {
    Err(Violation {
        law,
        found: found.to_owned(),
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|window| window == part)
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.found)
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests;
