//! A resolver is no store of another: caches above caches would add up their times.

use secret_resolver::{Error, ErrorKind, Resolver};

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
