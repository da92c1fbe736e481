//! No private key and no JWT shows in any text, and an agent cannot fill a log.

use secret_resolver::ErrorKind;
use serde_json::json;
use test_servers::{Answer, SvidFlaw, TestTrustDomain, WorkloadMethod, X509Message, jwt_message};

use crate::listener::Listener;
use crate::needles::Needles;
use crate::support::*;

#[test]
fn no_key_and_no_jwt_is_in_any_text_or_trace_and_an_agent_cannot_fill_a_log() {
    let listener = Listener::of_the_process();
    let (mut shown, mut needles) = (String::new(), Needles::default());
    // Of good ones, and of ones that are refused.
    give(&mut shown, &mut needles);
    let flood = a_flood();
    let passed_over = |line: &&str| line.contains("is passed over") && line.contains(&flood);
    // Lines are written aside.
    let written = async || listener.text().lines().any(|line| passed_over(&line));
    block_on(until("a line of the flood", written));
    let traced = listener.text();
    assert!(traced.contains("TRACE") && traced.contains("another X509-SVID"));
    // What is wrong with an SVID that cannot be shown, and of which identity it is.
    assert!(
        traced.contains("is not the one of the client certificate (spiffe://example.test/billing,")
    );
    let lines = traced.lines().filter(passed_over);
    let warnings: Vec<_> = lines.collect();
    assert!(warnings.len() <= 20, "{warnings:?}");
    assert!(warnings.iter().all(|line| line.starts_with("WARN ")));
    assert!(needles.jwts() >= 5 && needles.keys() >= 5);
    needles.assert_none_in("text", &shown);
    needles.assert_none_in("trace", &traced);
}

/// Private keys and JWTs of the agent, and what is shown of them.
fn give(shown: &mut String, needles: &mut Needles) {
    let world = World::new();
    let mut tokens = Vec::new();
    let mut show = |text: String| shown.push_str(&text);
    block_on(async {
        let (mut watched, first) = world.showing().await;
        needles.key(&first.key);
        for flaw in [SvidFlaw::OtherKey, SvidFlaw::Ended, SvidFlaw::TwoUris] {
            let bad = world.domain.flawed_svid(PATH, flaw).unwrap();
            world.show(std::slice::from_ref(&bad));
            needles.key(&bad.key);
        }
        let next = world.svid();
        world.show(std::slice::from_ref(&next));
        watched.until_shown(&next).await;
        needles.key(&next.key);
        show(format!("{:?} {:?}", watched.source, watched.shown.borrow()));
        world.show(&[world.domain.svid("/other").unwrap()]);
        let error = watched.until_none().await;
        show(format!("{error} {error:?} {:?}", watched.identity.status()));

        let good = world.domain.jwt(PATH, AUDIENCE, SECOND * 60).unwrap();
        let head = json!({"alg": "ES256"});
        for claims in [
            json!({"sub": world.id(), "aud": "other-audience", "exp": 4_000_000_000_u64}),
            json!({"sub": "spiffe://example.test/else", "aud": AUDIENCE, "exp": 4_000_000_000_u64}),
            json!({"sub": world.id(), "aud": AUDIENCE, "exp": 1}),
        ] {
            tokens.push(world.domain.jwts().sign_claims(&head, &claims).unwrap());
        }
        tokens.push(format!("{good}!"));
        tokens.push(good);
        for token in &tokens {
            needles.jwt(token.as_bytes());
            let message = jwt_message(&[(&world.id(), token)]);
            world
                .api
                .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
            let source = world.identity().jwts(AUDIENCE).unwrap();
            match jwt(&source).await {
                Ok(jwt) => show(format!("{jwt:?}")),
                Err(error) => show(format!("{error} {error:?}")),
            }
            show(format!("{source:?} {:?}", world.api));
        }
    });
}

/// Messages that are passed over, as fast as they come, for the identity that is returned.
fn a_flood() -> String {
    let world = World {
        domain: TestTrustDomain::new("flood.test").unwrap(),
        ..World::new()
    };
    let mut svid = world.svid();
    svid.key.clear();
    let message = X509Message::of(&[svid]).encode();
    let flood = Answer::default().endless(&message);
    world.api.answer(WorkloadMethod::X509Svid, flood);
    block_on(async {
        let watched = Watched::new(world.identity());
        until("a megabyte", async || world.api.sent() > 1 << 20).await;
        watched.until_reported(ErrorKind::Malformed).await;
    });
    world.id()
}
