//! Names that are asked for at the same time are one request of a store that reads several at once, in the assembled resolver.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{BreakerState, Error, ErrorKind, LimitConfig, Resolver, Secret};

const NAMES: usize = 200;

fn names() -> Vec<String> {
    (0..NAMES).map(|number| format!("n/{number}")).collect()
}

/// A store that reads 161 names at once, and its first answer behind a gate.
fn setup() -> (MockBackend, Gate, ManualClock) {
    let store = MockBackend::new().reading_at_once(161);
    for name in names() {
        store.set(&name, format!("value of {name}"));
    }
    (store, Gate::new(), ManualClock::strict())
}

fn resolver(store: &MockBackend, clock: &ManualClock) -> Resolver {
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    builder.with_attempts(1).build().unwrap()
}

/// Waits until so many reads wait for the one that is under way.
async fn wait_for(resolver: &Resolver, waiting: usize) {
    let shown = format!("waiting: {waiting},");
    let wait = async {
        while !format!("{resolver:#?}").contains(&shown) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap();
}

fn assert_all(answers: &[Result<Secret, Error>]) {
    assert_eq!(answers.len(), NAMES);
    for (name, answer) in names().iter().zip(answers) {
        let value = answer.as_ref().unwrap().expose_str().unwrap().to_owned();
        assert_eq!(value, format!("value of {name}"));
    }
}

#[tokio::test]
async fn two_hundred_names_of_one_batch_are_three_requests() {
    let (store, gate, clock) = setup();
    store.script("n/0", [gate.then(Reply::Stored)]);
    let resolver = resolver(&store, &clock);
    let (asked, names) = (resolver.clone(), names());
    let batch = tokio::spawn(async move { asked.get_many(&names).await });
    wait_for(&resolver, NAMES - 1).await;
    gate.open();
    assert_all(&batch.await.unwrap());
    assert_eq!(store.calls(), 3);
    // Each name is held by itself.
    assert_all(&resolver.get_many(&self::names()).await);
    assert_eq!(store.calls(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_with_a_name_each_are_three_requests_and_each_fails_alone() {
    let (store, gate, clock) = setup();
    // Whichever comes first.
    for name in names() {
        store.script(&name, [gate.then(Reply::Stored)]);
    }
    store.remove("n/77");
    let resolver = resolver(&store, &clock);
    let gets: Vec<_> = names()
        .into_iter()
        .map(|name| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.get(&name).await })
        })
        .collect();
    wait_for(&resolver, NAMES - 1).await;
    gate.open();
    for (number, get) in gets.into_iter().enumerate() {
        let answer = get.await.unwrap();
        match number {
            77 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound),
            _ => drop(answer.unwrap()),
        }
    }
    assert_eq!(store.calls(), 3);
}

#[tokio::test]
async fn the_guards_see_one_request() {
    let (store, gate, clock) = setup();
    store.script("n/0", [gate.then(Reply::Stored)]);
    // One at a time: two batches of a hundred would be refused if they counted as a hundred.
    let one = LimitConfig::default()
        .with_max_concurrent(1)
        .with_max_queued(2);
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        .with_limit(one)
        .with_attempts(1)
        .build()
        .unwrap();
    let (asked, names) = (resolver.clone(), names());
    let batch = tokio::spawn(async move { asked.get_many(&names).await });
    wait_for(&resolver, NAMES - 1).await;
    // The next requests fail as a whole: two failures of the store, and not two hundred.
    store.always(Reply::Error(ErrorKind::Unavailable));
    gate.open();
    let answers = batch.await.unwrap();
    let away = |answer: &&Result<Secret, Error>| {
        answer
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Unavailable)
    };
    assert_eq!(answers.iter().filter(away).count(), NAMES - 1);
    assert_eq!(store.calls(), 3);
    let status = resolver.status();
    assert_eq!(status.stores[0].endpoints[0].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_failed_request_is_tried_again_as_one() {
    let (store, gate, clock) = setup();
    store.script("n/0", [gate.then(Reply::Stored)]);
    let clock = {
        drop(clock);
        // Lets back-offs pass.
        ManualClock::new()
    };
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock)
        .build()
        .unwrap();
    let names: Vec<_> = names().into_iter().take(100).collect();
    // The name that leads the second request.
    store.script(&names[1], [Reply::Error(ErrorKind::Unavailable)]);
    let asked = resolver.clone();
    let batch = tokio::spawn(async move { asked.get_many(&names).await });
    wait_for(&resolver, 99).await;
    gate.open();
    assert!(batch.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(store.calls(), 3);
}
