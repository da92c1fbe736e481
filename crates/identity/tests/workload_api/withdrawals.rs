//! JWT-SVIDs of an identity that the agent takes away, or denies for one audience.

use std::sync::Mutex;
use std::time::Duration;

use secret_resolver::ErrorKind;
use secret_resolver::testing::ManualClock;
use secret_resolver_session::JwtSource as _;
use test_servers::{Answer, WorkloadMethod, jwt_message};

use crate::support::*;

#[test]
fn own_an_identity_that_is_withdrawn_on_the_stream_takes_its_jwt_svids_along() {
    let world = World::new();
    let life = Duration::from_secs(3600);
    answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let source = watched.identity.jwts(AUDIENCE).unwrap();
        let first = jwt(&source).await.unwrap();
        let denial = || Answer::status(PERMISSION_DENIED, "");
        world.api.answer(WorkloadMethod::JwtSvid, denial());
        world.api.push(denial());
        drop(watched.until_none().await);
        assert_eq!(source.status().unwrap().ends, None);
        assert!(jwt(&source).await.is_err());
        // Once there is one again, another is asked for.
        answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
        until("another", async || {
            jwt(&source).await.is_ok_and(|jwt| jwt != first)
        })
        .await;
    });
}

#[test]
fn own_a_jwt_svid_that_was_asked_for_before_a_withdrawal_and_comes_after_it_is_not_used() {
    let world = World::new();
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 3600).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    let (gives, given) = std::sync::mpsc::channel();
    let given = Mutex::new(given);
    world.api.answer_by(WorkloadMethod::JwtSvid, move |_| {
        let _ = given.lock().unwrap().recv_timeout(SECOND * 3);
        Answer::one(&message)
    });
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let source = watched.identity.jwts(AUDIENCE).unwrap();
        let asks = tokio::spawn({
            let source = source.clone();
            async move { source.jwt().await }
        });
        until("a question", async || {
            world.api.calls(WorkloadMethod::JwtSvid) == 1
        })
        .await;
        world.api.push(Answer::status(PERMISSION_DENIED, ""));
        drop(watched.until_none().await);
        gives.send(()).unwrap();
        let error = asks.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.to_string().contains(&world.id()), "{error}");
        assert_eq!(source.status().unwrap().ends, None);
    });
}

#[test]
fn own_an_audience_that_is_denied_again_and_again_costs_another_one_nothing() {
    let world = World::new();
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 3600).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    world.api.answer_by(WorkloadMethod::JwtSvid, move |call| {
        match call.audiences[0] == AUDIENCE {
            true => Answer::one(&message),
            false => Answer::status(PERMISSION_DENIED, ""),
        }
    });
    let identity = world.identity();
    let (good, denied) = (
        identity.jwts(AUDIENCE).unwrap(),
        identity.jwts("denied").unwrap(),
    );
    block_on(async {
        for _ in 0..35 {
            assert!(jwt(&denied).await.is_err());
            jwt(&good).await.unwrap();
            tokio::time::sleep(SECOND / 10).await;
        }
    });
    let calls = world.api.all_calls();
    let of = |audience: &str| {
        let calls = calls.iter().filter(|call| call.audiences == [audience]);
        calls.count()
    };
    assert!(of("denied") >= 3);
    assert_eq!(of(AUDIENCE), 1);
}

#[test]
fn own_a_denial_for_one_audience_is_news_to_another_from_time_to_time() {
    let world = World::new();
    let clock = ManualClock::strict();
    let identity = world.builder(&world.id()).with_clock(clock.clone());
    let identity = identity.build().unwrap();
    let (good, denied) = (
        identity.jwts(AUDIENCE).unwrap(),
        identity.jwts("denied").unwrap(),
    );
    let life = Duration::from_secs(3600);
    let denial = || {
        let denial = Answer::status(PERMISSION_DENIED, "");
        world.api.answer(WorkloadMethod::JwtSvid, denial);
    };
    block_on(async {
        denial();
        assert!(jwt(&denied).await.is_err());
        answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
        jwt(&good).await.unwrap();
        // The entry is deleted.
        denial();
        clock.advance(SECOND * 25);
        assert!(jwt(&denied).await.is_err());
        assert!(jwt(&good).await.is_err());
    });
}
