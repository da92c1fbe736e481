//! Which store has which name, and that no other is ever asked.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::resolver::SecretResolverExt;
use crate::secret::Version;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{Gate, MockBackend, Reply};

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match poll_once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn shared(backend: &MockBackend) -> Arc<dyn SecretResolver> {
    Arc::new(backend.clone())
}

fn name(text: &str) -> NameRef<'_> {
    NameRef::parse(text).unwrap()
}

fn address(resolver: &impl SecretResolver, text: &str) -> String {
    resolver.locate(name(text)).address().as_str().to_owned()
}

/// A backend that says which one it is under every name in `names`.
fn says(text: &str, names: &[&str]) -> MockBackend {
    let backend = MockBackend::new();
    for name in names {
        backend.set(name, text);
    }
    backend
}

#[tokio::test]
async fn it_keeps_all_laws() {
    let prod = says("one-canary", &["prod/db#password"]);
    let rest = says("two-canary", &["other/token", "production"]);
    let route = Route::builder()
        .route("prod", shared(&prod))
        .otherwise(shared(&rest))
        .build()
        .unwrap();
    let subject = Subject::new(Arc::new(route), "no/such").unwrap();
    let subject = subject.stores("prod/db#password", "one-canary").unwrap();
    let subject = subject.stores("other/token", "two-canary").unwrap();
    let subject = subject.stores("production", "two-canary").unwrap();
    all(&subject).await.unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}

#[tokio::test]
async fn it_keeps_all_laws_even_when_the_absent_name_has_no_store() {
    let prod = says("one-canary", &["prod/a"]);
    prod.set("prod/b", "two-canary");
    let route = Route::builder().route("prod", shared(&prod));
    let subject = Subject::new(Arc::new(route.build().unwrap()), "no/such").unwrap();
    let subject = subject.stores("prod/a", "one-canary").unwrap();
    all(&subject.stores("prod/b", "two-canary").unwrap())
        .await
        .unwrap();
}

#[test]
fn the_longest_prefix_of_whole_segments_has_the_name() {
    let names = [
        ("prod", "prod"),
        ("prod#field", "prod"),
        ("prod/x", "prod"),
        ("prod/d", "prod"),
        ("prod/dbs/x", "prod"),
        ("prod/db", "prod/db"),
        ("prod/db#password", "prod/db"),
        ("prod/db/deep/er#f", "prod/db"),
        ("prod/db/a/b", "prod/db/a/b"),
        ("prod/db/a/b/c#d", "prod/db/a/b"),
        ("prod/db/a", "prod/db"),
        ("production", "rest"),
        ("pro", "rest"),
        ("x/prod/db", "rest"),
        ("PROD/db", "rest"),
    ];
    for (name, store) in names {
        let prefixes = ["prod", "prod/db/a/b", "prod/db"];
        let builder = prefixes.iter().fold(Route::builder(), |builder, prefix| {
            builder.route(*prefix, shared(&says(prefix, &[name])))
        });
        let route = builder.otherwise(shared(&says("rest", &[name])));
        let secret = now(route.build().unwrap().get(name)).unwrap();
        assert_eq!(secret.expose_str().unwrap(), store, "{name}");
    }
}

#[test]
fn a_name_without_a_store_is_not_found_and_nobody_is_asked() {
    let prod = says("one", &["prod", "staging/db"]);
    let route = Route::builder().route("prod", shared(&prod));
    let route = route.build().unwrap();
    let error = now(route.get("staging/db")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no store has a prefix"));
    let answers = now(route.get_many(&["staging/db", "prod"]));
    assert!(answers[0].is_err() && answers[1].is_ok());
    assert_eq!(prod.calls_of("staging/db"), 0);
}

#[test]
fn what_one_store_refuses_is_asked_of_no_other() {
    for kind in ErrorKind::ALL {
        let (prod, rest) = (MockBackend::new(), says("rest", &["prod/db"]));
        prod.always(Reply::Error(kind));
        let route = Route::builder()
            .route("prod", shared(&prod))
            .otherwise(shared(&rest))
            .build()
            .unwrap();
        assert_eq!(now(route.get("prod/db")).unwrap_err().kind(), kind);
        let many = now(route.get_many(&["prod/db"]));
        assert_eq!(many[0].as_ref().unwrap_err().kind(), kind);
        assert_eq!((prod.calls(), rest.calls()), (2, 0));
    }
}

/// A store that keeps everything at one place, whatever the name.
#[derive(Debug)]
struct Heap(&'static str);

impl SecretResolver for Heap {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let _ = request;
        ResolveFuture::ready(Err(Error::new(ErrorKind::NotFound, "a heap")))
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        Located::new(self.0, name.field().map(|_| Cow::Owned("f".to_owned())))
    }
}

#[test]
fn addresses_of_two_stores_never_meet_and_those_of_one_store_do() {
    let one: Arc<dyn SecretResolver> = Arc::new(Heap("same"));
    let route = Route::builder()
        .route("a", Arc::clone(&one))
        .route("b", one)
        .route("c", Arc::new(Heap("same")))
        // As if it were another store's address.
        .route("d", Arc::new(Heap("0:same")))
        .route("e", Arc::new(Heap(":x")))
        .build()
        .unwrap();
    assert_eq!(address(&route, "a/x"), address(&route, "b/y"));
    let names = ["a", "c", "d", "e", "x", "same", "0/same", "0:same"];
    for (at, one) in names.iter().enumerate() {
        for other in &names[at + 1..] {
            assert_ne!(address(&route, one), address(&route, other));
        }
    }
    // The store's own view of the field goes with it.
    assert_eq!(route.locate(name("a/x#other")).field(), Some("f"));
    assert_eq!(route.locate(name("a/x")).field(), None);
}

#[test]
fn a_batch_asks_all_stores_at_once_and_answers_in_order() {
    let gate = Gate::new();
    let (one, two) = (says("one", &["a/1", "a/2"]), says("two", &["b/1"]));
    for store in [&one, &two] {
        store.always(gate.then(Reply::Stored));
    }
    let route = Route::builder()
        .route("a", shared(&one))
        .route("b", shared(&two))
        .build()
        .unwrap();
    let names = ["b/1", "a/1", "no/such", "a/2", "b/1"];
    let mut answers = Box::pin(route.get_many(&names));
    // All wait at the gate together: none is asked after another.
    assert!(poll_once(answers.as_mut()).is_pending());
    assert_eq!((one.calls(), two.calls()), (2, 2));
    gate.open();
    let texts: Vec<_> = now(answers)
        .into_iter()
        .map(|answer| answer.map(|secret| secret.expose_str().unwrap().to_owned()))
        .map(|answer| answer.unwrap_or_else(|error| error.kind().to_string()))
        .collect();
    assert_eq!(texts, ["two", "one", "not found", "one", "two"]);
}

#[test]
fn a_store_that_hangs_or_panics_stops_nobody_elses_names() {
    let (dead, alive) = (MockBackend::new(), says("alive", &["b"]));
    dead.always(Reply::Hang);
    let route = Route::builder()
        .route("a", shared(&dead))
        .route("b", shared(&alive))
        .build()
        .unwrap();
    let mut hangs = Box::pin(route.get("a"));
    assert!(poll_once(hangs.as_mut()).is_pending());
    assert!(now(route.get("b")).is_ok());
    dead.always(Reply::Panic);
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| now(route.get("a"))));
    assert!(panics.is_err());
    assert!(now(route.get("b")).is_ok());
}

