//! Least privilege at start: what a store's identity may do beyond reading what is required is a warning, or an error where that is
//! wanted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{Excess, ExcessFuture, NameRef, Request, ResolveFuture};
use secret_resolver::testing::{ManualClock, MockBackend};
use secret_resolver::{Error, ErrorKind, RequireError, Resolver, ResolverBuilder, SecretResolver};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

const NAMES: [&str; 3] = ["a/db#password", "a/db#user", "b/token"];

fn store() -> MockBackend {
    NAMES.iter().fold(MockBackend::new(), |store, name| {
        store.with_value(name, "v1")
    })
}

fn strict(store: impl SecretResolver) -> ResolverBuilder {
    Resolver::builder(store).require_least_privilege()
}

/// The one error of a start that is refused although all names resolve.
fn refused(answer: Result<secret_resolver::Required, RequireError>) -> Error {
    let error = answer.unwrap_err();
    let failures: Vec<_> = error.failures().collect();
    assert!(!failures.is_empty());
    let shown = error.to_string();
    assert!(
        shown.contains("secrets resolve, but are withheld: "),
        "{shown}"
    );
    failures[0].2.clone()
}

/// How the excess of a [`Store`] is answered.
#[derive(Clone, Copy, Debug)]
enum How {
    Nothing,
    Fails(ErrorKind),
    Hangs,
    Panics,
    All,
}

