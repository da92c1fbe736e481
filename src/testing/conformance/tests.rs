//! The suite on the resolvers of this crate, and each law on a resolver that breaks it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::address::Located;
use crate::layers::{Cache, CacheConfig, Deadline};
use crate::name::NameRef;
use crate::resolver::{ResolveFuture, ResolveManyFuture, ShutdownFuture};
use crate::secret::{Record, SecretBuf};
use crate::stack::Resolver;
use crate::sync::lock;
use crate::testing::{ManualClock, MockBackend, Reply};

fn mock() -> MockBackend {
    MockBackend::new()
        .with_value("prod/db#user", "app-canary")
        .with_value("prod/db#password", "hunter2-canary")
        .with_value("prod/token", "t0k3n-canary")
}

fn subject(resolver: impl SecretResolver) -> Subject {
    let subject = Subject::new(Arc::new(resolver), "no/such").unwrap();
    let stored = [
        ("prod/db#user", "app-canary"),
        ("prod/db#password", "hunter2-canary"),
        ("prod/token", "t0k3n-canary"),
    ];
    stored.into_iter().fold(subject, |subject, (name, value)| {
        subject.stores(name, value).unwrap()
    })
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::strict())
}

async fn keeps_all(resolver: impl SecretResolver) {
    let subject = subject(resolver);
    all(&subject).await.unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}

#[tokio::test]
async fn the_mock_keeps_all_laws() {
    keeps_all(mock()).await;
}

#[tokio::test]
async fn the_deadline_layer_keeps_all_laws() {
    keeps_all(Deadline::new(mock(), clock(), Duration::from_secs(5))).await;
}

#[tokio::test]
async fn the_cache_keeps_all_laws() {
    keeps_all(Cache::new(mock(), clock(), CacheConfig::default()).unwrap()).await;
}

#[tokio::test]
async fn the_assembled_resolver_keeps_all_laws() {
    keeps_all(Resolver::builder(mock()).build().unwrap()).await;
}

/// All laws except those of what is not there: for that the primary's own error stays the answer.
#[tokio::test]
async fn a_resolver_whose_fallback_answers_keeps_the_laws() {
    let away = MockBackend::new();
    away.always(Reply::Error(ErrorKind::Unavailable));
    let resolver = Resolver::builder(away)
        .with_attempts(1)
        .dangerous_fallback_to(mock());
    let subject = subject(resolver.build().unwrap());
    answers_what_is_stored(&subject).await.unwrap();
    the_named_field_is_selected(&subject).await.unwrap();
    gets_at_once_agree(&subject).await.unwrap();
    locate_is_stable(&subject).await.unwrap();
    a_dropped_call_leaves_it_usable(&subject).await.unwrap();
    nothing_shown_holds_a_value(&subject).await.unwrap();
    an_exact_version_is_never_another(&subject).await.unwrap();
    a_version_below_the_floor_is_not_answered(&subject)
        .await
        .unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}

#[tokio::test]
async fn a_shared_and_a_boxed_trait_object_keep_all_laws() {
    let shared: Arc<dyn SecretResolver> = Arc::new(mock());
    keeps_all(shared).await;
    let boxed: Box<dyn SecretResolver> = Box::new(Resolver::builder(mock()).build().unwrap());
    keeps_all(boxed).await;
}

/// A way to break the contract.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    OtherValue,
    NeverAnswers,
    AnswersAnything,
    AnswersAnyField,
    SelectsNothing,
    ReversesBatches,
    DropsFromBatches,
    InventsTheEndOfBatches,
    FailsWhenBusy,
    Wanders,
    IgnoresVersions,
    BreaksWhenDropped,
    ShowsValues,
    QuotesValues,
    StaysOpen,
}

struct Broken {
    way: Way,
    inner: MockBackend,
    calls: AtomicUsize,
    busy: Arc<AtomicUsize>,
    seen: Mutex<String>,
}

fn broken_resolver(way: Way) -> Subject {
    subject(Broken {
        way,
        inner: mock(),
        calls: AtomicUsize::new(0),
        busy: Arc::default(),
        seen: Mutex::default(),
    })
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.way, lock(&self.seen))
    }
}

fn record(value: &[u8]) -> Record {
    Record::single("broken", SecretBuf::from_slice(value).unwrap())
}

