//! Which connections are kept, for how long, and what happens when they die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secret_resolver::ErrorKind;
use secret_resolver_transport::{Client, Method, Origin};
use test_servers::Reply;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Relay, World, fails, get, request};

fn ok() -> Reply {
    Reply::json(200, "{}")
}

/// Answers the `n`th request with `reply(n)`, from 0.
fn counting(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> World {
    let count = AtomicUsize::new(0);
    World::new(move |_| reply(count.fetch_add(1, Ordering::Relaxed)))
}

async fn at_once(client: &Client, origin: &Origin, count: usize) {
    let mut sending = JoinSet::new();
    for _ in 0..count {
        let (client, origin) = (client.clone(), origin.clone());
        sending.spawn(async move { client.send(&origin, get()).await });
    }
    for result in sending.join_all().await {
        assert_eq!(result.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn two_reads_share_one_connection_and_so_do_clones_of_the_client() {
    let world = World::answering(ok());
    let client = world.client();
    for _ in 0..5 {
        world.get(&client.clone()).await.unwrap();
    }
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (5, 1)
    );
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_not_an_error() {
    let world = World::answering(ok());
    let client = world.client();
    for connections in 1..20 {
        world.get(&client).await.unwrap();
        assert_eq!(world.server.connections(), connections);
        // No pause: the client may or may not have noticed it when it sends again.
        world.server.drop_connections();
    }
}

#[tokio::test]
async fn a_read_is_tried_again_once_and_only_after_a_kept_connection_died() {
    let world = counting(|asked| if asked == 0 { ok() } else { Reply::CloseAtOnce });
    let client = world.client();
    world.get(&client).await.unwrap();
    world.fails(&client, ErrorKind::Unavailable).await;
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (3, 2)
    );
    world.fails(&client, ErrorKind::Unavailable).await;
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (4, 3)
    );
}

#[tokio::test]
async fn a_login_is_sent_once_and_over_its_own_connection() {
    let world = counting(|asked| if asked == 2 { Reply::CloseAtOnce } else { ok() });
    let client = world.client();
    let post = || request(Method::Post);
    world.get(&client).await.unwrap();
    client.send(&world.origin, post()).await.unwrap();
    assert_eq!(world.server.connections(), 2);
    fails(
        client.send(&world.origin, post()).await,
        ErrorKind::Unavailable,
    );
    assert_eq!(
        (world.server.requests().len(), world.server.connections()),
        (3, 3)
    );
    // A read may follow on what the login left.
    world.get(&client).await.unwrap();
    assert_eq!(world.server.connections(), 3);
}

#[tokio::test]
async fn a_connection_is_kept_only_after_a_whole_answer() {
    let replies = [
        ok().with_header("Connection", "close"),
        Reply::status(302),
        Reply::Truncated {
            declared: 2 << 20,
            body: Vec::new(),
        },
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\nunasked"
                .to_vec(),
        ),
        Reply::Raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        // Here the server closes nothing: that it is not kept is the client's doing.
        Reply::status(204).with_body("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked"),
        Reply::status(304).with_body("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked"),
    ];
    for reply in replies {
        let world = counting(move |asked| if asked == 0 { reply.clone() } else { ok() });
        let client = world.client();
        let _ = world.get(&client).await;
        assert_eq!(world.get(&client).await.unwrap().body(), b"{}");
        assert_eq!(world.server.connections(), 2);
    }
}

#[tokio::test]
async fn a_connection_is_closed_after_half_a_minute_of_rest() {
    let world = World::answering(ok());
    let relay = Relay::start("127.0.0.1", world.server.port());
    let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
    let clock = secret_resolver::testing::ManualClock::strict();
    let client = crate::support::builder(&world.ca, Arc::new(clock.clone()))
        .allow(origin.clone())
        .build()
        .unwrap();
    let left = |wait| relay.left.recv_timeout(wait).is_ok();
    client.send(&origin, get()).await.unwrap();
    clock.advance(Duration::from_secs(29));
    client.send(&origin, get()).await.unwrap();
    // Used just now: it rests from here.
    clock.advance(Duration::from_secs(29));
    tokio::task::yield_now().await;
    assert!(!left(Duration::ZERO));
    // Nobody sends: the runtime alone is enough.
    clock.advance(Duration::from_secs(1));
    while !left(Duration::from_millis(1)) {
        tokio::task::yield_now().await;
    }
    client.send(&origin, get()).await.unwrap();
    assert_eq!(world.server.connections(), 2);
}

#[tokio::test]
async fn dropping_the_client_closes_what_it_kept() {
    let world = World::answering(ok());
    let relay = Relay::start("127.0.0.1", world.server.port());
    let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
    let client = world.builder().allow(origin.clone()).build().unwrap();
    client.send(&origin, get()).await.unwrap();
    drop(client);
    assert!(relay.left.recv_timeout(PATIENCE).is_ok());
}

#[tokio::test]
async fn fifty_reads_at_once_are_all_answered() {
    let world = World::answering(ok());
    at_once(&world.client(), &world.origin, 50).await;
    assert_eq!(world.server.requests().len(), 50);
}

#[tokio::test]
async fn a_send_that_is_dropped_closes_its_connection_and_leaves_the_client_usable() {
    let world = counting(|asked| if asked == 0 { Reply::Silent } else { ok() });
    let relay = Relay::start("127.0.0.1", world.server.port());
    let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
    let client = world.builder().allow(origin.clone()).build().unwrap();
    let sending = tokio::spawn({
        let (client, origin) = (client.clone(), origin.clone());
        async move {
            client
                .send(&origin, get())
                .await
                .map(|response| response.status())
        }
    });
    while world.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    assert!(relay.left.recv_timeout(PATIENCE).is_ok());
    assert_eq!(client.send(&origin, get()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_send_may_be_dropped_after_any_number_of_polls() {
    let world = World::answering(ok());
    let client = world.client();
    for polls in 0..40 {
        let mut send = Box::pin(client.send(&world.origin, get()));
        for _ in 0..polls {
            let done = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(send.as_mut().poll(cx).is_ready())
            })
            .await;
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(send);
        assert_eq!(world.get(&client).await.unwrap().body(), b"{}");
    }
}

#[test]
fn a_client_outlives_the_runtimes_it_is_used_on() {
    let world = World::answering(ok());
    let client = world.client();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
    };
    for connections in 1..4 {
        let runtime = runtime();
        for _ in 0..2 {
            runtime.block_on(world.get(&client)).unwrap();
        }
        assert_eq!(world.server.connections(), connections);
    }
    // Two that live side by side do not wait for each other's connections.
    let (one, other) = (runtime(), runtime());
    for runtime in [&one, &other, &one, &other] {
        runtime.block_on(world.get(&client)).unwrap();
    }
    assert_eq!(world.server.connections(), 5);
}
