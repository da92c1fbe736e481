//! How many connections to an origin may be open: requests wait for one, and a burst keeps what it uses.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind};
use secret_resolver_transport::{Client, Method, Origin, Trust};
use test_servers::Reply;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Relay, World, builder, fails, get, request};

fn ok() -> Reply {
    Reply::json(200, "{}")
}

/// Answers once `count` requests are there at the same time, again and again.
fn together(count: usize) -> World {
    let barrier = Barrier::new(count);
    World::new(move |_| {
        barrier.wait();
        ok()
    })
}

async fn at_once(world: &World, client: &Client, count: usize) {
    let mut sending = JoinSet::new();
    for _ in 0..count {
        let (client, origin) = (client.clone(), world.origin.clone());
        sending.spawn(async move { client.send(&origin, get()).await });
    }
    for result in sending.join_all().await {
        assert_eq!(result.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_burst_opens_eight_connections_and_keeps_them_while_it_lasts() {
    let world = together(8);
    // On a clock that stands still: on a busy machine a request may wait long enough for a further one.
    let (client, _clock) = world.steered();
    at_once(&world, &client, 200).await;
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (200, 8)
    );
}

#[tokio::test]
async fn a_connection_that_is_kept_goes_to_those_that_wait_for_one() {
    let world = World::answering(ok());
    let (client, _clock) = world.steered();
    let mut sending = JoinSet::new();
    // Each asks again at once, while others wait.
    for _ in 0..24 {
        let (client, origin) = (client.clone(), world.origin.clone());
        sending.spawn(async move {
            for _ in 0..20 {
                client.send(&origin, get()).await.unwrap();
            }
        });
    }
    sending.join_all().await;
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (480, 8)
    );
}

#[tokio::test]
async fn as_many_connections_are_open_as_the_client_allows() {
    let world = together(3);
    let client = builder(&world.ca, Arc::new(ManualClock::strict())).allow(world.origin.clone());
    let client = client.with_connections(3).build().unwrap();
    at_once(&world, &client, 30).await;
    assert_eq!(world.server.connections(), 3);
    for none in [0, 1_025] {
        let refused = world.builder().with_connections(none).build().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    }
}

#[tokio::test]
async fn a_second_after_a_burst_two_connections_are_kept() {
    let world = together(5);
    let (client, clock) = world.steered();
    at_once(&world, &client, 5).await;
    assert_eq!(world.server.connections(), 5);
    clock.advance(Duration::from_secs(1) - Duration::from_nanos(1));
    at_once(&world, &client, 5).await;
    assert_eq!(world.server.connections(), 5);
    clock.advance(Duration::from_secs(1));
    at_once(&world, &client, 5).await;
    assert_eq!(world.server.connections(), 5 + 3);
    // Nobody sends: they are closed anyway, and the sweeper wakes for the first of them.
    let soon = clock.now() + Duration::from_secs(1);
    assert!(clock.next_wake().is_some_and(|wake| wake <= soon));
}

#[tokio::test]
async fn a_connection_that_is_kept_counts_among_those_that_may_be_open() {
    let both = Arc::new(Barrier::new(2));
    let held = Arc::clone(&both);
    let asked = AtomicUsize::new(0);
    let world = World::new(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) < 2 {
            held.wait();
        }
        ok()
    });
    let relay = Relay::start("127.0.0.1", world.server.port());
    let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
    // On a clock that stands still, so that no time closes one.
    let client = builder(&world.ca, Arc::new(ManualClock::strict())).allow(origin.clone());
    let client = client.with_connections(2).build().unwrap();
    let (one, two) = tokio::join!(client.send(&origin, get()), client.send(&origin, get()));
    assert!(one.is_ok() && two.is_ok());
    assert!(relay.left.try_recv().is_err());
    // A login goes over a new one, in place of one that was kept.
    client.send(&origin, request(Method::Post)).await.unwrap();
    assert_eq!(world.server.connections(), 3);
    assert!(relay.left.recv_timeout(PATIENCE).is_ok());
    assert!(relay.left.try_recv().is_err());
}

#[tokio::test]
async fn each_origin_has_connections_of_its_own() {
    let (full, other) = (World::answering(Reply::Silent), World::answering(ok()));
    let trust = Trust::from_pem(format!("{}{}", full.ca.pem(), other.ca.pem()).as_bytes()).unwrap();
    // On a clock that stands still: where all are in use, nothing is opened beside them.
    let client = Client::builder(trust, Arc::new(ManualClock::strict()))
        .allow(full.origin.clone())
        .allow(other.origin.clone())
        .with_connections(1)
        .build()
        .unwrap();
    let mut sending = JoinSet::new();
    for _ in 0..3 {
        let (client, origin) = (client.clone(), full.origin.clone());
        sending.spawn(async move { drop(client.send(&origin, get()).await) });
    }
    while full.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let answer = tokio::time::timeout(PATIENCE, other.get(&client)).await;
    assert_eq!(answer.unwrap().unwrap().status(), 200);
    assert_eq!(
        (full.server.requests().len(), full.server.connections()),
        (1, 1)
    );
    sending.abort_all();
}

/// A client on a clock that stands still, of this many connections as a rule, which this many requests hold.
async fn held(
    world: &World,
    connections: usize,
    holding: usize,
) -> (Client, ManualClock, JoinSet<()>) {
    let clock = ManualClock::strict();
    let client = builder(&world.ca, Arc::new(clock.clone())).allow(world.origin.clone());
    let client = client.with_connections(connections).build().unwrap();
    let mut held = JoinSet::new();
    for _ in 0..holding {
        let (sending, origin) = (client.clone(), world.origin.clone());
        held.spawn(async move { drop(sending.send(&origin, get()).await) });
    }
    // Rarely, so that none of them is over before the last has begun.
    while world.server.requests().len() < holding {
        tokio::time::sleep(Duration::from_millis(200)).await;
        clock.advance(Duration::from_millis(250));
    }
    (client, clock, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_connections_are_in_use_for_long_another_is_opened() {
    let asked = AtomicUsize::new(0);
    let world = World::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0..8 => Reply::Silent,
        _ => ok(),
    });
    let (client, clock, mut held) = held(&world, 8, 8).await;
    let mut waiting = Box::pin(client.send(&world.origin, get()));
    let mut begun = async || poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
    assert!(begun().await.is_pending());
    clock.advance(Duration::from_millis(249));
    assert!(begun().await.is_pending());
    assert_eq!(world.server.connections(), 8);
    clock.advance(Duration::from_millis(1));
    assert_eq!(waiting.await.unwrap().status(), 200);
    // The next one takes it, and does not wait.
    assert_eq!(world.get(&client).await.unwrap().status(), 200);
    assert_eq!(world.server.connections(), 9);
    held.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_connection_for_long_is_overloaded_and_was_not_sent() {
    let world = World::answering(Reply::Silent);
    let (client, clock, mut held) = held(&world, 1, 64).await;
    let mut waiting = Box::pin(client.send(&world.origin, get()));
    let begun = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
    assert!(begun.is_pending());
    clock.advance(Duration::from_millis(250));
    let begun = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
    assert!(begun.is_pending());
    clock.advance(PATIENCE / 2 - Duration::from_millis(250));
    let error = fails(waiting.await, ErrorKind::Overloaded);
    assert!(error.is_held_back());
    assert_eq!(world.server.requests().len(), 64);
    held.abort_all();
}
