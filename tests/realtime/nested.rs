//! A resolver cannot be a store of another: caches above caches would add up their times.

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::MockBackend;
use secret_resolver::{Error, ErrorKind, Resolver, SecretResolver};

use crate::support::Store;

fn other() -> Resolver {
    Resolver::builder(Store::new("other")).build().unwrap()
}

fn refused(built: Result<Resolver, Error>) -> Option<ErrorKind> {
    built.err().map(|error| error.kind())
}

#[test]
fn a_resolver_is_refused_as_a_store_a_route_and_a_fallback_of_another_scoped_or_not() {
    let scoped = || other().scoped("a").unwrap();
    let builder = || Resolver::builder(Store::new("store"));
    let built = [
        ("a store", Resolver::builder(other())),
        ("a scoped store", Resolver::builder(scoped())),
        ("a route", builder().with_route("b", other())),
        ("a scoped route", builder().with_route("b", scoped())),
        ("a fallback", builder().dangerous_fallback_to(other())),
        (
            "a scoped fallback",
            builder().dangerous_fallback_to(scoped()),
        ),
        (
            "a fallback of a prefix",
            builder().dangerous_fallback_to_for("b", other()),
        ),
    ];
    let built = built.map(|(what, builder)| (what, refused(builder.build())));
    let wrong = built
        .iter()
        .filter(|(_, kind)| *kind != Some(ErrorKind::Misconfigured));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A resolver in a disguise that hides that it remembers.
#[derive(Debug)]
struct Wrapped(Resolver);

impl SecretResolver for Wrapped {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }
}

#[tokio::test]
async fn a_store_that_answers_from_its_own_memory_is_noticed() {
    let store = MockBackend::new().with_value("a/x", "one");
    let inner = Resolver::builder(store.clone()).build().unwrap();
    inner.get("a/x").await.unwrap();
    let outer = Resolver::builder(Wrapped(inner)).build().unwrap();
    store.set("a/x", "two");
    outer.invalidator().invalidate("a/x").unwrap();
    let answer = outer.get("a/x").await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Misconfigured);
}
