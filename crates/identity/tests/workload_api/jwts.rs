//! JF, JV and ID: which JWT-SVIDs are taken.

use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind};
use secret_resolver_session::JwtSource;
use secret_resolver_spiffe::{SpiffeIdentity, SpiffeJwts};
use serde_json::{Value, json};
use test_servers::{Answer, WorkloadMethod, jwt_message};

use crate::support::*;

/// A JWT with these claims, and the head of one that SPIRE makes.
fn with_claims(world: &World, claims: &Value) -> String {
    let head = json!({"alg": "ES256", "kid": "first", "typ": "JWT"});
    world.domain.jwts().sign_claims(&head, claims).unwrap()
}

/// The claims of a good one.
fn claims(world: &World) -> Value {
    json!({"sub": world.id(), "aud": [AUDIENCE], "exp": 4_000_000_000_u64})
}

/// What went wrong. To a store it is never an outage, because no store was asked.
fn reported(source: &SpiffeJwts, error: &Error) -> ErrorKind {
    assert!(
        error.is_held_back() && error.kind() != ErrorKind::Unavailable,
        "{error}"
    );
    let status = source.status().unwrap();
    status.last_failure.unwrap().kind
}

/// What becomes of this token, on a source of its own.
fn taken(world: &World, token: &str) -> Result<(), ErrorKind> {
    answers(world, token);
    let source = world.identity().jwts(AUDIENCE).unwrap();
    let taken = block_on(jwt(&source));
    match taken {
        Ok(jwt) => {
            assert_eq!(jwt.secret().expose(), token.as_bytes());
            Ok(())
        }
        Err(error) => {
            assert!(!error.to_string().contains("canary"), "{error}");
            Err(reported(&source, &error))
        }
    }
}

/// As [`taken`], of one that has this for a claim.
fn taken_with(world: &World, claim: &str, value: &Value) -> Result<(), ErrorKind> {
    let mut claims = claims(world);
    claims[claim] = value.clone();
    taken(world, &with_claims(world, &claims))
}

fn taken_without(world: &World, claim: &str) -> Result<(), ErrorKind> {
    let mut claims = claims(world);
    claims.as_object_mut().unwrap().remove(claim);
    taken(world, &with_claims(world, &claims))
}

#[test]
fn jf_01_and_03_the_audience_and_the_identity_are_asked_for() {
    let world = World::new();
    let token = with_claims(&world, &claims(&world));
    assert_eq!(taken(&world, &token), Ok(()));
    let calls = world.api.all_calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].audiences, [AUDIENCE]);
    assert_eq!(calls[0].id, world.id());
}

#[test]
fn jf_04_a_denial_is_an_error_and_no_old_jwt_svid() {
    let world = World::new();
    let clock = ManualClock::new();
    let identity = world.builder(&world.id()).with_clock(clock.clone());
    let source = identity.build().unwrap().jwts(AUDIENCE).unwrap();
    let life = Duration::from_secs(3600);
    answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
    block_on(async {
        let first = jwt(&source).await.unwrap();
        // What says nothing about the identity leaves it as it is.
        clock.advance(life / 2);
        for answer in [
            Answer::status(UNAVAILABLE, "canary"),
            Answer::one(&jwt_message(&[(&world.id(), "canary")])),
            Answer::one(&jwt_message(&[])),
            Answer::status(UNIMPLEMENTED, "canary"),
            Answer::status(INVALID_ARGUMENT, "canary"),
        ] {
            world.api.answer(WorkloadMethod::JwtSvid, answer);
            let calls = world.api.calls(WorkloadMethod::JwtSvid);
            assert_eq!(jwt(&source).await.unwrap(), first);
            assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), calls + 1);
            clock.advance(SECOND * 24);
        }
        let denied = Answer::status(PERMISSION_DENIED, "canary");
        world.api.answer(WorkloadMethod::JwtSvid, denied);
        let error = jwt(&source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(!error.to_string().contains("canary"), "{error}");
        // Nor does it come back while the agent is away.
        let away = Answer::status(UNAVAILABLE, "");
        world.api.answer(WorkloadMethod::JwtSvid, away);
        clock.advance(SECOND);
        assert!(jwt(&source).await.is_err());
    });
}

#[test]
fn own_a_jwt_svid_that_the_store_refuses_is_replaced_before_half_of_its_life() {
    let world = World::new();
    let clock = ManualClock::new();
    let identity = world.builder(&world.id()).with_clock(clock.clone());
    let source = identity.build().unwrap().jwts(AUDIENCE).unwrap();
    let life = Duration::from_secs(3600);
    answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
    block_on(async {
        let first = jwt(&source).await.unwrap();
        answers(&world, &world.domain.jwt(PATH, AUDIENCE, life).unwrap());
        // However often it is refused, the agent is not asked more often than that.
        for _ in 0..23 {
            source.refused(&first);
            clock.advance(SECOND);
            assert_eq!(jwt(&source).await.unwrap(), first);
        }
        clock.advance(SECOND);
        let second = jwt(&source).await.unwrap();
        assert_ne!(second, first);
        // One that is not held any more changes nothing.
        source.refused(&first);
        clock.advance(life / 3);
        assert_eq!(jwt(&source).await.unwrap(), second);
        assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 2);
    });
}

