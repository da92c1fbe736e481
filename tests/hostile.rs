//! What hostile readings of the code have found, each held by a test: signals, handles, names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use secret_resolver::backend::{Located, NameRef, Request, ResolveFuture, ShutdownFuture, Sleep};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{
    Address, Clock, ErrorKind, IdentityStatus, Moment, Resolver, SecretResolver, ShutdownReport,
};

const NAME: &str = "prod/db#password";
/// In the last fifth of every life of 300 s, whatever its jitter.
const REFRESHING: Duration = Duration::from_secs(250);

fn setup() -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new()
        .with_value(NAME, "v1")
        .with_clock(clock.clone());
    let builder = Resolver::builder(backend.clone())
        .with_attempts(1)
        .with_clock(clock.clone());
    (clock, backend, builder.build().unwrap())
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets the driver's thread finish what it was given: a fetch that is queued behind it is done.
async fn settle(backend: &MockBackend, resolver: &Resolver, round: usize) {
    let name = format!("settle/{round}");
    backend.set(&name, "x");
    resolver.get(&name).await.unwrap();
}

#[tokio::test]
async fn a_signal_for_another_name_makes_no_handle_fetch() {
    let (_clock, backend, resolver) = setup();
    let mut handles = Vec::new();
    for number in 0..50 {
        let name = format!("handle/{number}");
        backend.set(&name, "x");
        handles.push(resolver.handle(&name).await.unwrap());
    }
    for round in 0..5 {
        resolver.invalidator().invalidate("quite/other").unwrap();
        settle(&backend, &resolver, round).await;
    }
    assert!((0..50).all(|number| backend.calls_of(&format!("handle/{number}")) == 1));
}

#[tokio::test]
async fn a_refresh_that_brings_the_same_value_is_not_a_change_of_a_handle() {
    let (clock, backend, resolver) = setup();
    let mut handle = resolver.handle(NAME).await.unwrap();
    clock.advance(REFRESHING);
    backend.called(2).await;
    settle(&backend, &resolver, 0).await;
    assert!(poll_once(pin!(handle.changed())).is_pending());
    backend.set(NAME, "v2");
    resolver.invalidator().invalidate(NAME).unwrap();
    handle.changed().await.unwrap();
}

#[tokio::test]
async fn a_closed_handle_says_so_every_time_even_when_its_resolver_was_only_dropped() {
    let (_clock, _backend, resolver) = setup();
    let mut handle = resolver.handle(NAME).await.unwrap();
    drop(resolver);
    for _ in 0..2 {
        assert_eq!(
            handle.changed().await.unwrap_err().kind(),
            ErrorKind::Closed
        );
    }
    assert_eq!(handle.secret().unwrap_err().kind(), ErrorKind::Closed);
}

/// Every name is the same record.
#[derive(Debug)]
struct OneRecord(MockBackend);

impl SecretResolver for OneRecord {
    fn resolve<'a>(&'a self, _request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let name = NameRef::parse("one/record")?;
            self.0.resolve(Request::new(name)).await
        })
    }

    fn locate<'a>(&'a self, _name: NameRef<'a>) -> Located<'a> {
        Located::new("one/record", None)
    }
}

#[tokio::test]
async fn a_prefix_reaches_a_value_that_was_refreshed_since_its_name_was_asked_for() {
    let store = MockBackend::new().with_value("one/record", "v1");
    let clock = ManualClock::strict();
    let builder = Resolver::builder(OneRecord(store.clone())).with_clock(clock.clone());
    let resolver = builder.build().unwrap();
    resolver.get("b/y").await.unwrap();
    let handle = resolver.handle("b/y").await.unwrap();
    clock.advance(REFRESHING);
    resolver.get("b/y").await.unwrap();
    store.called(2).await;
    resolver.get("a/x").await.unwrap();
    store.set("one/record", "v2");
    resolver.invalidator().invalidate_prefix("b").unwrap();
    let held = handle.secret().ok();
    assert!(held.is_none_or(|secret| secret.expose_str().unwrap() == "v2"));
    assert_eq!(
        resolver.get("b/y").await.unwrap().expose_str().unwrap(),
        "v2"
    );
}

