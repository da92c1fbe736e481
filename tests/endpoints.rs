//! Several endpoints of one store in the assembled stack: one that is behind, silent or slow fails no get.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::{Error, ErrorKind, Record, Resolver, SecretBuf, SecretResolver, Version};

const NAMES: usize = 1_000;
const TASKS: usize = 50;

/// What an endpoint does with a read.
#[derive(Clone, Copy, Debug)]
enum Is {
    Well,
    /// This many versions behind.
    Behind(u64),
    Silent,
    Slow(Duration),
}

/// A store whose endpoints answer the same version, or do not.
#[derive(Debug)]
struct Store {
    endpoints: Mutex<Vec<Is>>,
    asked: Vec<AtomicU64>,
    version: AtomicU64,
    spreads: bool,
}

impl Store {
    fn new(endpoints: &[Is], spreads: bool) -> Arc<Self> {
        Arc::new(Self {
            endpoints: Mutex::new(endpoints.to_vec()),
            asked: endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            version: AtomicU64::new(10),
            spreads,
        })
    }

    fn is(&self, endpoint: usize, is: Is) {
        self.endpoints.lock().unwrap()[endpoint] = is;
    }

    fn asked(&self) -> Vec<u64> {
        let asked = self.asked.iter();
        asked.map(|asked| asked.load(Ordering::Relaxed)).collect()
    }
}

impl SecretResolver for Store {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let endpoint = request.endpoint().unwrap_or(0);
        self.asked[endpoint].fetch_add(1, Ordering::Relaxed);
        let is = self.endpoints.lock().unwrap()[endpoint];
        let current = self.version.load(Ordering::Relaxed);
        ResolveFuture::new(async move {
            tokio::task::yield_now().await;
            let version = match is {
                Is::Well => current,
                Is::Behind(behind) => current - behind,
                Is::Silent => std::future::pending().await,
                Is::Slow(latency) => {
                    tokio::time::sleep(latency).await;
                    current
                }
            };
            let value = SecretBuf::from_slice(version.to_string().as_bytes())?;
            let record = Record::builder("store").field("value", value);
            let record = record.version(Version::number(version)).build()?;
            request.admit(record.select(request.name().field()))
        })
    }

    fn endpoints(&self) -> usize {
        self.asked.len()
    }

    fn spreads(&self) -> bool {
        self.spreads
    }
}

fn names() -> Arc<Vec<String>> {
    Arc::new((0..NAMES).map(|number| format!("n/{number}")).collect())
}

/// Each of the tasks reads its part of the names, after `invalidate` was called for each; the errors and
/// the answers below `version`.
async fn read_all(resolver: &Resolver, version: u64) -> Vec<String> {
    let names = names();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (resolver, names) = (resolver.clone(), Arc::clone(&names));
            tokio::spawn(async move {
                let mut wrong = Vec::new();
                for name in names.iter().skip(task).step_by(TASKS) {
                    match resolver.get(name).await {
                        Ok(value) if value.version() >= &Version::number(version) => {}
                        Ok(value) => wrong.push(format!("{name}: {:?}", value.version())),
                        Err(error) => wrong.push(error.to_string()),
                    }
                }
                wrong
            })
        })
        .collect();
    let mut wrong = Vec::new();
    for task in tasks {
        wrong.extend(task.await.unwrap());
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_behind_is_asked_once_and_then_each_other_by_its_number() {
    for spreads in [false, true] {
        for behind in 0..3 {
            let store = Store::new(&[Is::Well; 3], spreads);
            let resolver = Resolver::builder(Arc::clone(&store)).build().unwrap();
            assert_eq!(read_all(&resolver, 10).await, [""; 0]);
            store.is(behind, Is::Behind(3));
            store.is((behind + 1) % 3, Is::Behind(1));
            for _ in 0..3 {
                resolver.invalidator().invalidate_prefix("n").unwrap();
                assert_eq!(
                    read_all(&resolver, 10).await,
                    [""; 0],
                    "{behind}, {spreads}"
                );
            }
            let most = 4 * 3 * NAMES as u64;
            assert!(
                store.asked().iter().sum::<u64>() <= most,
                "{:?}",
                store.asked()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_falls_silent_fails_no_get_of_a_burst() {
    for spreads in [false, true] {
        let store = Store::new(&[Is::Well; 3], spreads);
        let resolver = Resolver::builder(Arc::clone(&store)).build().unwrap();
        store.is(0, Is::Silent);
        let names = names();
        let begun = resolver.clock().now();
        let answers = resolver.get_many(&names[..]).await;
        let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert!(
            failed.is_empty(),
            "{spreads}: {} of {NAMES}: {}",
            failed.len(),
            failed[0]
        );
        // One attempt of half the time, in which the others wait, and then the next endpoint.
        let took = resolver.clock().now().since(begun);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

/// What a thousand gets at once end with, two seconds being the most that they wait: how many are answered,
/// and the errors.
async fn burst(is: Is) -> (usize, Vec<Error>) {
    let store = Store::new(&[is], false);
    let resolver = Resolver::builder(Arc::clone(&store))
        .with_deadline(Duration::from_secs(2))
        .build()
        .unwrap();
    let gets = (0..NAMES).map(|number| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.get(&format!("n/{number}")).await })
    });
    let mut failed = Vec::new();
    for get in gets.collect::<Vec<_>>() {
        failed.extend(get.await.unwrap().err());
    }
    (NAMES - failed.len(), failed)
}

#[tokio::test]
async fn to_wait_for_our_own_permit_is_not_an_outage_of_a_store_that_answers() {
    let (answered, failed) = burst(Is::Slow(Duration::from_millis(200))).await;
    assert!(answered >= 64, "{answered}");
    let other = failed
        .iter()
        .find(|error| error.kind() != ErrorKind::Overloaded);
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test]
async fn waiters_behind_a_store_that_is_silent_see_an_outage_too() {
    let (answered, failed) = burst(Is::Silent).await;
    assert_eq!((answered, failed.len()), (0, NAMES));
    let other = failed.iter().find(|error| !error.kind().permits().fallback);
    assert!(other.is_none(), "{other:?}");
}
