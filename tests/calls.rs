//! The calls that a service makes in its first hour: names as text, records, versions, blocking.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{Clock, ErrorKind, ExposeSecret, Resolver, SecretName, Version, secret_name};

const PASSWORD: &str = secret_name!("prod/db#password");

fn setup() -> (MockBackend, Resolver) {
    let store = MockBackend::new()
        .with_value(PASSWORD, "hunter2")
        .with_value("prod/db#user", "app");
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    (store, resolver)
}

#[tokio::test]
async fn a_name_is_any_text() {
    let (_store, resolver) = setup();
    let name: SecretName = PASSWORD.parse().unwrap();
    resolver.get(PASSWORD).await.unwrap();
    resolver.get(&String::from(PASSWORD)).await.unwrap();
    resolver.get(name.as_str()).await.unwrap();
    assert!(resolver.get_many(&[PASSWORD]).await[0].is_ok());
    assert!(resolver.get_many(&[String::from(PASSWORD)]).await[0].is_ok());
    assert!(resolver.get_many(&[name]).await[0].is_ok());
}

#[tokio::test]
async fn a_record_has_all_of_its_fields_in_one_read() {
    let (store, resolver) = setup();
    let record = resolver.get_record("prod/db").await.unwrap();
    let mut names: Vec<_> = record.field_names().collect();
    names.sort_unstable();
    assert_eq!(names, ["password", "user"]);
    assert_eq!(record.field("user").unwrap().expose_str().unwrap(), "app");
    assert_eq!(store.calls(), 1);
    resolver.get(PASSWORD).await.unwrap();
    assert_eq!(store.calls(), 1, "it is in the cache");
    let error = resolver.get_record(PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("without a field"), "{error}");
    let error = resolver.get_record("no/such").await.unwrap_err();
    assert_eq!(error.name().unwrap().as_str(), "no/such");
}

#[tokio::test]
async fn a_given_version_is_asked_for_and_is_not_cached() {
    let (store, resolver) = setup();
    store.set_version(PASSWORD, 3);
    let secret = resolver
        .get_version(PASSWORD, &Version::number(3))
        .await
        .unwrap();
    assert_eq!(secret.expose_str().unwrap(), "hunter2");
    assert!(resolver.peek(PASSWORD).is_err());
    let error = resolver
        .get_version(PASSWORD, &Version::number(2))
        .await
        .unwrap_err();
    assert_eq!(error.name().unwrap().as_str(), PASSWORD);
}

#[tokio::test]
async fn what_is_required_is_found_by_its_name_and_what_is_not_is_one_error() {
    let (store, resolver) = setup();
    let required = resolver.require(&[PASSWORD, "prod/db#user"]).await.unwrap();
    assert_eq!(
        required.get("prod/db#user").unwrap().expose_str().unwrap(),
        "app"
    );
    assert!(required.get("prod/db#host").is_none());
    store.script("c", [Reply::Error(ErrorKind::Unavailable)]);
    let all = async || -> Result<(), secret_resolver::Error> {
        resolver
            .require(&[PASSWORD, "prod/db#host", "not/../a/name"])
            .await?;
        Ok(())
    };
    let error = all().await.unwrap_err();
    // The first of the failures that do not pass by themselves.
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let said = error.to_string();
    for part in ["2 of 3", "prod/db#host", "name number 3"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("a/name"), "{said}");
}