#[tokio::test]
async fn a_signal_long_after_another_distrusts_what_came_between() {
    let (clock, backend, resolver) = setup();
    resolver.get(NAME).await.unwrap();
    resolver.invalidator().invalidate(NAME).unwrap();
    backend.set(NAME, "v2");
    // Nobody reads for an hour; then v3 is signalled before it is committed.
    clock.advance(Duration::from_secs(3600));
    resolver.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        resolver.get(NAME).await.unwrap().expose_str().unwrap(),
        "v2"
    );
    backend.set(NAME, "v3");
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        resolver.get(NAME).await.unwrap().expose_str().unwrap(),
        "v3"
    );
}

#[tokio::test]
async fn a_refresh_that_came_to_nothing_is_asked_for_again() {
    let (clock, backend, resolver) = setup();
    resolver.get(NAME).await.unwrap();
    backend.script(NAME, [Reply::Panic]);
    clock.advance(Duration::from_secs(241));
    resolver.get(NAME).await.unwrap();
    backend.called(2).await;
    // The next refresh comes when a quarter of what is left is over.
    for round in 0..30 {
        settle(&backend, &resolver, round).await;
        clock.advance(Duration::from_secs(1));
        resolver.get(NAME).await.unwrap();
    }
    settle(&backend, &resolver, 30).await;
    assert!(backend.calls_of(NAME) >= 3);
}

/// A store whose shutdown never ends.
#[derive(Debug)]
struct NeverEnds(MockBackend);

impl SecretResolver for NeverEnds {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    fn shutdown(&self, _deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(std::future::pending())
    }
}

/// A store that reports its shutdown.
#[derive(Debug)]
struct ShowsShutdown(MockBackend, Arc<AtomicBool>);

impl SecretResolver for ShowsShutdown {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    fn shutdown(&self, _deadline: Moment) -> ShutdownFuture<'_> {
        self.1.store(true, Ordering::Release);
        ShutdownFuture::ready(ShutdownReport::default())
    }
}

#[tokio::test]
async fn a_primary_whose_shutdown_hangs_does_not_keep_the_fallback_open() {
    let primary = MockBackend::new();
    primary.always(Reply::Error(ErrorKind::Unavailable));
    let closed = Arc::new(AtomicBool::new(false));
    let fallback = MockBackend::new().with_value(NAME, "fallback");
    let clock = ManualClock::strict();
    let resolver = Resolver::builder(NeverEnds(primary))
        .with_attempts(1)
        .with_clock(clock.clone())
        .dangerous_fallback_to(ShowsShutdown(fallback, Arc::clone(&closed)))
        .build()
        .unwrap();
    resolver.get(NAME).await.unwrap();
    let mut shutdown = pin!(resolver.shutdown_within(Duration::from_secs(30)));
    assert!(poll_once(shutdown.as_mut()).is_pending());
    while !closed.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(30));
    assert!(shutdown.await.timed_out);
}

#[tokio::test]
async fn names_that_do_not_resolve_take_no_place_among_the_required() {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let builder = Resolver::builder(backend)
        .with_clock(clock)
        .with_max_entries(4);
    let resolver = builder.build().unwrap();
    for number in 0..10 {
        let missing = format!("missing/{number}");
        resolver.require(&[missing]).await.unwrap_err();
    }
    resolver.require(&[NAME]).await.unwrap();
}

/// A waker that owns a sleep of the same clock.
struct Owner(#[allow(dead_code, reason = "only its drop matters")] Mutex<Option<Sleep>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_sleep_may_be_given_another_waker_although_the_old_one_owned_a_sleep() {
    let clock = ManualClock::strict();
    let mut first = clock.sleep_until(clock.now() + Duration::from_secs(10));
    let mut second = clock.sleep_until(clock.now() + Duration::from_secs(20));
    assert!(poll_once(second.as_mut()).is_pending());
    let owner = Waker::from(Arc::new(Owner(Mutex::new(Some(second)))));
    assert!(
        first
            .as_mut()
            .poll(&mut Context::from_waker(&owner))
            .is_pending()
    );
    drop(owner);
    // The last owner of the second sleep goes in here.
    assert!(poll_once(first.as_mut()).is_pending());
    clock.advance(Duration::from_secs(10));
    assert!(poll_once(first.as_mut()).is_ready());
}

