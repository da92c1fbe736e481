//! Connections that died while nobody used them, with a word or without: a get, a batch and a login find them dead and are answered.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{ConjurDouble, Fault, Kind, Where};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Resolver};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A stack on a clock that the test moves, with two connections that are kept.
async fn warm() -> (ConjurDouble, Resolver, ManualClock) {
    let server = server(&[
        ("a", b"1"),
        ("b", b"2"),
        ("c", b"3"),
        ("d", b"4"),
        ("v", b"x"),
    ]);
    let clock = ManualClock::strict();
    let backend = on_clock(target(&server, by_key(&server)), &clock);
    let resolver = Resolver::builder(backend)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let gate = hold(&server, Kind::Secret);
    let slow = tokio::spawn({
        let resolver = resolver.clone();
        async move {
            resolver
                .get_version("v", &secret_resolver::Version::number(1))
                .await
        }
    });
    until("it was sent", || server.count(Kind::Secret) == 1).await;
    assert_eq!(bytes(resolver.get("a").await), b"1");
    gate.open();
    assert_eq!(bytes(slow.await.unwrap()), b"x");
    assert_eq!(server.open_connections(), 2);
    resolver.invalidator().invalidate_all().unwrap();
    (server, resolver, clock)
}

/// Gets all names while time goes on, and says how much of it that took.
async fn get_all(resolver: &Resolver, clock: &ManualClock) -> std::time::Duration {
    let began = clock.now();
    let asked = resolver.clone();
    let batch = tokio::spawn(async move { asked.get_many(&NAMES).await });
    until("its end", || {
        clock.advance(SECOND / 200);
        batch.is_finished()
    })
    .await;
    let values: Vec<_> = batch.await.unwrap().into_iter().map(bytes).collect();
    assert_eq!(values, [b"1", b"2", b"3", b"4"]);
    clock.now().since(began)
}

#[test]
fn kept_connections_that_the_store_has_closed_cost_no_get_its_answer() {
    block_on(async {
        for _ in 0..10 {
            let (server, resolver, clock) = warm().await;
            server.drop_connections();
            get_all(&resolver, &clock).await;
            assert_eq!(server.count(Kind::Authenticate), 1);
        }
    });
}

#[test]
fn kept_connections_that_died_silently_cost_a_get_of_conjur_time_and_no_answer() {
    block_on(async {
        let (server, resolver, clock) = warm().await;
        let kept = server.connections().len() as u64;
        // Nothing of what is sent on one of them arrives.
        server.fault_next(Where::Anywhere, Fault::Hang);
        let took = get_all(&resolver, &clock).await;
        // One attempt, of half of a fetch's four seconds, finds out; the older ones go with it.
        assert!(took < 4 * SECOND, "{took:?}");
        let requests = server.requests();
        let last = requests.last().unwrap();
        assert!(last.connection >= kept, "{requests:?}");
        assert_eq!(server.count(Kind::Authenticate), 1);
    });
}

#[test]
fn a_login_uses_no_kept_connection_which_may_have_died() {
    block_on(async {
        let (server, resolver, clock) = warm().await;
        let kept = server.connections().len() as u64;
        // The token has ended, by the server's clock alone, and the connections live.
        server.advance(481 * SECOND);
        get_all(&resolver, &clock).await;
        let requests = server.requests();
        let logins: Vec<_> = requests
            .iter()
            .filter(|it| it.kind == Kind::Authenticate)
            .collect();
        assert_eq!(logins.len(), 2);
        assert!(logins[1].connection >= kept);
        // The reads do.
        let reads = requests.iter().filter(|it| it.kind == Kind::Secret);
        assert!(reads.into_iter().all(|it| it.connection < kept));
    });
}

#[test]
fn a_conjur_that_comes_back_with_other_connections_needs_no_login() {
    block_on(async {
        let (server, resolver, clock) = warm().await;
        server.stop();
        server.start_again().unwrap();
        get_all(&resolver, &clock).await;
        assert_eq!(server.count(Kind::Authenticate), 1);
    });
}
