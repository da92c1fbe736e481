//! What the store said to the holder of one token is not held against the next.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Barrier};

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver};
use test_servers::Reply;

#[test]
fn a_denial_during_a_login_is_not_remembered_for_the_token_that_it_brings() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    // A token that cannot be renewed is replaced by a login while it lives.
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    let stack = Resolver::builder(backend)
        .with_clock(clock.clone())
        .with_ttl(SECOND)
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(stack.get("a").await), "v");
        clock.advance(75 * SECOND);
        let barrier = Arc::new(Barrier::new(2));
        fake.state().waits = Some(("/login", Arc::clone(&barrier)));
        assert_eq!(text(stack.get("a").await), "v");
        until("the login is sent", || fake.asked("/login") == 2).await;
        // Under the old token, while the new one is on its way.
        let denied = stack.get("denied").await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Denied);
        fake.state().waits = None;
        barrier.wait();
        let new = || {
            let ends = stack.status().login_ends;
            ends.is_some_and(|ends| ends.since(clock.now()) > 80 * SECOND)
        };
        until("the new token is in use", new).await;
        let body = r#"{"data":{"data":{"value":"granted"},"metadata":{"version":1}}}"#;
        fake.state().instead = Some(("/data/denied", Reply::json(200, body)));
        assert_eq!(text(stack.get("denied").await), "granted");
    });
}