/// A store that shows what it was asked.
#[derive(Debug)]
struct Shows;

impl SecretResolver for Shows {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let shown = format!("{request:?}");
        ResolveFuture::ready(Err(
            Error::new(ErrorKind::NotFound, "shown").with_detail(shown)
        ))
    }

    fn endpoints(&self) -> usize {
        7
    }
}

#[test]
fn all_of_a_request_goes_on_except_its_direction() {
    let route = Route::builder().otherwise(Arc::new(Shows)).build().unwrap();
    assert_eq!(route.endpoints(), 7);
    let (version, floor) = (Version::number(7), Version::number(3));
    let held = Version::tag(b"held");
    let request = Request::new(name("a/b#c"))
        .with_version(&version)
        .at_least(&floor)
        .with_held(&held)
        .with_deadline(Moment::ZERO + Duration::from_secs(3));
    let error = now(route.resolve(request.at_endpoint(5))).unwrap_err();
    assert!(error.to_string().contains(&format!("{request:?}")));
    let many = now(route.resolve_many(&[request.at_endpoint(5)]));
    let error = many[0].as_ref().unwrap_err();
    assert!(error.to_string().contains(&format!("{request:?}")));
}

#[test]
fn a_new_login_at_any_store_is_a_new_identity() {
    #[derive(Debug)]
    struct LoggedIn(std::sync::atomic::AtomicU64);
    impl SecretResolver for LoggedIn {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            ResolveFuture::ready(Err(no_store(request.name())))
        }
        fn identity(&self) -> u64 {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }
    let stores = [1, 7].map(|login| Arc::new(LoggedIn(login.into())));
    let route = Route::builder()
        .route("a", Arc::clone(&stores[0]) as _)
        .otherwise(Arc::clone(&stores[1]) as _)
        .build()
        .unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (one, other) in [(1, 7), (2, 7), (1, 8), (2, 6), (7, 1)] {
        stores[0].0.store(one, std::sync::atomic::Ordering::SeqCst);
        stores[1]
            .0
            .store(other, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(route.identity(), route.identity());
        assert!(seen.insert(route.identity()), "{one} {other}");
    }
}

#[test]
fn shutdown_reaches_all_stores_at_once_each_once_and_sums_up() {
    #[derive(Debug)]
    struct Ends(Gate, MockBackend);
    impl SecretResolver for Ends {
        fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
            self.1.resolve(request)
        }
        fn shutdown(&self, _: Moment) -> ShutdownFuture<'_> {
            ShutdownFuture::new(async move {
                self.1.always(self.0.then(Reply::Stored));
                let _ = self.1.get("x").await;
                ShutdownReport {
                    revoked: 1,
                    not_revoked: 2,
                    ..ShutdownReport::default()
                }
            })
        }
    }
    let gate = Gate::new();
    let ends = || Arc::new(Ends(gate.clone(), MockBackend::new()));
    let (one, two) = (ends(), ends());
    let route = Route::builder()
        .route("a", Arc::clone(&one) as _)
        .route("b", Arc::clone(&one) as _)
        .otherwise(Arc::clone(&two) as _)
        .build()
        .unwrap();
    let mut report = Box::pin(route.shutdown(Moment::ZERO));
    assert!(poll_once(report.as_mut()).is_pending());
    assert_eq!((one.1.calls(), two.1.calls()), (1, 1));
    gate.open();
    let report = now(report);
    assert_eq!((report.revoked, report.not_revoked), (2, 4));
}

#[test]
fn a_route_that_leaves_something_open_is_refused() {
    let store = || shared(&MockBackend::new());
    let wrong = [
        Route::builder(),
        Route::builder().route("a", store()).route("a", store()),
        Route::builder().otherwise(store()).otherwise(store()),
        Route::builder().route("", store()),
        Route::builder().route("a/", store()),
        Route::builder().route("/a", store()),
        Route::builder().route("a#b", store()),
        Route::builder().route("a/../b", store()),
    ];
    for wrong in wrong {
        let refused = wrong.build().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    }
}