#[tokio::test]
async fn the_kind_of_one_error_for_many_is_the_first_that_does_not_pass() {
    let store = MockBackend::new();
    store.script("a", [Reply::Error(ErrorKind::Unavailable)]);
    store.script("b", [Reply::Error(ErrorKind::Denied)]);
    let resolver = Resolver::builder(store.clone())
        .with_attempts(1)
        .build()
        .unwrap();
    let error = resolver.require(&["a", "b", "c"]).await.unwrap_err();
    assert_eq!(
        secret_resolver::Error::from(error).kind(),
        ErrorKind::Denied
    );
    store.script("a", [Reply::Error(ErrorKind::Unavailable)]);
    let error = resolver.require(&["a"]).await.unwrap_err();
    assert_eq!(
        secret_resolver::Error::from(error).kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn a_peek_after_the_shutdown_says_closed() {
    let (_store, resolver) = setup();
    resolver.get(PASSWORD).await.unwrap();
    resolver.shutdown_within(Duration::from_secs(1)).await;
    let error = resolver.peek(PASSWORD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.name().unwrap().as_str(), PASSWORD);
}

#[test]
fn a_secret_string_is_one_call_away() {
    let (store, resolver) = setup();
    let secret = resolver.get_blocking(PASSWORD).unwrap();
    assert_eq!(
        secret.to_secret_string().unwrap().expose_secret(),
        "hunter2"
    );
    store.set("raw", b"\xff");
    let error = resolver
        .get_blocking("raw")
        .unwrap()
        .to_secret_string()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn a_blocking_get_needs_no_runtime_and_works_inside_one_of_either_kind() {
    let (_store, resolver) = setup();
    assert!(resolver.get_blocking(PASSWORD).is_ok());
    let multi = tokio::runtime::Runtime::new().unwrap();
    let current = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for runtime in [multi, current] {
        runtime.block_on(async {
            resolver.invalidator().invalidate(PASSWORD).unwrap();
            assert!(resolver.get_blocking(PASSWORD).is_ok());
            assert!(resolver.require_blocking(&["prod/db#user"]).is_ok());
        });
    }
}

#[test]
fn a_blocking_get_ends_at_its_deadline_and_wakes_for_a_late_answer() {
    let (store, patient) = setup();
    let builder = Resolver::builder(store.clone()).with_deadline(Duration::from_millis(300));
    let resolver = builder.build().unwrap();
    store.always(Reply::Hang);
    let error = resolver.get_blocking(PASSWORD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    store.always(None);
    let gate = Gate::new();
    store.set("late", "came");
    store.script("late", [gate.then(Reply::Stored)]);
    // With the default deadline, so that its fetch is still under way when this thread looks.
    let waiting = patient.clone();
    let waits = std::thread::spawn(move || waiting.get_blocking("late"));
    while patient.status().flights == 0 {
        std::thread::yield_now();
    }
    gate.open();
    assert!(waits.join().unwrap().is_ok());
}

#[test]
fn a_blocking_get_is_refused_after_the_shutdown_even_while_it_waits() {
    let (store, _) = setup();
    store.always(Reply::Hang);
    let clock = ManualClock::strict();
    let resolver = Resolver::builder(store).with_clock(clock).build().unwrap();
    let waiting = resolver.clone();
    let waits = std::thread::spawn(move || waiting.get_blocking(PASSWORD));
    while resolver.status().flights == 0 {
        std::thread::yield_now();
    }
    let report = resolver.shutdown_blocking(Duration::from_secs(1));
    assert!(!report.timed_out);
    assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_scripted_outage_ends_by_itself_on_a_manual_clock_and_moves_it() {
    let store = MockBackend::new().with_value(PASSWORD, "hunter2");
    let clock = ManualClock::new();
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    let resolver = builder.build().unwrap();
    let unavailable = || Reply::Error(ErrorKind::Unavailable);
    // It passes within the attempts of one fetch.
    store.script(PASSWORD, [unavailable(), unavailable()]);
    let start = clock.now();
    assert!(resolver.get(PASSWORD).await.is_ok());
    assert_eq!(store.calls(), 3);
    assert!(clock.now() > start);
    // It stays: the error comes, and so does the end of a wait for the start.
    store.always(unavailable());
    let error = resolver.get("prod/other").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let start = clock.now();
    let limit = Duration::from_secs(2);
    let error = resolver.require_within(&["prod/other"], limit).await;
    assert!(error.is_err());
    let waited = clock.now().since(start);
    assert!(
        waited >= limit - Duration::from_millis(250) && waited <= limit * 2,
        "{waited:?}"
    );
}
