//! Whether a resolver says that it is ready, and whom it blames: a store whose reads are kept out, a lane that is
//! closed, a store of several endpoints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{Error, ErrorKind, LimitConfig, Resolver, SecretResolver};

const ORIGINS: [&str; 3] = ["https://a:82", "https://a:8200", "https://b:8200"];

/// A store of as many endpoints as there are answers, each of which is an error or none: the stored value.
#[derive(Clone, Debug)]
struct Says(MockBackend, Arc<Mutex<Vec<Option<Error>>>>);

impl Says {
    fn new(endpoints: usize) -> Self {
        let store = MockBackend::new().with_value("prod/db", "value");
        Self(store, Arc::new(Mutex::new(vec![None; endpoints])))
    }

    fn set(&self, endpoint: usize, error: impl Into<Option<Error>>) {
        self.1.lock().unwrap()[endpoint] = error.into();
    }
}

impl SecretResolver for Says {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let says = self.1.lock().unwrap()[request.endpoint().unwrap_or(0)].clone();
        match says {
            Some(error) => ResolveFuture::ready(Err(error)),
            None => self.0.resolve(request),
        }
    }

    fn endpoints(&self) -> usize {
        self.1.lock().unwrap().len()
    }

    fn origins(&self) -> Vec<String> {
        ORIGINS.map(str::to_owned)[..self.endpoints()].to_vec()
    }
}

fn resolver(store: &Says) -> Resolver {
    let builder = Resolver::builder(store.clone()).with_clock(ManualClock::new());
    builder.with_attempts(1).build().unwrap()
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "said by the test").with_backend("test")
}

#[tokio::test]
async fn a_store_whose_reads_are_kept_out_is_not_ready_until_one_is_answered() {
    use ErrorKind::{Misconfigured, Refused, Unauthenticated};
    for kind in [Unauthenticated, Refused, Misconfigured] {
        // As a login that was refused, and then as one that is held back.
        for says in [error(kind), error(kind).held_back()] {
            let store = Says::new(1);
            let resolver = resolver(&store);
            resolver.ready().unwrap();
            store.set(0, says);
            resolver.get("prod/db").await.unwrap_err();
            let refused = resolver.ready().unwrap_err();
            assert_eq!(refused.kind(), kind);
            let said = refused.to_string();
            for part in ["store primary", ORIGINS[0], "said by the test"] {
                assert!(said.contains(part), "{said}");
            }
            assert!(!said.contains("prod/db"), "{said}");
            assert!(!resolver.status().is_ready());
            // An outage is not an answer.
            store.set(0, error(ErrorKind::Unavailable));
            resolver.get("prod/db").await.unwrap_err();
            assert_eq!(resolver.ready().unwrap_err().kind(), kind);
            // That a secret is denied is.
            store.set(0, error(ErrorKind::Denied));
            resolver.get("prod/denied").await.unwrap_err();
            resolver.ready().unwrap();
            assert!(resolver.status().is_ready());
        }
    }
}

#[tokio::test]
async fn what_is_said_of_one_secret_leaves_a_store_ready() {
    use ErrorKind::{Denied, Malformed, NotFound, Overloaded, Throttled, Unavailable};
    for kind in [
        Denied,
        Malformed,
        NotFound,
        Overloaded,
        Throttled,
        Unavailable,
    ] {
        let store = Says::new(1);
        let resolver = resolver(&store);
        store.set(0, error(kind));
        resolver.get("prod/db").await.unwrap_err();
        resolver.ready().unwrap();
    }
}

