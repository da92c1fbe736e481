//! Signals about other names cost nothing, and those about a name reach it however it is called.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use secret_resolver::backend::{Located, NameRef, Request, ResolveFuture};
use secret_resolver::{ErrorKind, Resolver, SecretResolver};
use tokio::task::JoinHandle;

use crate::support::{Say, Store, ms, now, pause, since, version_of, within};

/// Signals for a prefix below which no caller asks for anything, until it is aborted.
fn signal_strangers(
    resolver: &Resolver,
    pauses: impl Fn() -> u64 + Send + 'static,
) -> JoinHandle<()> {
    let invalidator = resolver.invalidator();
    tokio::spawn(async move {
        loop {
            pause(pauses()).await;
            invalidator.invalidate_prefix("quite/other").unwrap();
        }
    })
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("hot/{number}")).collect()
}

/// Gets each name again and again, in its own task; returns how many gets have failed.
async fn read_all(resolver: &Resolver, names: &[String], time: Duration) -> usize {
    let begun = now();
    let reads = names.iter().cloned().map(|name| {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            let mut failed = 0;
            while since(begun) < time {
                failed += usize::from(resolver.get(&name).await.is_err());
                pause(20).await;
            }
            failed
        })
    });
    let mut failed = 0;
    for read in reads.collect::<Vec<_>>() {
        failed += read.await.unwrap();
    }
    failed
}

/// Two hundred hot names through an outage; how many gets failed, and how many requests there were.
async fn through_an_outage(signals: bool) -> (usize, usize) {
    let store = Store::saying("store", Say::Value.after(ms(30)));
    let resolver = Resolver::builder(store.clone())
        .with_ttl(Duration::from_secs(3))
        .serve_stale_up_to(Duration::from_secs(3600))
        .build()
        .unwrap();
    let names = names(200);
    let draw = || 100 + RandomState::new().hash_one(0) % 1400;
    let strangers = signals.then(|| signal_strangers(&resolver, draw));
    for answer in resolver.get_many(&names).await {
        answer.unwrap();
    }
    let mut failed = read_all(&resolver, &names, Duration::from_secs(6)).await;
    store.says(Say::Error(ErrorKind::Unavailable).after(ms(30)));
    failed += read_all(&resolver, &names, Duration::from_secs(6)).await;
    if let Some(strangers) = strangers {
        strangers.abort();
    }
    (failed, store.asked())
}

#[tokio::test]
async fn signals_for_strangers_cost_hot_names_neither_answers_nor_requests() {
    // At the same time, so that both have the same machine.
    let with = tokio::spawn(through_an_outage(true));
    let without = through_an_outage(false).await;
    let with = with.await.unwrap();
    let seen = format!("(failed, asked): {with:?} with signals, {without:?} without");
    assert_eq!((with.0, without.0), (0, 0), "{seen}");
    assert!(with.1 * 10 <= without.1 * 12, "{seen}");
}

#[tokio::test]
async fn signals_for_strangers_do_not_keep_a_service_from_starting() {
    let store = Store::saying("store", Say::Value.after(ms(50)));
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    let strangers = signal_strangers(&resolver, || 15);
    let begun = now();
    let required = resolver.require(&names(500)).await;
    let took = since(begun);
    // And one that no caller has asked for yet.
    let begun = now();
    let cold = resolver.get("cold/x").await;
    let cold_took = since(begun);
    strangers.abort();
    let failed = required.as_ref().err();
    let failed = failed.map_or(0, |error| error.failures().count());
    let asked = store.asked();
    let seen =
        format!("{failed} failed after {took:?}, {asked} asked; {cold:?} after {cold_took:?}");
    assert!(
        failed == 0 && cold.is_ok() && cold_took < ms(1000),
        "{seen}"
    );
    assert!(asked <= 550, "{seen}");
}

/// How many requests a name costs within 3 s after a signal for everything.
async fn requests_after_a_signal_for_everything(rotated: bool) -> f64 {
    let store = Store::saying("store", Say::Value.after(ms(5)));
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    let names = names(100);
    for answer in resolver.get_many(&names).await {
        answer.unwrap();
    }
    if rotated {
        store.rotate_all();
    }
    let before = store.asked();
    resolver.invalidator().invalidate_all().unwrap();
    assert_eq!(read_all(&resolver, &names, Duration::from_secs(3)).await, 0);
    f64::from(u32::try_from(store.asked() - before).unwrap()) / 100.0
}

#[tokio::test]
async fn a_signal_for_everything_costs_one_request_a_name_that_has_changed() {
    let requests = requests_after_a_signal_for_everything(true).await;
    assert!(requests <= 1.5, "{requests} requests a name");
}

#[tokio::test]
async fn a_signal_for_everything_costs_few_requests_a_name_that_has_not_changed() {
    let requests = requests_after_a_signal_for_everything(false).await;
    // Looked at again and again for the settle time, each time later.
    assert!(requests <= 6.5, "{requests} requests a name");
}

/// A store in which `a/x` and `b/y` are one record.
#[derive(Debug)]
struct TwoNames(Store);

impl SecretResolver for TwoNames {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0.resolve(request)
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        match name.as_str() {
            "a/x" | "b/y" => Located::new("one/record", None),
            _ => Located::by_path(name),
        }
    }
}

#[tokio::test]
async fn a_prefix_reaches_a_record_by_a_name_that_was_not_asked_for_yet() {
    let store = Store::new("store");
    let resolver = Resolver::builder(TwoNames(store.clone())).build().unwrap();
    let get = |name| within(Duration::from_secs(6), resolver.get(name));
    assert_eq!(version_of(&get("a/x").await.unwrap()), 1);
    store.rotate_all();
    resolver.invalidator().invalidate_prefix("b").unwrap();
    assert_eq!(version_of(&get("b/y").await.unwrap()), 2);
}
