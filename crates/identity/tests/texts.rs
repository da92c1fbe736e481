//! No private key and no JWT shows in any text: not in `Debug` or `Display`, not in what is traced at TRACE by this crate or any below it;
//! and an agent cannot fill a log. A test program of its own, because it listens to the whole process.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "workload_api/support.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod support;

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secret_resolver::ErrorKind;
use serde_json::json;
use support::*;
use test_servers::{Answer, SvidFlaw, WorkloadMethod, X509Message, jwt_message};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps all that is traced, spans and events of every level and crate.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<String>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(span.metadata(), |visit| span.record(visit));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.note(event.metadata(), |visit| event.record(visit));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Listener {
    fn note(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Text<'_>)) {
        let mut text = self.0.lock().unwrap();
        write!(text, "\n{} {}", metadata.level(), metadata.target()).unwrap();
        record(&mut Text(&mut text));
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

#[test]
fn no_key_and_no_jwt_is_in_any_text_or_trace_and_an_agent_cannot_fill_a_log() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    let mut texts = Vec::new();
    // Of good ones, and of ones that are refused.
    let (keys, tokens) = what_was_given(&mut texts);
    a_flood();
    let traced = listener.0.lock().unwrap().clone();
    assert!(traced.contains("TRACE") && traced.contains("another X509-SVID"));
    // What is wrong with an SVID that cannot be shown, and of which identity it is.
    assert!(
        traced.contains("is not the one of the client certificate (spiffe://example.test/billing)")
    );
    let warnings = traced.matches("is passed over").count();
    assert!((1..=20).contains(&warnings), "{warnings}");
    texts.push(traced);
    for text in texts {
        for key in &keys {
            // The key itself stands in the middle of PKCS #8.
            let part = &key[36..68];
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let middle = &BASE64_STANDARD.encode(key)[50..90];
            let digits = format!("{:?}", &part[..16]);
            let digits = digits.trim_matches(['[', ']']);
            let escaped = format!("{}", part[..16].escape_ascii());
            for form in [&*hex, middle, digits, &*escaped] {
                assert!(!text.contains(form), "a key");
            }
        }
        for token in &tokens {
            for part in token.split('.').skip(1) {
                assert!(!text.contains(part), "a JWT");
                let digits = format!("{:?}", &part.as_bytes()[..16]);
                assert!(!text.contains(digits.trim_matches(['[', ']'])), "a JWT");
            }
        }
    }
}

/// What the agent has given: private keys, and JWTs.
fn what_was_given(texts: &mut Vec<String>) -> (Vec<Vec<u8>>, Vec<String>) {
    let world = World::new();
    let (mut keys, mut tokens) = (Vec::new(), Vec::new());
    block_on(async {
        let (mut watched, first) = world.showing().await;
        keys.push(first.key);
        for flaw in [SvidFlaw::OtherKey, SvidFlaw::Ended, SvidFlaw::TwoUris] {
            let bad = world.domain.flawed_svid(PATH, flaw).unwrap();
            world.show(std::slice::from_ref(&bad));
            keys.push(bad.key);
        }
        let next = world.svid();
        world.show(std::slice::from_ref(&next));
        watched.until_shown(&next).await;
        keys.push(next.key);
        texts.push(format!("{:?} {:?}", watched.source, watched.shown.borrow()));
        world.show(&[world.domain.svid("/other").unwrap()]);
        let error = watched.until_none().await;
        texts.push(format!("{error} {error:?} {:?}", watched.identity.status()));

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
            let message = jwt_message(&[(&world.id(), token)]);
            world
                .api
                .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
            let source = world.identity().jwts(AUDIENCE).unwrap();
            match jwt(&source).await {
                Ok(jwt) => texts.push(format!("{jwt:?}")),
                Err(error) => texts.push(format!("{error} {error:?}")),
            }
            texts.push(format!("{source:?} {:?}", world.api));
        }
    });
    (keys, tokens)
}

/// Messages that are passed over, as fast as they come.
fn a_flood() {
    let world = World::new();
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
}
