//! When a read asks for the leader's answer, and with what. That a real cluster's standbys forward it is shown
//! by `cluster`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Resolver, SecretResolverExt};
use secret_resolver_vault::VaultTarget;
use test_servers::Reply;

/// An answer to a read that carries this index.
fn answers(fake: &Fake, version: u64, index: &str) {
    let body =
        format!(r#"{{"data":{{"data":{{"value":"v"}},"metadata":{{"version":{version}}}}}}}"#);
    let reply = Reply::json(200, &body).with_header("X-Vault-Index", index);
    fake.state().instead = Some(("/data/a", reply));
}

/// As OpenBao 2.7.2 writes it.
fn index_of(cluster: &str) -> String {
    BASE64_STANDARD.encode(format!(r#"{{"cluster":"{cluster}","value":"153"}}"#))
}

/// What the last read asked for, if it asked for the leader.
fn asked(fake: &Fake) -> Option<String> {
    let requests = fake.server.requests();
    let read = requests
        .iter()
        .rev()
        .find(|one| one.target.ends_with("/data/a"))
        .unwrap();
    let index = read.header("X-Vault-Index");
    let otherwise = read.header("X-Vault-Inconsistent");
    assert_eq!(index.is_some(), otherwise == Some("forward-active-node"));
    assert_eq!(index.is_none(), otherwise.is_none());
    Some(String::from_utf8(BASE64_STANDARD.decode(index?).unwrap()).unwrap())
}

fn stack(
    fake: &Fake,
    clock: &ManualClock,
    change: impl Fn(VaultTarget) -> VaultTarget,
) -> Resolver {
    let backend = on_clock(change(fake.target(role())), clock);
    Resolver::builder(backend)
        .with_clock(clock.clone())
        .with_ttl(SECOND)
        .build()
        .unwrap()
}

const NO_NODE: &str = r#"{"cluster":"c-1","value":"9223372036854775807"}"#;

#[test]
fn after_a_signal_a_secret_is_read_at_the_leader_until_it_has_settled() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let stack = stack(&fake, &clock, |target| target);
    let read = async |version| {
        answers(&fake, version, &index_of("c-1"));
        assert_eq!(text(stack.get("a").await), "v");
        asked(&fake)
    };
    block_on(async {
        assert_eq!(read(1).await, None);
        clock.advance(SECOND);
        assert_eq!(read(1).await, None);
        stack.invalidator().invalidate("a").unwrap();
        // The first answer may be the old one, so it is not the last that is asked of the leader.
        assert_eq!(read(1).await.as_deref(), Some(NO_NODE));
        clock.advance(SECOND);
        assert_eq!(read(2).await.as_deref(), Some(NO_NODE));
        clock.advance(SECOND);
        assert_eq!(read(2).await, None);
        // However long after the signal it is asked for, within a minute.
        for (signal, wait, wanted) in [("a", 59, true), ("a", 60, false), ("", 59, true)] {
            match signal {
                "" => stack.invalidator().invalidate_all(),
                name => stack.invalidator().invalidate_prefix(name),
            }
            .unwrap();
            clock.advance(wait * SECOND);
            assert_eq!(read(3).await.is_some(), wanted, "{signal} {wait}");
            clock.advance(120 * SECOND);
        }
    });
}

#[test]
fn every_read_is_the_leaders_where_that_was_chosen() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let stack = stack(&fake, &clock, VaultTarget::read_at_leader);
    block_on(async {
        answers(&fake, 1, &index_of("c-1"));
        // Of which cluster is not known yet: a login of a real one says it.
        assert_eq!(text(stack.get("a").await), "v");
        for (cluster, expected) in [("c-1", NO_NODE), ("c-2", NO_NODE)] {
            answers(&fake, 1, &index_of(cluster));
            clock.advance(SECOND);
            assert_eq!(text(stack.get("a").await), "v");
            assert_eq!(asked(&fake).as_deref(), Some(expected));
        }
        // It is another cluster now.
        clock.advance(SECOND);
        assert_eq!(text(stack.get("a").await), "v");
        assert_eq!(asked(&fake), Some(NO_NODE.replace("c-1", "c-2")));
    });
}

#[test]
fn an_index_of_another_form_is_not_sent_back_and_breaks_nothing() {
    let huge = index_of(&"c".repeat(2_000));
    for index in [
        "",
        "%%%",
        "djE6Y2x1c3Rlcjo0MjpobWFj",
        "e30=",
        "bnVsbA==",
        "W10=",
        huge.as_str(),
    ] {
        let (fake, clock) = (Fake::start(), ManualClock::strict());
        let backend = on_clock(fake.target(role()).read_at_leader(), &clock);
        answers(&fake, 1, index);
        block_on(async {
            for _ in 0..2 {
                assert_eq!(text(backend.get("a").await), "v");
                assert_eq!(asked(&fake), None, "{index}");
            }
        });
    }
    // A name is quoted, whatever is in it.
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = on_clock(fake.target(role()).read_at_leader(), &clock);
    answers(&fake, 1, &index_of(r#"\"\u0007é"#));
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(text(backend.get("a").await), "v");
    });
    let sent: serde_json::Value = serde_json::from_str(&asked(&fake).unwrap()).unwrap();
    assert_eq!(sent["cluster"], "\"\u{7}é");
}
