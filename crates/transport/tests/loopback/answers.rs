//! What is taken for an answer: within its bounds, whole, and HTTP.

use std::time::Duration;

use secret_resolver::ErrorKind;
use secret_resolver_transport::Origin;
use test_servers::Reply;

use crate::support::{After, CANARY, Relay, World, fails, get};

const LIMIT: usize = 1 << 20;

fn raw(text: impl AsRef<[u8]>) -> World {
    World::answering(Reply::Raw(text.as_ref().to_vec()))
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(10_000) {
        text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        text.extend_from_slice(piece);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}

#[tokio::test]
async fn a_body_of_the_limit_is_read_and_one_byte_more_is_malformed() {
    for (length, good) in [
        (0, true),
        (1, true),
        (LIMIT - 1, true),
        (LIMIT, true),
        (LIMIT + 1, false),
    ] {
        let body: Vec<u8> = (0..=250).cycle().take(length).collect();
        let until_close = [b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat();
        let announced = World::answering(Reply::status(200).with_body(&body));
        for world in [announced, raw(chunked(&body)), raw(until_close)] {
            let client = world.client();
            if good {
                let response = world.get(&client).await.unwrap();
                assert!(response.body() == body, "{length}");
            } else {
                world.fails(&client, ErrorKind::Malformed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_is_read() {
    // It never comes, so waiting for it would be an error of another kind.
    for declared in [LIMIT + 1, 100 << 20, usize::MAX] {
        let world = World::answering(Reply::Truncated {
            declared,
            body: CANARY.into(),
        });
        world.fails(&world.client(), ErrorKind::Malformed).await;
    }
}

#[tokio::test]
async fn the_body_limit_is_the_clients() {
    let world = World::answering(Reply::status(200).with_body("12345"));
    let of = |limit| world.builder().with_body_limit(limit).build().unwrap();
    assert_eq!(world.get(&of(5)).await.unwrap().body(), b"12345");
    for limit in [0, 4] {
        world.fails(&of(limit), ErrorKind::Malformed).await;
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_unavailable() {
    let replies = [
        Reply::Truncated {
            declared: 100,
            body: CANARY.into(),
        },
        Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ncana".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nca\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Reply::Raw(Vec::new()),
        Reply::CloseAtOnce,
    ];
    for reply in replies {
        let world = World::answering(reply);
        world.fails(&world.client(), ErrorKind::Unavailable).await;
        // A new connection's failure is not tried again: that is for a layer with a budget.
        assert_eq!(world.server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_must_end_in_tls_too() {
    // Without a length only the end of the body shows that it is whole, and anybody on the way
    // can end a TCP connection.
    let body = [b'a'].repeat(200 << 10);
    let world = raw([b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat());
    for (bytes, good) in [(usize::MAX, true), (100 << 10, false)] {
        let relay = Relay::start_limited(After::Cut, bytes, "127.0.0.1", world.server.port());
        let origin = Origin::parse(&format!("https://127.0.0.1:{}", relay.port)).unwrap();
        let client = world.builder().allow(origin.clone()).build().unwrap();
        let result = client.send(&origin, get()).await;
        if good {
            assert_eq!(result.unwrap().body().len(), body.len());
        } else {
            fails(result, ErrorKind::Unavailable);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_1_1_is_malformed() {
    let many = |count: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n",
            "A: b\r\n".repeat(count - 1)
        )
    };
    let long = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: {}\r\n\r\n",
            "b".repeat(length)
        )
    };
    let good = [many(100), long(30 << 10)];
    for text in good {
        let world = raw(text);
        assert_eq!(world.get(&world.client()).await.unwrap().status(), 200);
    }
    let bad = [
        format!("SSH-2.0-{CANARY}\r\n"),
        format!("<html>{CANARY}</html>\r\n\r\n"),
        "HTTP/1.1 2000 OK\r\n\r\n".into(),
        "HTTP/1.1 000 OK\r\n\r\n".into(),
        "HTTP/2.0 200 OK\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nA : {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nA: b\r\n {CANARY}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n".into(),
        many(101),
        long(33 << 10),
        long(1 << 20),
    ];
    for text in bad {
        let world = raw(&text);
        let result = world.get(&world.client()).await;
        let start = text.chars().take(60).collect::<String>();
        assert_eq!(
            result.map(|r| r.status()).map_err(|e| e.kind()),
            Err(ErrorKind::Malformed),
            "{start:?}"
        );
        world.fails(&world.client(), ErrorKind::Malformed).await;
    }
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let world = raw(
        "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    assert_eq!(world.get(&world.client()).await.unwrap().body(), b"ok");
}

#[tokio::test]
async fn any_status_except_a_redirects_is_for_the_backend_to_judge() {
    for status in [200, 204, 304, 400, 403, 404, 429, 500, 503, 599, 999] {
        let world = World::answering(Reply::status(status).with_header("Retry-After", "7"));
        let response = world.get(&world.client()).await.unwrap();
        assert_eq!(
            (response.status(), response.retry_after()),
            (status, Some(Duration::from_secs(7)))
        );
    }
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_malformed_and_its_connection_closed() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let world = World::answering(
        Reply::status(200)
            .with_header("Transfer-Encoding", "chunked")
            .with_body(chunked),
    );
    let client = world.client();
    for connections in 1..4 {
        world.fails(&client, ErrorKind::Malformed).await;
        assert_eq!(world.server.connections(), connections);
    }
}

#[tokio::test]
async fn a_body_in_a_coding_that_was_not_asked_for_is_malformed() {
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunke",
        "identity",
        "",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let world = raw(head + "2\r\n{}\r\n0\r\n\r\n");
        world.fails(&world.client(), ErrorKind::Malformed).await;
    }
    let twice = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let world = raw(twice);
    world.fails(&world.client(), ErrorKind::Malformed).await;
    let world = raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    assert_eq!(world.get(&world.client()).await.unwrap().body(), b"{}");
}

#[tokio::test]
async fn the_server_learns_which_client_asks_it() {
    let world = World::answering(Reply::status(200));
    world.get(&world.client()).await.unwrap();
    let requests = world.server.requests();
    let agent = requests[0].header("User-Agent").unwrap();
    assert!(agent.starts_with("secret-resolver/"), "{agent}");
}

#[tokio::test]
async fn an_endless_body_is_malformed_as_soon_as_it_is_over_the_limit() {
    let world = World::answering(Reply::Endless);
    world.fails(&world.client(), ErrorKind::Malformed).await;
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "run in its own process by the test after it"]
fn child_that_reads_an_endless_body_and_measures_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let before = peak_kib();
    runtime.block_on(async {
        let world = World::answering(Reply::Endless);
        let client = world.client();
        for _ in 0..10 {
            world.fails(&client, ErrorKind::Malformed).await;
        }
    });
    let grown = peak_kib() - before;
    // The limit, the buffer before the last growth, TLS on both sides, and this test's threads.
    assert!(grown < 16 << 10, "the peak rose by {grown} KiB");
}

#[test]
#[cfg(target_os = "linux")]
fn an_endless_body_takes_no_more_memory_than_its_limit() {
    crate::environment::run_child(
        "answers::child_that_reads_an_endless_body_and_measures_itself",
        &[],
    );
}

#[cfg(target_os = "linux")]
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
