//! What is no Workload API, or one that breaks in the middle: nothing hangs, nothing is held in memory without a bound, and what was shown
//! before is shown on.

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, ErrorKind};
use test_servers::{Answer, Manner, WorkloadMethod, X509Message};

use crate::support::*;

/// The most that is taken of one message: four megabytes, and what windows and sockets hold.
const MOST: u64 = 6 << 20;

#[test]
fn own_half_a_message_and_what_is_none_end_the_stream_and_keep_the_svid() {
    let whole = X509Message::of(&[World::new().svid()]).encode();
    let half = || Answer::bytes(&[0, 0, 0, 1, 0]).raw(&whole[..100]);
    let broken = [
        half().end_without_status(),
        half().and_status(0, ""),
        half().reset(),
        half().hang_up(),
        Answer::bytes(&[0, 0, 0]).hang_up(),
        Answer::message(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        Answer::message(b"no protobuf"),
        // The compressed flag, and one that does not exist.
        Answer::bytes(&[1, 0, 0, 0, 1, b'x']),
        Answer::bytes(&[7, 0, 0, 0, 1, b'x']),
        Answer::bytes(&[0, 0xff, 0xff, 0xff, 0xff]),
    ];
    let worlds = broken.map(|answer| {
        let world = World::new();
        let (watched, before) = block_on(world.showing());
        world.api.push(answer);
        (world, watched, before)
    });
    block_on(async {
        for (number, (world, mut watched, before)) in worlds.into_iter().enumerate() {
            watched.until_failed().await;
            assert!(watched.shows(&before), "{number}");
            let next = world.svid();
            world.show(std::slice::from_ref(&next));
            watched.until_shown(&next).await;
        }
    });
}

#[test]
fn own_a_call_that_begins_broken_is_made_again() {
    let broken = [
        Answer::http(200),
        Answer::http(500),
        Answer::default().reset(),
        Answer::default().hang_up(),
        Answer::default().end_without_status(),
    ];
    let worlds = broken.map(|answer| {
        let world = World::new();
        world.api.answer_once(WorkloadMethod::X509Svid, answer);
        let good = world.svid();
        world.show(std::slice::from_ref(&good));
        let watched = Watched::new(world.identity());
        (world, watched, good)
    });
    block_on(async {
        for (world, mut watched, good) in worlds {
            watched.until_shown(&good).await;
            assert!(watched.failure().is_some());
            assert_eq!(world.api.calls(WorkloadMethod::X509Svid), 2);
        }
    });
}

#[test]
fn own_what_does_not_speak_grpc_is_reported_and_left_alone_for_a_while() {
    for manner in [
        Manner::Says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Manner::Says(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Manner::HangsUp,
    ] {
        let world = World::new();
        world.api.treat_connections(manner.clone());
        let clock = SystemClock::shared().unwrap();
        let begun = clock.now();
        block_on(async {
            let watched = Watched::new(world.identity());
            watched.until_reported(ErrorKind::Unavailable).await;
            let error = jwt(&watched.identity.jwts(AUDIENCE).unwrap())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        });
        // Two for each kind of SVID, because gRPC makes one more for the call, and two once a second at most.
        let seconds = clock.now().since(begun).as_secs();
        let connections = world.api.connections();
        assert!(
            connections as u64 <= 4 + 2 * seconds,
            "{manner:?}: {connections} in {seconds} s"
        );
    }
}

#[test]
fn own_of_a_message_without_an_end_little_is_taken() {
    let world = World::new();
    // A message of 100 MB, which says so, and one that only goes on.
    let part = vec![b'x'; 64 << 10];
    for head in [&[0, 5, 0xf5, 0xe1, 0][..], &[0, 0, 0x3f, 0xff, 0xff]] {
        let endless = Answer::bytes(head).endless_raw(&part);
        let sent = world.api.sent();
        world
            .api
            .answer_once(WorkloadMethod::JwtSvid, endless.clone());
        block_on(async {
            let (watched, before) = world.showing().await;
            world.api.push(endless);
            watched.until_failed().await;
            assert!(watched.shows(&before));
            let error = jwt(&watched.identity.jwts(AUDIENCE).unwrap())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        });
        let taken = world.api.sent() - sent;
        assert!(taken < 2 * MOST, "{taken}");
    }
}

#[test]
fn own_a_stream_of_messages_without_an_end_holds_nothing_up_and_no_memory() {
    let world = World::new();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let svid = world.svid();
        let message = X509Message::of(std::slice::from_ref(&svid)).encode();
        let before = resident();
        let sent = world.api.sent();
        world.api.push(Answer::default().endless(&message));
        watched.until_shown(&svid).await;
        until("ten megabytes", async || {
            world.api.sent() > sent + (10 << 20)
        })
        .await;
        assert!(watched.shows(&svid));
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown}");
        // Its end is seen as that of any other, and its thread ends with its sources.
        let Watched {
            identity,
            source,
            shown,
        } = watched;
        drop((identity, source));
        until("no connection", async || world.api.open_connections() == 0).await;
        until("its thread's end", async || shown.has_changed().is_err()).await;
    });
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn own_an_agent_that_says_nothing_is_reported_and_asked_again() {
    let world = World::new();
    world.api.treat_connections(Manner::Silent);
    let second = World::new();
    let head_alone = Answer::bytes(b"");
    second.api.answer(WorkloadMethod::X509Svid, head_alone);
    let third = World::new();
    third
        .api
        .answer(WorkloadMethod::X509Svid, Answer::silence());
    block_on(async {
        let all = [&world, &second, &third].map(|world| (world, Watched::new(world.identity())));
        for (world, mut watched) in all {
            let text = watched.until_reported(ErrorKind::Unavailable).await;
            assert!(text.contains("says nothing"), "{text}");
            world.api.treat_connections(Manner::Grpc);
            let svid = world.svid();
            world.show(std::slice::from_ref(&svid));
            watched.until_shown(&svid).await;
        }
    });
}
