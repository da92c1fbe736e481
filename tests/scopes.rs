//! A resolver for a caller that may not leave a path: everything that a resolver has, below it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{Address, Error, ErrorKind, Resolver, Version};

const NAME: &str = "db#password";
const FULL: &str = "tenants/42/db#password";

fn setup() -> (MockBackend, ManualClock, Resolver, Resolver) {
    let store = MockBackend::new()
        .with_value(FULL, "theirs")
        .with_value("tenants/42/db#user", "app")
        .with_value("tenants/43/db#password", "another's");
    let clock = ManualClock::strict();
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    let resolver = builder.with_attempts(1).build().unwrap();
    let scoped = resolver.scoped("tenants/42").unwrap();
    (store, clock, resolver, scoped)
}

/// The error names the secret as it was asked for: the path of the scope may be private.
fn names_it_as_asked(error: &Error) {
    assert_eq!(error.name().unwrap().as_str(), NAME);
    assert!(!error.to_string().contains("tenants"), "{error}");
}

type Signal = fn(&secret_resolver::Invalidator) -> Result<usize, Error>;

#[tokio::test]
async fn every_call_puts_the_path_before_the_name() {
    let (store, _clock, resolver, scoped) = setup();
    let is_theirs = |secret: secret_resolver::Secret| {
        assert_eq!(secret.expose_str().unwrap(), "theirs");
    };
    assert_eq!(scoped.peek(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    is_theirs(scoped.get(NAME).await.unwrap());
    is_theirs(scoped.peek(NAME).unwrap());
    is_theirs(scoped.handle(NAME).await.unwrap().secret().unwrap());
    is_theirs(scoped.get_many(&[NAME]).await.remove(0).unwrap());
    let record = scoped.get_record("db").await.unwrap();
    is_theirs(record.field("password").unwrap());
    let required = scoped.require(&[NAME, "db#user"]).await.unwrap();
    is_theirs(required.get(NAME).unwrap().clone());
    let required = scoped.require_within(&[NAME], Duration::from_secs(1)).await;
    is_theirs(required.unwrap().into_secrets().remove(0));
    // All of it is one entry, and the whole resolver's.
    assert_eq!((store.calls(), scoped.status().entries), (1, 1));
    is_theirs(resolver.peek(FULL).unwrap());
    store.set_version(FULL, 3);
    is_theirs(scoped.get_version(NAME, &Version::number(3)).await.unwrap());
    // Of a scope within it, too.
    let below = resolver.scoped("tenants").unwrap().scoped("42").unwrap();
    is_theirs(below.get(NAME).await.unwrap());
    let blocking = std::thread::spawn(move || {
        let required = scoped.require_blocking(&[NAME]).unwrap();
        assert!(required.get(NAME).is_some());
        scoped.get_blocking(NAME).unwrap()
    });
    is_theirs(blocking.join().unwrap());
}

#[tokio::test]
async fn what_is_required_in_a_scope_is_exempt_from_eviction() {
    let store = MockBackend::new().with_value(FULL, "theirs");
    let builder = Resolver::builder(store.clone()).with_max_entries(4);
    let resolver = builder.build().unwrap();
    let scoped = resolver.scoped("tenants/42").unwrap();
    scoped.require(&[NAME]).await.unwrap();
    for number in 0..20 {
        let name = format!("other/{number}");
        store.set(&name, "x");
        resolver.get(&name).await.unwrap();
    }
    assert!(scoped.peek(NAME).is_ok());
}

#[tokio::test]
async fn no_name_leaves_the_path_and_an_error_does_not_show_it() {
    let (store, clock, _resolver, scoped) = setup();
    for name in [
        "../43/db#password",
        "/tenants/43/db",
        "tenants/43/db#password",
        "",
    ] {
        assert!(scoped.get(name).await.is_err(), "{name}");
        assert!(scoped.peek(name).is_err(), "{name}");
        assert!(scoped.handle(name).await.is_err(), "{name}");
        assert!(scoped.get_record(name).await.is_err(), "{name}");
    }
    let handle = scoped.handle(NAME).await.unwrap();
    store.always(Reply::Error(ErrorKind::Unavailable));
    clock.advance(Duration::from_secs(301));
    names_it_as_asked(&scoped.get(NAME).await.unwrap_err());
    names_it_as_asked(&scoped.peek(NAME).unwrap_err());
    names_it_as_asked(&handle.secret().unwrap_err());
    names_it_as_asked(&handle.current().await.unwrap_err());
    let failed = scoped.require(&[NAME]).await.unwrap_err();
    assert!(!failed.to_string().contains("tenants"), "{failed}");
    for path in ["a#b", "", "..", "a//b", "*", "a/*"] {
        // As a prefix that is invalidated.
        let kinds = [
            scoped.scoped(path).unwrap_err().kind(),
            scoped
                .invalidator()
                .invalidate_prefix(path)
                .unwrap_err()
                .kind(),
        ];
        assert_eq!(kinds, [ErrorKind::InvalidName; 2], "{path}");
    }
    let long = "a".repeat(505);
    let error = scoped.scoped(&long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(scoped.get(&format!("{long}/db")).await.is_err());
}

#[tokio::test]
async fn its_invalidator_reaches_its_own_names_and_no_others() {
    let (_store, _clock, resolver, scoped) = setup();
    let other = "tenants/43/db#password";
    let invalidator = scoped.invalidator();
    let calls: [Signal; 4] = [
        |signal| signal.invalidate(NAME),
        |signal| signal.invalidate_prefix("db"),
        |signal| signal.invalidate_below_version(NAME, &Version::number(0)),
        |signal| signal.invalidate_all(),
    ];
    for call in calls {
        resolver.get(other).await.unwrap();
        scoped.get(NAME).await.unwrap();
        assert_eq!(call(&invalidator).unwrap(), 1);
        assert!(scoped.peek(NAME).is_err());
        assert!(resolver.peek(other).is_ok());
        assert_eq!(call(&invalidator).unwrap(), 0, "nothing is held");
    }
    // Addresses are of the whole store.
    let refused = invalidator.invalidate_address(&Address::from("tenants/43/db"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert!(resolver.peek(other).is_ok());
    assert_eq!(resolver.invalidator().invalidate_all().unwrap(), 1);
}
