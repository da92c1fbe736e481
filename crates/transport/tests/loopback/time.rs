//! How long the client waits: by its clock, whatever the server does.
//!
//! The clock stands still until the test moves it, so no test here waits for luck.

use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, Moment};
use secret_resolver_transport::{Client, Origin, Response, Trust};
use test_servers::Reply;
use tokio::task::JoinHandle;

use crate::support::{After, PATIENCE, Relay, World, fails, get};

const NOT_YET: Duration = Duration::from_millis(1);

/// A client with the default times.
fn client(world: &World, clock: &ManualClock, origin: &Origin) -> Client {
    let trust = Trust::from_pem(world.ca.pem().as_bytes()).unwrap();
    Client::builder(trust, Arc::new(clock.clone()))
        .allow(origin.clone())
        .build()
        .unwrap()
}

fn spawn(client: &Client, origin: &Origin) -> JoinHandle<Result<Response, Error>> {
    let (client, origin) = (client.clone(), origin.clone());
    tokio::spawn(async move { client.send(&origin, get()).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_or_does_not_end_times_out() {
    let dripping = Reply::DripHead {
        byte_every: NOT_YET,
    };
    // The head of the third answer comes at once, and its body slowly.
    let long = Reply::status(200).with_body([b'a'].repeat(1 << 19));
    for (reply, quick) in [
        (Reply::Silent, usize::MAX),
        (dripping, usize::MAX),
        (long, 64 << 10),
    ] {
        let world = World::answering(reply);
        let relay = Relay::start_limited(After::Drip, quick, "127.0.0.1", world.server.port());
        let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
        let clock = ManualClock::strict();
        let client = client(&world, &clock, &origin);
        let sending = spawn(&client, &origin);
        assert!(world.server.wait_for_requests(1, PATIENCE));
        // Bytes that keep coming do not move the deadline.
        clock.advance(Duration::from_secs(4) - NOT_YET);
        tokio::task::yield_now().await;
        assert!(!sending.is_finished());
        clock.advance(NOT_YET);
        fails(sending.await.unwrap(), ErrorKind::Timeout);
        assert!(
            relay.left.recv_timeout(PATIENCE).is_ok(),
            "the connection was left open"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_unavailable_after_the_connect_timeout() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let world = World::answering(Reply::status(200));
    let origin = Origin::parse(&format!(
        "https://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    ))
    .unwrap();
    let clock = ManualClock::strict();
    let sending = spawn(&client(&world, &clock, &origin), &origin);
    let (mut peer, _) = listener.accept().unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    clock.advance(Duration::from_secs(2) - NOT_YET);
    tokio::task::yield_now().await;
    assert!(!sending.is_finished());
    clock.advance(NOT_YET);
    fails(sending.await.unwrap(), ErrorKind::Unavailable);
    // The connection is closed, not left behind.
    peer.read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_falls_silent_times_out_and_is_not_tried_again() {
    let world = World::new({
        let asked = std::sync::atomic::AtomicUsize::new(0);
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Reply::status(200),
            _ => Reply::Silent,
        }
    });
    let clock = ManualClock::strict();
    let client = client(&world, &clock, &world.origin);
    world.get(&client).await.unwrap();
    let sending = spawn(&client, &world.origin);
    assert!(world.server.wait_for_requests(2, PATIENCE));
    clock.advance(Duration::from_secs(4));
    fails(sending.await.unwrap(), ErrorKind::Timeout);
    assert_eq!(world.server.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_kept_connection_falls_silent_the_older_ones_are_not_tried() {
    let both = Arc::new(Barrier::new(2));
    let world = World::new({
        let asked = std::sync::atomic::AtomicUsize::new(0);
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            // At once, so that there are two connections.
            0 | 1 => {
                both.wait();
                Reply::status(200)
            }
            2 => Reply::Silent,
            _ => Reply::status(200),
        }
    });
    let clock = ManualClock::strict();
    let client = client(&world, &clock, &world.origin);
    let (one, two) = tokio::join!(world.get(&client), world.get(&client));
    assert!(one.is_ok() && two.is_ok());
    let sending = spawn(&client, &world.origin);
    assert!(world.server.wait_for_requests(3, PATIENCE));
    clock.advance(Duration::from_secs(4));
    fails(sending.await.unwrap(), ErrorKind::Timeout);
    assert_eq!(world.server.connections(), 2);
    world.get(&client).await.unwrap();
    assert_eq!(world.server.connections(), 3);
}

#[tokio::test]
async fn a_real_clock_ends_the_wait_too() {
    let world = World::answering(Reply::Silent);
    let short = Duration::from_millis(50);
    let client = world
        .builder()
        .with_response_timeout(short)
        .build()
        .unwrap();
    let start = client.clock().now();
    let error = world.get(&client).await.unwrap_err();
    // Under load the time may pass before the request is sent.
    assert!(
        matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
        "{error}"
    );
    let waited = client.clock().now().since(start);
    assert!(waited >= short && waited < PATIENCE, "{waited:?}");
}

#[tokio::test]
async fn no_sleeper_is_left_behind_by_an_answer() {
    let world = World::answering(Reply::status(200).with_header("Connection", "close"));
    let (client, clock) = world.steered();
    world.get(&client).await.unwrap();
    assert_eq!(clock.next_wake(), None::<Moment>);
    assert_eq!(clock.now(), Moment::ZERO);
}
