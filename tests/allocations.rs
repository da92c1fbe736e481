//! A hit allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use secret_resolver::Resolver;
use secret_resolver::testing::MockBackend;

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_hit_allocates_nothing() {
    let backend = MockBackend::new().with_value("prod/db#password", "hunter2");
    let resolver = Resolver::builder(backend).build().unwrap();
    // A thread registers with the read path once; let that happen before.
    for _ in 0..1000 {
        resolver.get("prod/db#password").await.unwrap();
    }
    let mut hits = 0;
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            let secret = poll(resolver.get("prod/db#password"));
            hits += usize::from(matches!(secret, Poll::Ready(Ok(_))));
        }
    });
    assert_eq!(hits, 100);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[tokio::test]
async fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(Box::new([0_u8; 64])));
    assert_eq!(counted.count_total, 1);
}