/// A store that panics in one of its methods, once it is asked to.
#[derive(Debug)]
struct Panics(MockBackend, Arc<Mutex<&'static str>>);

impl Panics {
    fn in_(&self, method: &str) {
        let panics = *self.1.lock().unwrap() == method;
        assert!(!panics, "of the test's own making");
    }
}

impl SecretResolver for Panics {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.in_("resolve");
        self.0.resolve(request)
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        if name.path() != "prod/other" {
            self.in_("locate");
        }
        self.0.locate(name)
    }

    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        self.in_("addresses");
        vec![own.clone()]
    }

    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        self.in_("below");
        vec![self.locate(prefix).address().clone().into_owned()]
    }

    fn at_once(&self, _: &Request<'_>) -> usize {
        self.in_("at_once");
        1
    }

    fn remembers(&self) -> bool {
        self.in_("remembers");
        false
    }

    fn endpoints(&self) -> usize {
        self.in_("endpoints");
        1
    }

    fn origins(&self) -> Vec<String> {
        self.in_("origins");
        vec!["https://a".to_owned()]
    }

    fn spreads(&self) -> bool {
        self.in_("spreads");
        false
    }

    fn identity(&self) -> u64 {
        self.in_("identity");
        0
    }

    fn login_ends(&self) -> Option<Moment> {
        self.in_("login_ends");
        None
    }

    fn identity_status(&self) -> Option<IdentityStatus> {
        self.in_("identity_status");
        None
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.in_("shutdown");
        self.0.shutdown(deadline)
    }
}

const METHODS: [&str; 13] = [
    "resolve",
    "locate",
    "addresses",
    "below",
    "at_once",
    "remembers",
    "endpoints",
    "origins",
    "spreads",
    "identity",
    "login_ends",
    "identity_status",
    "shutdown",
];

#[tokio::test]
async fn a_panic_in_any_method_of_a_backend_is_an_error_of_that_call_alone() {
    for method in METHODS {
        let store = MockBackend::new().with_value(NAME, "v1");
        store.set("prod/other", "v1");
        let panics = Arc::new(Mutex::new(""));
        let resolver = Resolver::builder(Panics(store.clone(), Arc::clone(&panics)))
            .with_attempts(1)
            .build()
            .unwrap();
        resolver.get(NAME).await.unwrap();
        resolver.get("prod/other").await.unwrap();
        *panics.lock().unwrap() = method;
        let dropped = match method {
            // All is dropped where it is not known what the signal is about.
            "locate" => 2,
            _ => 1,
        };
        let invalidator = resolver.invalidator();
        assert_eq!(invalidator.invalidate(NAME).unwrap(), dropped, "{method}");
        let fails = matches!(method, "resolve" | "locate");
        let answer = resolver.get(NAME).await;
        assert_eq!(
            answer.err().map(|error| error.kind()),
            fails.then_some(ErrorKind::Unavailable)
        );
        assert_eq!(resolver.handle(NAME).await.is_err(), fails, "{method}");
        let other = resolver.get("prod/other").await;
        assert!(other.is_ok(), "{method}");
        let _ = (resolver.peek(NAME), resolver.peek("none"));
        let _ = (resolver.status(), resolver.ready());
        invalidator.invalidate_prefix("prod").unwrap();
        assert!(resolver.peek("prod/other").is_err(), "{method}");
        let _ = resolver.get("prod/other").await;
        invalidator
            .invalidate_address(&Address::from("prod/other"))
            .unwrap();
        assert!(resolver.peek("prod/other").is_err(), "{method}");
        invalidator.forget_version(NAME).unwrap();
        let scoped = resolver.scoped("prod").unwrap();
        let _ = scoped.get("db#password").await;
        // What is asked at the start is refused there.
        let again = Resolver::builder(Panics(store, Arc::clone(&panics))).build();
        let at_start = ["remembers", "endpoints", "origins", "spreads"];
        let kind = again.err().map(|error| error.kind());
        let refused = at_start
            .contains(&method)
            .then_some(ErrorKind::Misconfigured);
        assert_eq!(kind, refused, "{method}");
        let report = resolver.shutdown_within(Duration::from_secs(5)).await;
        assert_eq!(report.timed_out, method == "shutdown", "{method}");
    }
}
