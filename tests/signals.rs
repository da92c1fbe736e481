//! Signals in the assembled stack: what they reach, and what is believed soon after one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use secret_resolver::backend::{Located, NameRef, Request, ResolveFuture};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{
    Address, ErrorKind, Record, Resolver, SecretName, SecretResolver, SecretResolverExt, Version,
};

const NAME: &str = "prod/db#password";

fn setup() -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value(NAME, "first");
    let builder = Resolver::builder(backend.clone())
        .with_attempts(1)
        .with_clock(clock.clone());
    (clock, backend, builder.build().unwrap())
}

async fn text(resolver: &impl SecretResolver, name: &str) -> String {
    let secret = resolver.get(name).await.unwrap();
    secret.expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_signal_in_a_stores_own_ids_reaches_every_route_and_every_scope() {
    let primary = MockBackend::new().with_value("a/x", "first");
    let routed = MockBackend::new().with_value("legacy/x", "first");
    let resolver = Resolver::builder(primary.clone())
        .with_clock(ManualClock::strict())
        .with_route("legacy", routed.clone())
        .build()
        .unwrap();
    let scoped = resolver.scoped("legacy").unwrap();
    for (store, name) in [(&primary, "a/x"), (&routed, "legacy/x")] {
        assert_eq!(text(&resolver, name).await, "first");
        store.set(name, "second");
        // As a webhook of the store would, which knows nothing of routes.
        resolver
            .invalidator()
            .invalidate_address(&Address::from(name))
            .unwrap();
        assert_eq!(text(&resolver, name).await, "second", "{name}");
    }
    // And in the words of `locate`, which distinguishes stores; through a scope, too.
    assert_eq!(text(&scoped, "x").await, "second");
    routed.set("legacy/x", "third");
    let located = scoped.locate(NameRef::parse("x").unwrap());
    resolver
        .invalidator()
        .invalidate_address(located.address())
        .unwrap();
    assert_eq!(text(&scoped, "x").await, "third");
    let own = Address::from("legacy/x");
    assert!(scoped.addresses(&own).contains(located.address()));
}

#[tokio::test]
async fn soon_after_a_signal_a_refusal_is_remembered_for_a_moment_only() {
    for kind in [ErrorKind::NotFound, ErrorKind::Denied] {
        let (clock, backend, resolver) = setup();
        // The secret is created; the signal comes before the store's own commit.
        backend.always(Reply::Error(kind));
        resolver.invalidator().invalidate(NAME).unwrap();
        assert_eq!(resolver.get(NAME).await.unwrap_err().kind(), kind);
        assert_eq!(resolver.get(NAME).await.unwrap_err().kind(), kind);
        assert_eq!(backend.calls(), 1);
        backend.always(None);
        clock.advance(Duration::from_millis(250));
        assert_eq!(text(&resolver, NAME).await, "first");
    }
}

#[tokio::test]
async fn a_floor_that_the_store_cannot_meet_takes_no_other_callers_value() {
    let (clock, backend, resolver) = setup();
    assert_eq!(text(&resolver, NAME).await, "first");
    let name = NameRef::parse(NAME).unwrap();
    let highest = Version::number(u64::MAX);
    let asked = || resolver.resolve(Request::new(name).at_least(&highest));
    // In an outage, the outage is the answer; and the value stays.
    backend.always(Reply::Error(ErrorKind::Unavailable));
    assert_eq!(asked().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(text(&resolver, NAME).await, "first");
    // Where the store answers, too, but has nothing that is new enough.
    backend.always(None);
    let calls = backend.calls();
    assert_eq!(asked().await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(backend.calls() > calls);
    assert_eq!(text(&resolver, NAME).await, "first");
    clock.advance(Duration::from_secs(200));
    assert_eq!(text(&resolver, NAME).await, "first");
    // And a version that it has is answered to all from then on.
    backend.set(NAME, "second");
    let second = Version::number(2);
    let record = resolver.resolve(Request::new(name).at_least(&second)).await;
    assert_eq!(record.unwrap().version(), &second);
    let calls = backend.calls();
    assert_eq!(text(&resolver, NAME).await, "second");
    assert_eq!(backend.calls(), calls);
}

/// A store for which upper and lower case are one, as the environment is on some systems.
#[derive(Debug)]
struct Folds(MockBackend);

impl SecretResolver for Folds {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let folded = SecretName::parse(&request.name().as_str().to_lowercase())?;
            let record = self.0.resolve(Request::new(folded.borrowed())).await?;
            Ok(record.select(request.name().field()))
        })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let field = name.field().map(|field| field.to_owned().into());
        Located::new(name.path().to_lowercase(), field)
    }
}