/// A store that notes for which names it was asked what its identity may do.
#[derive(Clone, Debug)]
struct Store {
    values: MockBackend,
    how: Arc<Mutex<How>>,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Store {
    fn new(how: How) -> Self {
        Self {
            values: store(),
            how: Arc::new(Mutex::new(how)),
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

impl SecretResolver for Store {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.values.resolve(request)
    }

    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        let asked = names.iter().map(ToString::to_string).collect();
        self.asked.lock().unwrap().push(asked);
        let how = *self.how.lock().unwrap();
        ExcessFuture::new(async move {
            match how {
                How::Nothing => Ok(Vec::new()),
                How::Fails(kind) => Err(Error::new(kind, "of the test's own making")),
                How::Hangs => std::future::pending().await,
                How::Panics => panic!("of the test's own making"),
                How::All => Ok((0..names.len()).map(Excess::Write).collect()),
            }
        })
    }
}

#[tokio::test]
async fn a_start_with_more_rights_than_it_needs_is_refused_where_that_is_wanted() {
    for (excess, text) in [
        (Excess::Root, "it may do anything"),
        (Excess::Write(2), "it may change b/token"),
        (Excess::Others(Some(4)), "it may see 4 other secrets"),
        (Excess::Others(None), "it may see or read other secrets"),
        (Excess::Unknown, "a store cannot say what it may do"),
    ] {
        let store = store();
        store.set_excess([excess]);
        let resolver = strict(store.clone()).build().unwrap();
        // As often as it is asked.
        for _ in 0..2 {
            let error = refused(resolver.require(&NAMES).await);
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(text), "{error}");
        }
        store.set_excess([]);
        resolver.require(&NAMES).await.unwrap();
    }
}

#[tokio::test]
async fn without_that_a_start_with_more_rights_goes_on() {
    let excess = [Excess::Root, Excess::Write(0), Excess::Unknown];
    for how in excess {
        let store = store();
        store.set_excess([how]);
        let resolver = Resolver::builder(store).build().unwrap();
        assert_eq!(
            resolver.require(&NAMES).await.unwrap().into_secrets().len(),
            3
        );
    }
}

#[tokio::test]
async fn a_store_is_asked_once_for_all_that_was_declared_so_far() {
    let store = Store::new(How::Nothing);
    let resolver = strict(store.clone()).build().unwrap();
    resolver.require(&NAMES[..1]).await.unwrap();
    resolver.require(&NAMES[..1]).await.unwrap();
    assert_eq!(store.asked().len(), 1);
    // So that what was declared before is not "another secret".
    resolver.require(&NAMES[1..]).await.unwrap();
    assert_eq!(store.asked()[1], NAMES);
    // Reads that are not declared ask nothing.
    resolver.get(NAMES[0]).await.unwrap();
    assert_eq!(store.asked().len(), 2);
}

#[tokio::test]
async fn each_store_is_asked_about_its_own_names_and_only_about_these() {
    let (a, b) = (Store::new(How::All), Store::new(How::Nothing));
    let resolver = strict(b.clone())
        .with_route("a", a.clone())
        .build()
        .unwrap();
    let error = refused(resolver.require(&["b/token", "a/db#user"]).await);
    assert!(
        error.to_string().ends_with("it may change a/db#user)"),
        "{error}"
    );
    assert_eq!(a.asked(), [["a/db#user"]]);
    assert_eq!(b.asked(), [["b/token"]]);
    // The positions of each store's names are those in the whole list.
    let (a, b) = (Store::new(How::Nothing), Store::new(How::All));
    let resolver = strict(b).with_route("a", a).build().unwrap();
    let error = refused(resolver.require(&["b/token", "a/db#user"]).await);
    assert!(
        error.to_string().ends_with("it may change b/token)"),
        "{error}"
    );
    let b = Store::new(How::Nothing);
    // One without any of the names is not asked.
    let unused = Store::new(How::All);
    let resolver = strict(b).with_route("a", unused.clone()).build().unwrap();
    resolver.require(&["b/token"]).await.unwrap();
    assert!(unused.asked().is_empty());
}

#[tokio::test]
async fn a_scope_is_not_shown_where_the_secrets_are() {
    let store = Store::new(How::All);
    let resolver = strict(store.clone()).build().unwrap();
    let error = refused(resolver.scoped("a").unwrap().require(&["db#user"]).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.detail(), None);
    assert_eq!(store.asked(), [["a/db#user"]]);
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error_only_where_it_matters() {
    for how in [How::Fails(ErrorKind::Denied), How::Panics] {
        let lax = Resolver::builder(Store::new(how)).build().unwrap();
        lax.require(&NAMES).await.unwrap();
        let strict = strict(Store::new(how)).build().unwrap();
        let error = refused(strict.require(&NAMES).await);
        assert!(
            matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unavailable),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_store_that_does_not_say_it_holds_up_no_start_for_ever() {
    for wanted in [false, true] {
        let (clock, store) = (ManualClock::strict(), Store::new(How::Hangs));
        let builder = match wanted {
            true => strict(store.clone()),
            false => Resolver::builder(store.clone()),
        };
        let resolver = builder.with_clock(clock.clone()).build().unwrap();
        let passes = async {
            while store.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_secs(60));
        };
        let waits = async { tokio::join!(resolver.require(&NAMES), passes).0 };
        let answer = tokio::time::timeout(Duration::from_secs(20), waits);
        let answer = answer.await.unwrap();
        match wanted {
            true => assert_eq!(refused(answer).kind(), ErrorKind::Timeout),
            false => drop(answer.unwrap()),
        }
    }
}

#[tokio::test]
async fn a_start_that_waits_for_its_store_waits_for_this_answer_too() {
    let store = Store::new(How::Fails(ErrorKind::Unavailable));
    let resolver = strict(store.clone())
        .with_clock(ManualClock::new())
        .build()
        .unwrap();
    let waits = resolver.require_within(&NAMES, Duration::from_secs(60));
    let recovers = async {
        while store.asked().len() < 3 {
            tokio::task::yield_now().await;
        }
        *store.how.lock().unwrap() = How::Nothing;
    };
    let (answer, ()) = tokio::join!(waits, recovers);
    answer.unwrap();
    // What does not pass by itself is said at once.
    let store = Store::new(How::All);
    let resolver = strict(store.clone()).build().unwrap();
    let minute = Duration::from_secs(60);
    let error = refused(resolver.require_within(&NAMES, minute).await);
    assert_eq!((error.kind(), store.asked().len()), (ErrorKind::Refused, 1));
}

/// Keeps every event of the audit as a line of text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "secret_resolver::audit"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0
            .lock()
            .unwrap()
            .push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

#[test]
fn a_start_with_more_rights_than_it_needs_is_warned_of_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let warned = |how: How| {
        let lines = Lines::default();
        let resolver = Resolver::builder(Store::new(how)).build().unwrap();
        tracing::subscriber::with_default(lines.clone(), || {
            runtime.block_on(async {
                resolver.require(&NAMES).await.unwrap();
                resolver.require(&NAMES).await.unwrap();
            });
        });
        let lines = lines.0.lock().unwrap();
        let warned = lines.iter().filter(|(level, _)| *level == Level::WARN);
        warned.map(|(_, line)| line.clone()).collect::<Vec<_>>()
    };
    let lines = warned(How::All);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("it may change a/db#password, a/db#user, b/token"),
        "{lines:?}"
    );
    // That it is not known is said as often as it is asked.
    let lines = warned(How::Fails(ErrorKind::Denied));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("not known whether"), "{lines:?}");
    assert_eq!(warned(How::Nothing).len(), 0);
}
