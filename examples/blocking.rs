//! A program that is not async: threads that ask for a secret, and a rotation while they do.
//!
//! `cargo run --example blocking`
//!
//! There is no runtime here. The resolver brings the threads that it needs, and a caller's thread sleeps until its answer is there.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use secret_resolver::testing::MockBackend;
use secret_resolver::{ExposeSecret, Resolver, secret_name};

const PASSWORD: &str = secret_name!("prod/db#password");
const THREADS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    // In a service a `VaultBackend` stands here; all else stays as it is.
    let store = MockBackend::new().with_value(PASSWORD, "first");
    let resolver = Resolver::builder(store.clone()).build()?;

    // A service that lacks a secret does not start, and says all that is missing at once.
    if let Err(error) = resolver.require_blocking(&[PASSWORD, "prod/no-such"]) {
        println!("refused    {error}");
    }
    resolver.require_blocking(&[PASSWORD])?;
    println!("started    with all that is required");

    let rotated = AtomicBool::new(false);
    let stop = AtomicBool::new(false);
    let counts = thread::scope(|scope| -> Result<Vec<Counts>, Box<dyn Error>> {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| work(&resolver, &rotated, &stop)))
            .collect();
        thread::sleep(Duration::from_millis(100));

        store.set(PASSWORD, "second");
        resolver.invalidator().invalidate(PASSWORD)?;
        rotated.store(true, Ordering::Release);

        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Release);
        let counts = workers.into_iter().map(|worker| worker.join());
        let counts = counts.collect::<Result<_, _>>();
        counts.map_err(|_| "a worker panicked".into())
    })?;
    let sum = |count: fn(&Counts) -> u64| counts.iter().map(count).sum::<u64>();
    let (first, second) = (sum(|counts| counts.first), sum(|counts| counts.second));
    let (late, failed) = (sum(|counts| counts.late), sum(|counts| counts.failed));
    println!(
        "asked      {THREADS} threads: {first} answers of the first password, {second} of the second"
    );
    println!("           {late} of the first that came after the invalidation, {failed} failures");
    println!("           {} requests at the store", store.calls());

    // Never asks the store and never waits: for a place that may do neither.
    println!("peeked     {:?}", resolver.peek(PASSWORD)?.version());

    let report = resolver.shutdown_blocking(Duration::from_secs(1));
    println!("shut down  {} values dropped", report.values_dropped);
    match (first > 0 && second > 0, late + failed) {
        (true, 0) => Ok(()),
        _ => Err("the rotation did not go as it should".into()),
    }
}

#[derive(Default)]
struct Counts {
    first: u64,
    second: u64,
    late: u64,
    failed: u64,
}

fn work(resolver: &Resolver, rotated: &AtomicBool, stop: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    while !stop.load(Ordering::Acquire) {
        // Read before the question: an answer that was asked for after the invalidation must be the new one.
        let rotated = rotated.load(Ordering::Acquire);
        match resolver.get_blocking(PASSWORD) {
            Ok(password) if password.expose_secret() == b"second" => counts.second += 1,
            Ok(_) => {
                counts.first += 1;
                counts.late += u64::from(rotated);
            }
            Err(_) => counts.failed += 1,
        }
    }
    counts
}
