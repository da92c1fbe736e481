//! Closed unless configured otherwise: nobody else is asked, no name leaves its scope, and each exception
//! is checked and seen.

use super::*;

#[tokio::test]
async fn by_default_a_failed_get_asks_nobody_else() {
    for kind in ErrorKind::ALL {
        let bench = bench(|builder, fallback| builder.dangerous_fallback_to_for("dev", fallback));
        bench.text().await.unwrap();
        bench.clock.advance(TTL);
        bench.fail(kind);
        assert_eq!(bench.text().await, Err(kind));
        assert_eq!(bench.fallback.calls(), 0);
    }
}

#[test]
fn the_status_shows_which_exceptions_and_which_memory_are_in_force() {
    let closed = bench(|builder, _| builder).resolver.status();
    assert!(!closed.stale_allowed && !closed.fallback_named);
    assert_eq!(closed.login_ends, None);
    let open = bench(|builder, fallback| {
        builder
            .serve_stale_up_to_for("a", STALE)
            .dangerous_fallback_to_for("b", fallback)
    });
    let open = open.resolver.status();
    assert!(open.stale_allowed && open.fallback_named);
}

#[test]
fn limits_and_prefixes_that_make_no_sense_are_refused() {
    let builder = || Resolver::builder(MockBackend::new());
    for builder in [
        builder().serve_stale_up_to(Duration::MAX),
        builder().serve_stale_up_to_for("a//b", STALE),
        builder().with_ttl_for("a#b", TTL),
        builder().with_ttl_for("a", Duration::ZERO),
        builder().dangerous_fallback_to_for("/", MockBackend::new()),
        builder().with_settle_time(Duration::MAX),
    ] {
        assert_eq!(
            builder.build().unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
}

#[tokio::test]
async fn a_scoped_resolver_never_leaves_its_path() {
    let store = MockBackend::new()
        .with_value("tenants/42/db#password", "theirs")
        .with_value("tenants/43/db#password", "another's");
    let resolver = Resolver::builder(store).build().unwrap();
    let scoped = resolver.scoped("tenants/42").unwrap();
    assert_eq!(
        scoped
            .get("db#password")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "theirs"
    );
    for name in [
        "../43/db#password",
        "/tenants/43/db#password",
        "tenants/43/db#password",
    ] {
        assert!(scoped.get(name).await.is_err(), "{name}");
    }
    assert!(resolver.scoped("a#b").is_err());
}
