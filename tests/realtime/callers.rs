//! Hostile callers: wakers that block or panic, subscribers that panic, panics that panic again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use secret_resolver::BreakerConfig;
use secret_resolver::backend::{NameRef, Request, ResolveFuture};
use secret_resolver::testing::Canary;
use secret_resolver::{ErrorKind, Record, Resolver, ResolverBuilder, SecretResolver};
use tracing::{Event, Metadata, Subscriber, span};

use crate::support::{Say, Store, in_a_process, ms, now, pause, since, within};

/// A waker that does this, once.
struct Does<F>(F, AtomicBool);

impl<F: Fn() + Send + Sync + 'static> Does<F> {
    fn waker(act: F) -> Waker {
        Waker::from(Arc::new(Self(act, AtomicBool::new(false))))
    }
}

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        if !self.1.swap(true, Ordering::SeqCst) {
            (self.0)();
        }
    }
}

fn poll_with<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// A resolver of names that hang, each until its deadline: no breaker ends it before.
fn hanging() -> ResolverBuilder {
    let breaker = BreakerConfig::default().with_failures(1000);
    Resolver::builder(Store::saying("store", Say::Hang))
        .with_deadline(Duration::from_secs(1))
        .with_breaker(breaker)
}

/// How long a caller with a deadline of 1 s waits while the waker of another, whose deadline
/// comes `before` the end of its fetch or not, blocks for 3 s.
async fn waits_beside_a_waker_that_blocks(own: Option<Duration>) -> Duration {
    let resolver = hanging().build().unwrap();
    let blocks = Does::waker(|| std::thread::sleep(Duration::from_secs(3)));
    let request = Request::new(NameRef::parse("a/x").unwrap());
    let request = match own {
        Some(own) => request.with_deadline(now() + own),
        None => request,
    };
    let mut other = pin!(resolver.resolve(request));
    assert!(poll_with(other.as_mut(), &blocks).is_pending());
    // So that the waker is called while this one waits.
    pause(300).await;
    let asked = now();
    let answer = within(Duration::from_secs(8), resolver.get("b/y")).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    since(asked)
}

#[tokio::test]
async fn a_waker_that_blocks_moves_nobody_elses_deadline() {
    // Woken when its own deadline has come, or when the fetch has ended.
    // Each in its own task, so that neither is looked at because the other is woken.
    let by_clock = tokio::spawn(waits_beside_a_waker_that_blocks(Some(ms(600))));
    let by_fetch = tokio::spawn(waits_beside_a_waker_that_blocks(None));
    let (by_clock, by_fetch) = (by_clock.await.unwrap(), by_fetch.await.unwrap());
    let seen = format!("{by_clock:?} beside a deadline, {by_fetch:?} beside a fetch");
    // Behind a waker that blocks they would take more than 3 s.
    assert!(by_clock < ms(2500) && by_fetch < ms(2500), "{seen}");
}

#[tokio::test]
async fn a_waker_that_blocks_at_a_shutdown_holds_up_no_fetch_of_another_resolver() {
    let (ends, other) = (
        Resolver::builder(Store::new("store")).build().unwrap(),
        Resolver::builder(Store::new("other")).build().unwrap(),
    );
    let blocks = Does::waker(|| std::thread::sleep(Duration::from_secs(3)));
    let mut shutdown = pin!(ends.shutdown(now() + Duration::from_secs(5)));
    assert!(poll_with(shutdown.as_mut(), &blocks).is_pending());
    // So that the waker is called before the other asks.
    pause(300).await;
    let asked = now();
    within(Duration::from_secs(8), other.get("a/x"))
        .await
        .unwrap();
    let took = since(asked);
    assert!(took < ms(1500), "{took:?}");
}

#[tokio::test]
async fn a_waker_that_blocks_at_a_landing_holds_up_no_other_fetch() {
    let store = Store::saying("store", Say::Value);
    let resolver = Resolver::builder(store).build().unwrap();
    let (let_go, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let blocks = Does::waker(move || {
        let _ = blocked.lock().unwrap().recv_timeout(Duration::from_secs(5));
    });
    // A get that has to wait; a fetch may also be over before its first poll is.
    let names: Vec<_> = (0..100).map(|number| format!("a/{number}")).collect();
    let mut landing = names.iter().map(|name| Box::pin(resolver.get(name)));
    let _waits = landing
        .find_map(|mut get| poll_with(get.as_mut(), &blocks).is_pending().then_some(get))
        .unwrap();
    for number in 0..20 {
        let name = format!("b/{number}");
        let get = within(ms(1000), resolver.get(&name)).await;
        get.unwrap();
    }
    drop(let_go);
}

/// Panics at every event.
struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let ours = event.metadata().target().starts_with("secret_resolver");
        assert!(!ours, "of the test's own making");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A store whose one value can be looked for in memory.
#[derive(Clone, Debug)]
struct Masked(Arc<Canary>);

impl SecretResolver for Masked {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::ready(self.0.value().map(|value| Record::single("masked", value)))
    }
}