#[test]
fn own_while_one_lives_nobody_waits_for_an_agent_that_stands_still() {
    let world = World::new();
    answers(
        &world,
        &world.domain.jwt(PATH, AUDIENCE, SECOND * 8).unwrap(),
    );
    let source = world.identity().jwts(AUDIENCE).unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        let first = jwt(&source).await.unwrap();
        tokio::time::sleep(SECOND * 9 / 2).await;
        world.api.answer(WorkloadMethod::JwtSvid, Answer::silence());
        let begun = clock.now();
        assert_eq!(jwt(&source).await.unwrap(), first);
        assert!(clock.now().since(begun) < SECOND);
        let calls = || world.api.calls(WorkloadMethod::JwtSvid);
        until("the question", async || calls() == 2).await;
    });
}

#[test]
fn own_a_runtime_that_stands_still_while_it_waits_for_the_agent_holds_up_no_other() {
    let world = World::new();
    world.api.answer(WorkloadMethod::JwtSvid, Answer::silence());
    let source = world.identity().jwts(AUDIENCE).unwrap();
    let parked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let waits = source.clone();
    parked.block_on(async {
        let begun = tokio::spawn(async move { waits.jwt().await });
        until("a question", async || {
            world.api.calls(WorkloadMethod::JwtSvid) == 1
        })
        .await;
        drop(begun);
    });
    answers(&world, &with_claims(&world, &claims(&world)));
    block_on(until("a JWT-SVID", async || jwt(&source).await.is_ok()));
}

#[test]
fn jv_07_to_09_the_audience_is_the_one_that_was_asked_for_alone() {
    let world = World::new();
    for (audience, wanted) in [
        (json!([AUDIENCE]), Ok(())),
        // JV-10.
        (json!(AUDIENCE), Ok(())),
        (json!(null), Err(ErrorKind::Malformed)),
        (json!(7), Err(ErrorKind::Malformed)),
        (json!([]), Err(ErrorKind::Refused)),
        (json!(["canary"]), Err(ErrorKind::Refused)),
        (json!("Bao"), Err(ErrorKind::Refused)),
        // The other store could use it at ours.
        (json!([AUDIENCE, "canary"]), Err(ErrorKind::Refused)),
        (json!([AUDIENCE, AUDIENCE]), Err(ErrorKind::Refused)),
    ] {
        assert_eq!(taken_with(&world, "aud", &audience), wanted, "{audience}");
    }
    assert_eq!(taken_without(&world, "aud"), Err(ErrorKind::Malformed));
}

#[test]
fn jv_11_and_12_a_jwt_svid_has_an_end_and_has_not_ended() {
    let world = World::new();
    for (end, wanted) in [
        // A number of RFC 7519 may have a fraction, and may be written with an exponent.
        (json!(4_000_000_000.5), Ok(())),
        (json!(4e9), Ok(())),
        // JV-12.
        (json!(1_000_000_000), Err(ErrorKind::Unavailable)),
        (json!(0), Err(ErrorKind::Unavailable)),
        (json!(-1), Err(ErrorKind::Unavailable)),
        (json!(-1e300), Err(ErrorKind::Unavailable)),
        // So late that no clock counts so far: the end of time.
        (json!(u64::MAX), Ok(())),
        (json!(1e300), Ok(())),
        (json!(null), Err(ErrorKind::Malformed)),
        (json!("4000000000"), Err(ErrorKind::Malformed)),
        (json!([4_000_000_000_u64]), Err(ErrorKind::Malformed)),
    ] {
        assert_eq!(taken_with(&world, "exp", &end), wanted, "{end}");
    }
    assert_eq!(taken_without(&world, "exp"), Err(ErrorKind::Malformed));
}

#[test]
fn jv_19_the_subject_is_the_configured_identity() {
    let world = World::new();
    for (subject, wanted) in [
        (
            json!("spiffe://example.test/canary"),
            ErrorKind::Unauthenticated,
        ),
        (json!("spiffe://example.test"), ErrorKind::Unauthenticated),
        (
            json!("spiffe://example.test/billing/"),
            ErrorKind::Unauthenticated,
        ),
        (
            json!("SPIFFE://example.test/billing"),
            ErrorKind::Unauthenticated,
        ),
        (json!("canary"), ErrorKind::Unauthenticated),
        (json!(""), ErrorKind::Unauthenticated),
        (json!(null), ErrorKind::Malformed),
        (
            json!(["spiffe://example.test/billing"]),
            ErrorKind::Malformed,
        ),
    ] {
        assert_eq!(
            taken_with(&world, "sub", &subject),
            Err(wanted),
            "{subject}"
        );
    }
    assert_eq!(taken_without(&world, "sub"), Err(ErrorKind::Malformed));
}