/// A resolver of such a store, which allows stale values.
fn folding() -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value("a/b#x", "first");
    let builder = Resolver::builder(Folds(backend.clone()))
        .with_attempts(1)
        .with_clock(clock.clone())
        .serve_stale_up_to(Duration::from_secs(60));
    (clock, backend, builder.build().unwrap())
}

#[tokio::test]
async fn a_signal_for_a_prefix_finds_what_was_answered_below_it_in_any_way() {
    let (_clock, backend, resolver) = folding();
    backend.set("a/b#y", "first");
    assert_eq!(text(&resolver, "a/b#x").await, "first");
    // A whole record, asked for without a field: it was answered, although no field was selected.
    let whole = || resolver.resolve(Request::new(NameRef::parse("A/B").unwrap()));
    let x = |record: Record| record.field("x").unwrap().expose_str().unwrap().to_owned();
    assert_eq!(x(whole().await.unwrap()), "first");
    backend.set("a/b#x", "second");
    resolver.invalidator().invalidate_prefix("A").unwrap();
    assert_eq!(x(whole().await.unwrap()), "second");
}

#[tokio::test]
async fn a_signal_for_a_prefix_finds_what_was_answered_as_a_stale_value() {
    let (clock, backend, resolver) = folding();
    assert_eq!(text(&resolver, "a/b#x").await, "first");
    clock.advance(Duration::from_secs(300));
    backend.always(Reply::Error(ErrorKind::Unavailable));
    assert_eq!(text(&resolver, "A/B#x").await, "first");
    resolver.invalidator().invalidate_prefix("A").unwrap();
    assert!(resolver.get("A/B#x").await.is_err());
}

#[tokio::test]
async fn what_is_not_good_enough_is_not_a_hit() {
    let (_clock, _backend, resolver) = setup();
    assert_eq!(text(&resolver, NAME).await, "first");
    let (hits, name) = (resolver.status().hits, NameRef::parse(NAME).unwrap());
    let highest = Version::number(9);
    let asked = resolver
        .resolve(Request::new(name).at_least(&highest))
        .await;
    assert!(asked.is_err());
    assert_eq!(resolver.status().hits, hits);
}

#[tokio::test]
async fn a_signal_for_a_prefix_finds_what_was_answered_after_a_panic_and_to_a_handle() {
    let (clock, backend, resolver) = folding();
    assert_eq!(text(&resolver, "a/b#x").await, "first");
    clock.advance(Duration::from_secs(300));
    backend.always(Reply::Panic);
    assert_eq!(text(&resolver, "A/B#x").await, "first");
    resolver.invalidator().invalidate_prefix("A").unwrap();
    assert!(resolver.get("A/B#x").await.is_err());

    // A handle that finds what another name has fetched.
    backend.always(None);
    let handle = resolver.handle("A/B#x").await.unwrap();
    backend.always(Reply::Error(ErrorKind::Unavailable));
    resolver.invalidator().invalidate_all().unwrap();
    // Its job has tried, and waits for a second, which does not pass here.
    while handle.secret().unwrap_err().backend() != Some("mock") {
        tokio::task::yield_now().await;
    }
    backend.always(None);
    assert_eq!(text(&resolver, "a/b#x").await, "first");
    while handle.secret().is_err() {
        tokio::task::yield_now().await;
    }
    backend.always(Reply::Error(ErrorKind::Unavailable));
    resolver.invalidator().invalidate_prefix("A").unwrap();
    assert!(handle.secret().is_err());
}

#[tokio::test]
async fn an_invalidator_keeps_no_resolver_alive() {
    let store = std::sync::Arc::new(MockBackend::new().with_value(NAME, "first"));
    let resolver = Resolver::builder(std::sync::Arc::clone(&store)).build();
    let resolver = resolver.unwrap();
    assert_eq!(text(&resolver, NAME).await, "first");
    let invalidator = resolver.invalidator();
    let clone = invalidator.clone();
    assert_eq!(clone.invalidate(NAME).unwrap(), 1);
    assert_eq!(text(&resolver, NAME).await, "first");
    drop(resolver);
    // The jobs on its threads end by themselves.
    let mut waits = 0;
    while std::sync::Arc::strong_count(&store) > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waits += 1;
        assert!(waits < 1000, "it is still there after 10 s");
    }
    assert_eq!(invalidator.invalidate(NAME).unwrap(), 0);
}
