//! The threads of many resolvers in one process. It is its own program because it counts them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use secret_resolver::Resolver;
use secret_resolver::testing::MockBackend;

const NAME: &str = "prod/db#password";

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn resolver(number: usize) -> Resolver {
    let store = MockBackend::new().with_value(NAME, number.to_string());
    Resolver::builder(store).build().unwrap()
}

#[test]
fn three_hundred_resolvers_share_a_few_threads_and_leave_none() {
    let (threads, files) = (entries("/proc/self/task"), entries("/proc/self/fd"));
    let resolvers: Vec<_> = (0..300).map(resolver).collect();
    for (number, resolver) in resolvers.iter().enumerate() {
        let secret = resolver.get_blocking(NAME).unwrap();
        assert_eq!(secret.expose_str().unwrap(), number.to_string());
    }
    // A clock, a thread for fetches, 16 for stores, and some for wakers.
    let (more_threads, more_files) = (
        entries("/proc/self/task") - threads,
        entries("/proc/self/fd") - files,
    );
    assert!(more_threads <= 26, "{more_threads} threads");
    assert!(more_files <= 100, "{more_files} files");
    // A dropped resolver takes nothing from the others.
    let kept = resolver(7);
    drop(resolvers);
    let secret = kept.get_blocking(NAME).unwrap();
    assert_eq!(secret.expose_str().unwrap(), "7");
    drop((kept, secret));
    #[allow(clippy::disallowed_methods, reason = "it waits for threads to end")]
    let begun = Instant::now();
    while entries("/proc/self/task") > threads || entries("/proc/self/fd") > files {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
}