/// Counts a call as under way until it is dropped.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SecretResolver for Broken {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let before = self.busy.fetch_add(1, Ordering::Relaxed);
        let busy = Busy(Arc::clone(&self.busy));
        ResolveFuture::new(async move {
            // Forgotten when the call is dropped at its first await, in the one way that leaks.
            let busy = std::mem::ManuallyDrop::new(busy);
            tokio::task::yield_now().await;
            let busy = std::mem::ManuallyDrop::into_inner(busy);
            let answer = self.inner.resolve(Request::new(request.name())).await;
            let denied = |what| Err(Error::new(ErrorKind::Denied, what));
            let answer = match self.way {
                Way::OtherValue => answer.map(|_| record(b"other")),
                Way::NeverAnswers => denied("no"),
                Way::AnswersAnything => answer.or(Ok(record(b"anything"))),
                Way::AnswersAnyField => answer.map(|record| match record.clone().into_secret() {
                    Ok(_) => record,
                    Err(_) => record.select(Some("user")),
                }),
                Way::SelectsNothing => answer.map(|record| record.select(Some("nothing"))),
                Way::FailsWhenBusy if before > 20 => denied("busy"),
                Way::BreaksWhenDropped if before >= 20 => denied("all places are taken"),
                Way::QuotesValues => {
                    Err(Error::new(ErrorKind::NotFound, "no").with_detail("t0k3n-canary"))
                }
                Way::IgnoresVersions => answer,
                Way::ShowsValues => {
                    lock(&self.seen).push_str("t0k3n-canary");
                    answer
                }
                _ => answer.and_then(|record| request.admit(record)),
            };
            drop(busy);
            answer
        })
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        ResolveManyFuture::new(async move {
            let mut answers = self.inner.resolve_many(requests).await;
            match self.way {
                Way::ReversesBatches => answers[1..].rotate_left(1),
                Way::DropsFromBatches => answers.truncate(1),
                Way::InventsTheEndOfBatches => {
                    let end = answers.last_mut().filter(|end| end.is_err());
                    end.into_iter()
                        .for_each(|end| *end = Ok(record(b"anything")));
                }
                _ => {}
            }
            answers
        })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        match self.way {
            Way::Wanders => {
                let call = self.calls.fetch_add(1, Ordering::Relaxed);
                Located::new(format!("{}-{call}", name.path()), None)
            }
            _ => Located::by_path(name),
        }
    }

    fn shutdown(&self, deadline: crate::Moment) -> ShutdownFuture<'_> {
        match self.way {
            Way::StaysOpen => ShutdownFuture::ready(crate::ShutdownReport::default()),
            _ => self.inner.shutdown(deadline),
        }
    }
}

/// Asserts that `law` rejects a resolver broken in this way.
macro_rules! rejects {
    ($($test:ident: $law:ident, $way:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let violation = $law(&broken_resolver(Way::$way)).await.unwrap_err();
            assert_eq!(violation.law, stringify!($law));
            assert!(!violation.to_string().contains("canary"), "{violation}");
        }
    )*};
}

rejects! {
    another_value_is_rejected: answers_what_is_stored, OtherValue;
    no_value_is_rejected: answers_what_is_stored, NeverAnswers;
    an_invented_value_is_rejected: answers_not_found_for_what_is_not, AnswersAnything;
    another_kind_of_error_is_rejected: answers_not_found_for_what_is_not, NeverAnswers;
    another_field_instead_of_a_missing_one_is_rejected: a_missing_field_is_not_found, AnswersAnyField;
    an_unselected_field_is_rejected: the_named_field_is_selected, SelectsNothing;
    a_batch_in_another_order_is_rejected: a_batch_keeps_its_order_and_each_fails_alone, ReversesBatches;
    a_batch_with_answers_missing_is_rejected: a_batch_keeps_its_order_and_each_fails_alone, DropsFromBatches;
    an_invented_value_at_the_end_of_a_batch_is_rejected: a_batch_keeps_its_order_and_each_fails_alone, InventsTheEndOfBatches;
    failing_under_concurrency_is_rejected: gets_at_once_agree, FailsWhenBusy;
    an_address_that_changes_is_rejected: locate_is_stable, Wanders;
    another_version_than_asked_for_is_rejected: an_exact_version_is_never_another, IgnoresVersions;
    a_version_below_the_floor_is_rejected: a_version_below_the_floor_is_not_answered, IgnoresVersions;
    places_lost_by_dropped_calls_are_rejected: a_dropped_call_leaves_it_usable, BreaksWhenDropped;
    a_value_in_debug_is_rejected: nothing_shown_holds_a_value, ShowsValues;
    a_value_in_an_error_is_rejected: nothing_shown_holds_a_value, QuotesValues;
    answering_after_shutdown_is_rejected: after_shutdown_all_is_refused, StaysOpen;
}

#[tokio::test]
async fn a_subject_that_proves_nothing_is_rejected() {
    let empty = Subject::new(Arc::new(mock()), "no/such").unwrap();
    assert!(all(&empty).await.is_err());
}

/// How many calls a store takes from each of these laws, in all.
macro_rules! calls_of {
    ($($law:ident),* $(,)?) => {{
        let mut calls = 0;
        $(
            let store = mock();
            $law(&subject(store.clone())).await.unwrap();
            calls += store.calls();
        )*
        calls
    }};
}

#[tokio::test]
async fn all_laws_are_asked_for_together_and_none_is_left_out() {
    let store = mock();
    all(&subject(store.clone())).await.unwrap();
    let each = calls_of![
        answers_what_is_stored,
        answers_not_found_for_what_is_not,
        a_missing_field_is_not_found,
        the_named_field_is_selected,
        a_batch_keeps_its_order_and_each_fails_alone,
        gets_at_once_agree,
        locate_is_stable,
        an_exact_version_is_never_another,
        a_version_below_the_floor_is_not_answered,
        a_dropped_call_leaves_it_usable,
        nothing_shown_holds_a_value,
    ];
    assert_eq!(store.calls(), each);
}

#[test]
fn a_value_is_found_in_a_text_wherever_it_stands_and_however_short_it_is() {
    for part in ["canary", "c", "y", "x canary", "canary z", "x canary z"] {
        assert!(contains(b"x canary z", part.as_bytes()), "{part}");
    }
    for part in ["canarz", "b", "x canary z ", ""] {
        assert!(!contains(b"x canary z", part.as_bytes()), "{part}");
    }
}

#[tokio::test]
async fn of_each_name_fifty_gets_are_made_at_once() {
    let store = mock();
    gets_at_once_agree(&subject(store.clone())).await.unwrap();
    assert_eq!(store.calls(), 3 * 50);
}