#[test]
fn jv_20_and_22_neither_typ_nor_kid_is_needed() {
    let world = World::new();
    for head in [
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "typ": "JOSE"}),
        json!({"alg": "ES256", "kid": "first"}),
    ] {
        let issuer = world.domain.jwts();
        let token = issuer.sign_claims(&head, &claims(&world)).unwrap();
        assert_eq!(taken(&world, &token), Ok(()), "{head}");
    }
}

#[test]
fn jv_24_and_25_what_is_no_compact_jwt_is_not_carried_on() {
    let world = World::new();
    let good = with_claims(&world, &claims(&world));
    let parts: Vec<_> = good.split('.').collect();
    let [head, payload, signature] = parts[..] else {
        panic!("three parts")
    };
    let json = json!({"payload": payload, "protected": head, "signature": signature});
    for bad in [
        "canary".to_owned(),
        "canary.canary.canary".to_owned(),
        format!("{head}.{payload}"),
        format!("{head}.{payload}."),
        format!(".{payload}.{signature}"),
        format!("{good}.canary"),
        format!("{good}\r\nX-Canary: canary"),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{good}\0"),
        format!("{good}="),
        format!("{head}.{payload}.+/+/"),
        format!("{head}.e30.{signature}"),
        format!("{head}.W10.{signature}"),
        json.to_string(),
    ] {
        assert_eq!(taken(&world, &bad), Err(ErrorKind::Malformed), "{bad:?}");
    }
}

#[test]
fn own_of_several_jwt_svids_the_first_is_judged_and_of_none_nothing() {
    let world = World::new();
    let good = with_claims(&world, &claims(&world));
    let mut other = claims(&world);
    other["sub"] = json!("spiffe://example.test/other");
    let other = with_claims(&world, &other);
    let id = world.id();
    for (svids, wanted) in [
        (&[(&*id, &*good), (&*id, &*other)][..], Ok(())),
        (
            &[(&*id, &*other), (&*id, &*good)],
            Err(ErrorKind::Unauthenticated),
        ),
        (&[], Err(ErrorKind::Malformed)),
        (&[(&*id, "")], Err(ErrorKind::Malformed)),
        (&[("", &*good)], Err(ErrorKind::Malformed)),
    ] {
        let answer = Answer::one(&jwt_message(svids));
        world.api.answer(WorkloadMethod::JwtSvid, answer);
        let source = world.identity().jwts(AUDIENCE).unwrap();
        let taken = block_on(jwt(&source))
            .map(drop)
            .map_err(|error| reported(&source, &error));
        assert_eq!(taken, wanted);
    }
}

#[test]
fn own_an_answer_that_breaks_is_an_outage_and_an_agent_that_says_nothing_too() {
    let world = World::new();
    let message = jwt_message(&[(&world.id(), &with_claims(&world, &claims(&world)))]);
    for answer in [
        Answer::status(UNAVAILABLE, "canary"),
        Answer::message(&message).end_without_status(),
        Answer::bytes(&[0, 0, 0, 1, 0])
            .raw(&message[..100])
            .and_status(0, ""),
        Answer::message(&message).hang_up(),
        Answer::message(b"canary").and_status(0, ""),
        Answer::bytes(&[1, 0, 0, 0, 1, b'x']).and_status(0, ""),
        Answer::default().hang_up(),
        Answer::http(503),
        Answer::silence(),
    ] {
        world.api.answer(WorkloadMethod::JwtSvid, answer.clone());
        let source = world.identity().jwts(AUDIENCE).unwrap();
        let clock = SystemClock::shared().unwrap();
        let begun = clock.now();
        let error = block_on(jwt(&source)).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Unauthenticated,
            "{answer:?}: {error}"
        );
        assert!(!error.to_string().contains("canary"), "{error}");
        // It is no evidence against the store, which nobody asked.
        assert!(error.is_held_back(), "{error}");
        assert!(clock.now().since(begun) < SECOND * 6, "{answer:?}");
    }
}

#[test]
fn id_01_and_02_a_spiffe_id_is_checked_when_it_is_configured() {
    let long = format!("spiffe://td/{}", "a".repeat(2048 - 12));
    for good in [
        "spiffe://example.test/a.b-c_D",
        "spiffe://t_d9/a",
        "spiffe://10.0.0.1/a",
        &long,
    ] {
        assert!(
            SpiffeIdentity::builder(good, "/run/api.sock")
                .build()
                .is_ok(),
            "{good}"
        );
    }
    for bad in [
        "spiffe:///a",
        "spiffe://td:8080/a",
        "spiffe://u@td/a",
        "spiffe://td/a?x=1",
        "spiffe://td/a#f",
        "spiffe://td/%41",
        "spiffe://td/a//b",
        "spiffe://td/a/./b",
        "spiffe://td/a/../b",
        "spiffe://td/a/",
        "spiffe://td/a!b",
        "spiffe://t$d/a",
        "spiffe://td",
        "https://td/a",
        "",
    ] {
        let error = SpiffeIdentity::builder(bad, "/run/api.sock")
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{bad}");
    }
}