#[tokio::test]
async fn a_store_is_ready_while_one_of_its_endpoints_is_of_use() {
    let store = Says::new(2);
    let resolver = resolver(&store);
    store.set(0, error(ErrorKind::Refused));
    resolver.get("prod/db").await.unwrap();
    let useful: Vec<_> = resolver
        .status()
        .endpoints()
        .map(|one| one.kept_out.is_none())
        .collect();
    assert_eq!(useful, [false, true]);
    resolver.ready().unwrap();
    store.set(1, error(ErrorKind::Refused));
    resolver.get("prod/none").await.unwrap_err();
    assert_eq!(resolver.ready().unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn an_error_is_booked_to_the_endpoint_that_gave_it_or_to_none() {
    let store = Says::new(3);
    let resolver = resolver(&store);
    // A login for the first that has failed at another.
    let elsewhere = error(ErrorKind::Unauthenticated).with_detail("https://a:8200/v1/auth");
    store.set(0, elsewhere);
    store.set(1, error(ErrorKind::Denied));
    resolver.get("prod/db").await.unwrap_err();
    let failed = |resolver: &Resolver| {
        let status = resolver.status();
        let endpoints = status.endpoints();
        let failed: Vec<_> = endpoints.map(|one| one.last_failure.is_some()).collect();
        (failed, status.stores[0].held_back.is_some())
    };
    assert_eq!(failed(&resolver), (vec![false, true, false], false));
    // What this process has decided is of none.
    let fresh = self::resolver(&store);
    store.set(0, error(ErrorKind::Unauthenticated).held_back());
    fresh.get("prod/db").await.unwrap_err();
    assert_eq!(failed(&fresh), (vec![false; 3], true));
    // Unless it says where it comes from.
    let again = error(ErrorKind::Unauthenticated).with_detail(ORIGINS[2]);
    store.set(0, again.held_back());
    fresh.get("prod/db").await.unwrap_err();
    assert_eq!(failed(&fresh), (vec![false, false, true], true));
}

#[tokio::test]
async fn names_with_a_limit_of_their_own_take_no_service_down() {
    let store = MockBackend::new().with_value("prod/db", "value");
    let resolver = Resolver::builder(store.clone())
        .with_limit_for("tenants", LimitConfig::default())
        .with_clock(ManualClock::strict())
        .with_attempts(1)
        .build()
        .unwrap();
    store.always(Reply::Error(ErrorKind::Malformed));
    for number in 0..25 {
        resolver
            .get(&format!("tenants/{number}"))
            .await
            .unwrap_err();
    }
    store.always(None);
    let status = resolver.status();
    let lane = status.stores.iter().find(|store| store.limit_for.is_some());
    assert!(!lane.unwrap().is_ready());
    assert!(status.is_ready());
    resolver.ready().unwrap();
    resolver.get("prod/db").await.unwrap();
}

#[tokio::test]
async fn a_scope_that_is_not_ready_shows_neither_where_nor_what() {
    let store = Says::new(1);
    let resolver = Resolver::builder(MockBackend::new())
        .with_route("tenants/42", store.clone())
        .build()
        .unwrap();
    let scoped = resolver.scoped("tenants/42").unwrap();
    store.set(0, error(ErrorKind::Refused));
    scoped.get("db").await.unwrap_err();
    assert!(
        resolver
            .ready()
            .unwrap_err()
            .to_string()
            .contains("tenants/42")
    );
    let said = scoped.ready().unwrap_err().to_string();
    assert!(
        !said.contains("tenants") && !said.contains("https"),
        "{said}"
    );
    let shown = format!("{scoped:?}");
    assert!(
        !shown.contains("tenants") && !shown.contains("https"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_debug_text_of_a_resolver_is_short_whatever_waits() {
    let clock = ManualClock::strict();
    let store = MockBackend::new().with_clock(clock.clone());
    store.always(Reply::Hang);
    let resolver = Resolver::builder(store.clone())
        .with_route("other", MockBackend::new())
        .with_clock(clock)
        .build()
        .unwrap();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.get(&format!("a/{number}")).await })
        })
        .collect();
    store.called(1).await;
    let shown = format!("{resolver:?}");
    assert!(
        shown.contains("primary") && shown.contains("other"),
        "{shown}"
    );
    assert!(shown.len() < 300, "{shown}");
    let clock = format!("{:?}", resolver.clock());
    assert!(clock.len() < 300, "{clock}");
    resolver.shutdown_within(Duration::from_secs(1)).await;
    for get in waiting {
        assert!(get.await.unwrap().is_err());
    }
}
