//! EP and WA: the endpoint, and what its statuses mean.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use secret_resolver::Clock;
use secret_resolver::ErrorKind;
use secret_resolver::backend::SystemClock;
use secret_resolver_spiffe::SpiffeIdentity;
use test_servers::{Answer, WorkloadMethod};

use crate::support::*;

#[test]
fn ep_02_every_call_has_the_metadata() {
    let world = World::new();
    block_on(async {
        let (watched, _) = world.showing().await;
        // The server answers a call without it by `InvalidArgument`, which is another kind.
        let error = jwt(&watched.identity.jwts(AUDIENCE).unwrap()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unauthenticated);
    });
    assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 1);
}

#[test]
fn ep_04_an_address_is_no_path() {
    for wrong in [
        "unix://host/run/api.sock",
        "unix:///run/api.sock",
        "tcp://127.0.0.1:8081",
        "tcp://127.0.0.1:8081/path",
        "run/api.sock",
    ] {
        let error = SpiffeIdentity::builder("spiffe://example.test/billing", wrong).build();
        assert_eq!(
            error.unwrap_err().kind(),
            ErrorKind::Misconfigured,
            "{wrong}"
        );
    }
}

#[test]
fn ep_05_an_agent_that_is_unavailable_is_asked_again_with_a_back_off() {
    comes_back_after(UNAVAILABLE, ErrorKind::Unavailable);
}

#[test]
fn ep_06_an_agent_that_denies_is_asked_again_with_a_back_off() {
    comes_back_after(PERMISSION_DENIED, ErrorKind::Unauthenticated);
}

fn comes_back_after(status: u16, kind: ErrorKind) {
    let world = World::new();
    for _ in 0..2 {
        let no = Answer::status(status, "not now");
        world.api.answer_once(WorkloadMethod::X509Svid, no);
    }
    let svid = world.svid();
    world.show(std::slice::from_ref(&svid));
    block_on(async {
        let clock = SystemClock::shared().unwrap();
        let begun = clock.now();
        let mut watched = Watched::new(world.identity());
        watched.until_reported(kind).await;
        assert_eq!(watched.identity.status().name, world.id());
        watched.until_shown(&svid).await;
        // One second at least, and two.
        assert!(clock.now().since(begun) >= SECOND * 3);
    });
    assert_eq!(world.api.calls(WorkloadMethod::X509Svid), 3);
}

#[test]
fn ep_07_a_request_that_the_agent_does_not_take_is_reported_and_not_soon_sent_again() {
    for status in [INVALID_ARGUMENT, UNIMPLEMENTED] {
        let world = World::new();
        let no = Answer::status(status, "what is this?");
        world.api.answer(WorkloadMethod::X509Svid, no);
        block_on(async {
            let watched = Watched::new(world.identity());
            watched.until_reported(ErrorKind::Misconfigured).await;
            assert!(watched.shown.borrow().is_err());
            // The first wait of an outage would have ended by then.
            let again = || {
                world
                    .api
                    .wait_for_calls(WorkloadMethod::X509Svid, 2, SECOND * 3)
            };
            assert!(!again(), "{status}");
        });
    }
}

#[test]
fn ep_08_an_agent_that_is_not_there_yet_is_found_once_it_is() {
    let mut world = World::new();
    world.api.stop();
    let svid = world.svid();
    world.show(std::slice::from_ref(&svid));
    block_on(async {
        let mut watched = Watched::new(world.identity());
        let text = watched.until_reported(ErrorKind::Unavailable).await;
        assert!(text.contains("does the agent run"), "{text}");
        world.api.start_again().unwrap();
        watched.until_shown(&svid).await;
    });
}

#[test]
fn wa_01_after_the_end_of_a_stream_another_is_opened_and_the_last_svid_is_shown_meanwhile() {
    let world = World::new();
    block_on(async {
        let (mut watched, first) = world.showing().await;
        for end in [
            Answer::status(UNAVAILABLE, "going"),
            Answer::status(0, ""),
            Answer::default().end_without_status(),
            Answer::default().reset(),
            Answer::default().hang_up(),
        ] {
            let calls = world.api.calls(WorkloadMethod::X509Svid);
            world.api.push(end);
            let again = || world.api.calls(WorkloadMethod::X509Svid) > calls;
            until("another stream", async || {
                assert!(watched.shown.borrow().is_ok());
                again()
            })
            .await;
        }
        assert!(watched.shows(&first));
        let second = world.svid();
        world.show(std::slice::from_ref(&second));
        watched.until_shown(&second).await;
    });
}

#[test]
fn wa_01_an_agent_that_is_restarted_is_found_again() {
    let mut world = World::new();
    block_on(async {
        let (mut watched, first) = world.showing().await;
        world.api.stop();
        watched.until_reported(ErrorKind::Unavailable).await;
        assert!(watched.shows(&first));
        let second = world.svid();
        world.show(std::slice::from_ref(&second));
        world.api.start_again().unwrap();
        watched.until_shown(&second).await;
    });
}

#[test]
fn wa_04_a_denial_withdraws_the_svid_at_once_and_names_the_identity() {
    let world = World::new();
    block_on(async {
        let (mut watched, first) = world.showing().await;
        world.api.answer_once(
            WorkloadMethod::X509Svid,
            Answer::status(PERMISSION_DENIED, ""),
        );
        world
            .api
            .push(Answer::status(PERMISSION_DENIED, "words of the agent"));
        let error = watched.until_none().await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.is_held_back());
        let text = error.to_string();
        assert!(
            text.contains(&world.id()) && !text.contains("words"),
            "{text}"
        );
        assert_eq!(watched.identity.status().ends, None);
        // It is asked again, and what it gives then is shown: also the same SVID.
        watched.until_shown(&first).await;
    });
}

/// Only root can start a process of another user.
#[test]
fn own_a_process_of_another_user_at_the_agents_socket_is_not_asked() {
    const STRANGER: u32 = 65533;
    let folder = tempfile::tempdir().unwrap();
    let own = |path: &Path, uid| chown(path, Some(uid), None).unwrap();
    let us = folder.path().metadata().unwrap().uid();
    assert_eq!(us, 0, "run these tests as root");
    own(folder.path(), STRANGER);
    let socket = folder.path().join("api.sock");
    let listens = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint()\nsys.stdin.read()";
    let mut stranger = Command::new("python3")
        .args(["-u", "-c", listens])
        .arg(&socket)
        .uid(STRANGER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = stranger.stdout.as_mut().unwrap().read(&mut [0; 1]);
    assert_eq!(said.unwrap(), 1);
    // All that the file system says is in order now.
    own(&socket, us);
    own(folder.path(), us);
    let mut builder = SpiffeIdentity::builder("spiffe://example.test/billing", &socket);
    for above in folder.path().ancestors().skip(1) {
        builder = builder.with_sticky_folder(above);
    }
    let source = builder.build().unwrap().jwts(AUDIENCE).unwrap();
    let error = block_on(jwt(&source)).unwrap_err();
    assert!(error.is_held_back(), "{error}");
    // It ends with the end of what it reads.
    drop(stranger.stdin.take());
    assert!(stranger.wait().unwrap().success());
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("uid 65533"), "{error}");
}
