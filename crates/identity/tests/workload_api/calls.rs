//! How often the agent is asked.

use secret_resolver::ErrorKind;
use secret_resolver::testing::ManualClock;
use secret_resolver_spiffe::SpiffeJwts;
use test_servers::{Answer, WorkloadMethod, jwt_message};

use crate::support::*;

const CALLERS: usize = 50;

/// A source on a clock that a test moves, and an agent that gives it another JWT-SVID of an hour at each call.
fn steered(world: &World) -> (SpiffeJwts, ManualClock) {
    let clock = ManualClock::new();
    let builder = world.builder(&world.id()).with_clock(clock.clone());
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 3600).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    world
        .api
        .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
    (builder.build().unwrap().jwts(AUDIENCE).unwrap(), clock)
}

/// What all of them get at the same time.
async fn all_at_once(source: &SpiffeJwts) -> Vec<Option<ErrorKind>> {
    let callers = (0..CALLERS).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { jwt(&source).await.err().map(|error| error.kind()) })
    });
    let mut got = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        got.push(caller.await.unwrap());
    }
    got
}

#[test]
fn own_the_agent_is_asked_once_in_half_a_life_however_many_ask() {
    let world = World::new();
    let (source, clock) = steered(&world);
    block_on(async {
        for half_lives in 1..=20 {
            for _ in 0..3 {
                assert_eq!(all_at_once(&source).await, [None; CALLERS]);
                assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), half_lives);
                // Less than a half in all.
                clock.advance(SECOND * 590);
            }
            clock.advance(SECOND * 31);
        }
    });
}

#[test]
fn own_an_agent_that_fails_is_asked_once_a_second_however_many_ask() {
    let world = World::new();
    let (source, clock) = steered(&world);
    block_on(async {
        for (status, kind, pause) in [
            (UNAVAILABLE, ErrorKind::Unauthenticated, SECOND),
            (PERMISSION_DENIED, ErrorKind::Unauthenticated, SECOND),
            (INVALID_ARGUMENT, ErrorKind::Misconfigured, SECOND * 24),
        ] {
            world
                .api
                .answer(WorkloadMethod::JwtSvid, Answer::status(status, ""));
            for _ in 0..3 {
                let calls = world.api.calls(WorkloadMethod::JwtSvid);
                for _ in 0..2 {
                    assert_eq!(all_at_once(&source).await, [Some(kind); CALLERS]);
                    assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), calls + 1);
                    clock.advance(pause / 2);
                }
            }
        }
    });
}

#[test]
fn own_while_the_agent_is_away_the_last_jwt_svid_serves_all_and_the_agent_is_asked_once_a_second() {
    let world = World::new();
    let (source, clock) = steered(&world);
    block_on(async {
        let first = jwt(&source).await.unwrap();
        world
            .api
            .answer(WorkloadMethod::JwtSvid, Answer::status(UNAVAILABLE, ""));
        clock.advance(SECOND * 1900);
        for question in 1..=3 {
            assert_eq!(all_at_once(&source).await, [None; CALLERS]);
            assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 1 + question);
            assert_eq!(jwt(&source).await.unwrap(), first);
            clock.advance(SECOND);
        }
        clock.advance(SECOND * 1700);
        let away = [Some(ErrorKind::Unauthenticated); CALLERS];
        assert_eq!(all_at_once(&source).await, away);
        assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 5);
    });
}

#[test]
fn own_an_agent_that_says_nothing_keeps_all_callers_as_long_as_one() {
    let world = World::new();
    let (source, _) = steered(&world);
    world.api.answer(WorkloadMethod::JwtSvid, Answer::silence());
    // Four seconds; one after the other would be three minutes.
    let away = [Some(ErrorKind::Unauthenticated); CALLERS];
    assert_eq!(block_on(all_at_once(&source)), away);
    assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 1);
}

#[test]
fn own_no_connection_is_left_behind() {
    let world = World::new();
    let (source, clock) = steered(&world);
    block_on(async {
        for _ in 0..5 {
            drop(jwt(&source).await.unwrap());
            clock.advance(SECOND * 3000);
        }
        let (watched, _) = world.showing().await;
        let more = watched.identity.certificates().unwrap();
        let all = world.api.connections();
        assert_eq!(all, 6);
        drop((watched, more));
        until("no connection", async || world.api.open_connections() == 0).await;
    });
}

#[test]
fn own_a_stream_that_ends_again_and_again_is_opened_once_a_second() {
    let world = World::new();
    let svid = world.svid();
    let message = test_servers::X509Message::of(&[svid]).encode();
    let ends = Answer::message(&message).and_status(UNAVAILABLE, "");
    world.api.answer(WorkloadMethod::X509Svid, ends);
    let _watched = Watched::new(world.identity());
    // Never sooner than a second after the one before.
    assert!(
        !world
            .api
            .wait_for_calls(WorkloadMethod::X509Svid, 4, SECOND * 29 / 10)
    );
    assert!(world.api.calls(WorkloadMethod::X509Svid) >= 2);
}