/// Checks that the deadlines and the wiping of a new value are at work.
async fn deadlines_and_wiping(resolver: &Resolver, canary: &Canary, name: &str) {
    let asked = now();
    let hangs = format!("hangs/{name}");
    let answer = within(Duration::from_secs(5), resolver.get(&hangs)).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    let took = since(asked);
    assert!(took < ms(1600), "a deadline of 1 s came after {took:?}");
    drop(resolver.get(&format!("masked/{name}")).await.unwrap());
    assert_eq!(canary.found().unwrap(), 1);
    pause(2800).await;
    assert_eq!(canary.found().unwrap(), 0);
}

/// A resolver of names that hang and names with a value to look for.
fn hangs_and_masked() -> (Resolver, Arc<Canary>) {
    let canary = Arc::new(Canary::new());
    let resolver = hanging()
        .with_route("masked", Masked(Arc::clone(&canary)))
        .with_ttl(Duration::from_secs(2))
        .build();
    (resolver.unwrap(), canary)
}

/// Lets a waker that does `act` be called at a deadline, and one when a fetch has ended.
async fn wake(resolver: &Resolver, act: fn()) {
    let early = Request::new(NameRef::parse("hangs/early").unwrap()).with_deadline(now() + ms(200));
    let mut early = pin!(resolver.resolve(early));
    let mut late = pin!(resolver.get("hangs/late"));
    assert!(poll_with(early.as_mut(), &Does::waker(act)).is_pending());
    assert!(poll_with(late.as_mut(), &Does::waker(act)).is_pending());
    pause(1300).await;
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn a_waker_and_a_subscriber_that_panic() {
    tracing::subscriber::set_global_default(Panics).unwrap();
    let (resolver, canary) = hangs_and_masked();
    wake(&resolver, || panic!("of the test's own making")).await;
    deadlines_and_wiping(&resolver, &canary, "after").await;
}

#[test]
fn a_waker_and_a_subscriber_that_panic_leave_deadlines_and_wiping_at_work() {
    in_a_process(
        "callers::a_waker_and_a_subscriber_that_panic",
        Duration::from_secs(20),
    );
}

/// It also panics when it is dropped: as the payload of a panic it does so when that one is caught.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic while one unwinds would end the process in any case.
        if !std::thread::panicking() {
            panic!("of the test's own making, again");
        }
    }
}

fn explode() {
    std::panic::panic_any(Bomb);
}

/// A store that explodes at one name.
#[derive(Debug)]
struct Explodes(Store);

impl SecretResolver for Explodes {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            if request.name().as_str() == "explodes" {
                explode();
            }
            self.0.resolve(request).await
        })
    }
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn a_waker_that_explodes() {
    let (resolver, canary) = hangs_and_masked();
    wake(&resolver, explode).await;
    deadlines_and_wiping(&resolver, &canary, "after").await;
}

#[test]
fn a_waker_whose_panic_panics_again_leaves_deadlines_and_wiping_at_work() {
    in_a_process("callers::a_waker_that_explodes", Duration::from_secs(20));
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn a_store_that_explodes() {
    let store = Explodes(Store::new("store"));
    let resolver = Resolver::builder(store).build().unwrap();
    let get = |name| within(Duration::from_secs(8), resolver.get(name));
    for name in ["a/x", "a/y", "a/z"] {
        assert!(get("explodes").await.is_err());
        get(name).await.unwrap();
    }
}

#[test]
fn a_store_whose_panic_panics_again_costs_no_other_name_its_answer() {
    in_a_process("callers::a_store_that_explodes", Duration::from_secs(60));
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn a_callback_that_explodes() {
    let resolver = Resolver::builder(Store::saying("store", Say::Error(ErrorKind::Unavailable)))
        .with_attempts(1)
        .dangerous_fallback_to(Store::new("fallback"))
        .on_downgrade(|_| explode())
        .build()
        .unwrap();
    for name in ["a/x", "a/x", "a/y"] {
        within(Duration::from_secs(8), resolver.get(name))
            .await
            .unwrap();
    }
}

#[test]
fn a_callback_whose_panic_panics_again_costs_its_caller_no_answer() {
    in_a_process("callers::a_callback_that_explodes", Duration::from_secs(60));
}
