//! A leader and followers that are behind it. With versions a value never goes back; without them nobody can tell, and what is promised
//! then is less.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{ConjurDouble, Fault, Gate, Kind};
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, Resolver, SecretResolver, SecretResolverExt, Version};
use secret_resolver_conjur::{ConjurBackend, ConjurBuilder};

/// A leader, two followers, and the clock of all that asks them.
struct Trio {
    servers: Vec<ConjurDouble>,
    clock: ManualClock,
}

impl Trio {
    fn start() -> Self {
        Self {
            servers: endpoints(3),
            clock: ManualClock::new(),
        }
    }

    fn leader(&self) -> &ConjurDouble {
        &self.servers[0]
    }

    /// From now on both followers are behind.
    fn lag(&self) {
        self.servers[1..].iter().for_each(|it| it.set_lagging(true));
    }

    fn builder(&self) -> ConjurBuilder {
        let target = target_of(&self.servers, by_key(self.leader()));
        ConjurBackend::builder(target).with_clock(self.clock.clone())
    }

    /// The assembled stack, in which a value lives for a second at most.
    fn stack(&self, builder: ConjurBuilder) -> Resolver {
        Resolver::builder(builder.build().unwrap())
            .with_clock(self.clock.clone())
            .with_ttl(SECOND)
            .build()
            .unwrap()
    }

    /// How many values each endpoint was asked for.
    fn reads(&self) -> Vec<usize> {
        let reads = |it: &ConjurDouble| it.count_here(Kind::Secret);
        self.servers.iter().map(reads).collect()
    }
}

#[test]
fn with_versions_a_follower_that_is_behind_is_not_believed_when_the_leader_is_away() {
    let trio = Trio::start();
    let resolver = trio.stack(trio.builder().with_versions());
    block_on(async {
        trio.lag();
        trio.leader().set("v", "new");
        assert_eq!(bytes(resolver.get("v").await), b"new");
        trio.leader().stop();
        trio.clock.advance(SECOND);
        // Each is asked, and each is behind.
        let error = resolver.get("v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(trio.reads()[1] >= 1 && trio.reads()[2] >= 1);
        // One that has caught up is enough, whichever it is.
        trio.servers[2].set_lagging(false);
        let secret = resolver.get("v").await.unwrap();
        assert_eq!(secret.version(), &Version::number(2));
        assert_eq!(bytes(Ok(secret)), b"new");
    });
}

#[test]
fn with_versions_no_value_goes_back_whichever_endpoints_lag_or_are_away() {
    for seed in 1..=8_u64 {
        let trio = Trio::start();
        let resolver = trio.stack(trio.builder().with_versions());
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        block_on(async {
            let (mut seen, mut written) = (1, 1);
            for step in 0..60 {
                for server in &trio.servers {
                    server.clear_faults();
                    match next(4) {
                        0 => server.set_lagging(true),
                        1 => server.set_lagging(false),
                        2 => server.fault_always("/", answer(503, "")),
                        _ => server.fault_always("/secrets", answer(500, "")),
                    }
                }
                if next(2) == 0 {
                    written = trio.leader().set("v", format!("value {written}"));
                }
                if next(3) == 0 {
                    resolver.invalidator().invalidate("v").unwrap();
                }
                match resolver.get("v").await {
                    Ok(secret) => {
                        let version = secret.version().as_number().unwrap();
                        assert!(version >= seen, "{version} after {seen}, step {step}");
                        assert!(version <= written);
                    }
                    Err(error) => {
                        let kind = error.kind();
                        let expected = kind == ErrorKind::Refused || kind == ErrorKind::Unavailable;
                        assert!(expected, "{error}, seed {seed}, step {step}");
                    }
                }
                // All are well again, so none stays behind for so long that it counts as a new life.
                trio.clock.advance(SECOND);
                for server in &trio.servers {
                    server.clear_faults();
                    server.set_lagging(false);
                }
                let secret = resolver.get("v").await.unwrap();
                seen = secret.version().as_number().unwrap();
                assert_eq!(seen, written, "seed {seed}, step {step}");
                trio.clock.advance(SECOND);
            }
        });
    }
}

#[test]
fn with_versions_a_variable_that_was_created_again_is_taken_after_ten_seconds() {
    let trio = Trio::start();
    let resolver = trio.stack(trio.builder().with_versions());
    trio.leader().set("v", "second");
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"second");
        // Conjur counts from 1 again.
        trio.leader().delete("v");
        store(trio.leader(), "v", b"again");
        let mut refused = 0;
        for _ in 0..15 {
            trio.clock.advance(SECOND);
            match resolver.get("v").await {
                Ok(secret) => {
                    assert_eq!(bytes(Ok(secret)), b"again");
                    assert!((10..=12).contains(&refused), "{refused}");
                    return;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                    refused += 1;
                }
            }
        }
        panic!("it was never taken");
    });
}

#[test]
fn with_versions_nothing_below_the_version_that_a_signal_names_is_answered() {
    let trio = Trio::start();
    let resolver = trio.stack(trio.builder().with_versions());
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
        trio.lag();
        let version = trio.leader().set("v", "new");
        trio.leader().stop();
        let lowest = Version::number(version);
        let invalidator = resolver.invalidator();
        invalidator.invalidate_below_version("v", &lowest).unwrap();
        // Once, because back-offs pass by themselves, and after ten seconds it would be a new life.
        let error = resolver.get("v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        // One that has caught up is enough.
        trio.servers[2].set_lagging(false);
        let secret = resolver.get("v").await.unwrap();
        assert_eq!(secret.version(), &lowest);
        assert_eq!(bytes(Ok(secret)), b"new");
    });
}

#[test]
fn after_a_signal_a_value_that_may_be_old_is_asked_for_again_until_it_is_another() {
    for with_versions in [true, false] {
        let trio = Trio::start();
        let builder = match with_versions {
            true => trio.builder().with_versions(),
            false => trio.builder(),
        };
        let resolver = Resolver::builder(builder.build().unwrap())
            .with_clock(trio.clock.clone())
            .with_ttl(600 * SECOND)
            .build()
            .unwrap();
        block_on(async {
            // The leader is away, and the first follower learns of the change half a second after the signal.
            trio.leader().stop();
            assert_eq!(bytes(resolver.get("v").await), b"x");
            trio.lag();
            trio.leader().set("v", "new");
            resolver.invalidator().invalidate("v").unwrap();
            assert_eq!(bytes(resolver.get("v").await), b"x");
            trio.clock.advance(SECOND / 2);
            trio.servers[1].set_lagging(false);
            assert_eq!(bytes(resolver.get("v").await), b"new");
            // From here on it has settled.
            let reads = trio.reads();
            trio.clock.advance(10 * SECOND);
            assert_eq!(bytes(resolver.get("v").await), b"new");
            assert_eq!(trio.reads(), reads, "{with_versions}");
        });
    }
}

#[test]
fn after_the_settle_time_a_follower_that_is_still_behind_is_believed() {
    let trio = Trio::start();
    let resolver = Resolver::builder(trio.builder().with_versions().build().unwrap())
        .with_clock(trio.clock.clone())
        .with_ttl(600 * SECOND)
        .with_settle_time(4 * SECOND)
        .build()
        .unwrap();
    block_on(async {
        trio.leader().stop();
        assert_eq!(bytes(resolver.get("v").await), b"x");
        trio.lag();
        trio.leader().set("v", "new");
        resolver.invalidator().invalidate("v").unwrap();
        // What was held is trusted for no longer than the signal is past, until the time is over.
        let mut asked = Vec::new();
        for _ in 0..20 {
            assert_eq!(bytes(resolver.get("v").await), b"x");
            asked.push(trio.reads()[1]);
            trio.clock.advance(SECOND / 2);
        }
        assert!(asked[8] > asked[4] && asked[4] > asked[2], "{asked:?}");
        assert!(
            asked[10..].iter().all(|reads| *reads == asked[10]),
            "{asked:?}"
        );
    });
}

#[test]
fn without_versions_followers_are_asked_only_while_the_leader_gives_no_answer() {
    let trio = Trio::start();
    let resolver = trio.stack(trio.builder());
    block_on(async {
        trio.lag();
        trio.leader().set("v", "new");
        for _ in 0..5 {
            assert_eq!(bytes(resolver.get("v").await), b"new");
            trio.clock.advance(SECOND);
        }
        assert_eq!(trio.reads()[1..], [0, 0]);
        // A mark has no order: what the follower has is taken for what the store has now.
        trio.leader().stop();
        let late = resolver.get("v").await.unwrap();
        assert_eq!(late.version().as_number(), None);
        assert_eq!(bytes(Ok(late)), b"x");
        trio.leader().start_again().unwrap();
        for _ in 0..80 {
            trio.clock.advance(SECOND / 4);
            if bytes(resolver.get("v").await) == b"new" {
                return;
            }
        }
        panic!("the leader is not found again");
    });
}

#[test]
fn without_versions_an_unchanged_answer_of_a_follower_is_about_the_value_that_is_held() {
    let trio = Trio::start();
    // What has expired is held on for a while, so its mark is sent along.
    let resolver = Resolver::builder(trio.builder().build().unwrap())
        .with_clock(trio.clock.clone())
        .with_ttl(SECOND)
        .serve_stale_up_to(60 * SECOND)
        .build()
        .unwrap();
    block_on(async {
        trio.lag();
        trio.leader().set("v", "new");
        assert_eq!(bytes(resolver.get("v").await), b"new");
        // The mark that is held is the new value's, so a follower that is behind does not say "unchanged".
        trio.leader().stop();
        trio.clock.advance(SECOND);
        assert_eq!(bytes(resolver.get("v").await), b"x");
        trio.clock.advance(SECOND);
        assert_eq!(bytes(resolver.get("v").await), b"x");
    });
    let statuses: Vec<_> = trio
        .leader()
        .requests()
        .iter()
        .filter(|logged| logged.endpoint > 0 && logged.kind == Kind::Secret)
        .map(|logged| logged.status)
        .collect();
    assert_eq!(statuses, [Some(200), Some(304)]);
}

#[test]
fn a_version_and_its_value_are_read_at_one_endpoint() {
    let trio = Trio::start();
    let backend = trio.builder().with_versions().build().unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        trio.lag();
        trio.leader().set("v", "new");
        let gate: Gate = hold(trio.leader(), Kind::Resource);
        let slow = spawn_get(&backend, "v");
        until("its number was asked for", || {
            trio.leader().count(Kind::Resource) == 2
        })
        .await;
        // Meanwhile another read finds the leader sick, and the next would go elsewhere.
        trio.leader().fault_next(Kind::Resource, answer(503, ""));
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unavailable);
        gate.open();
        let secret = slow.await.unwrap().unwrap();
        assert_eq!(secret.version(), &Version::number(2));
        assert_eq!(bytes(Ok(secret)), b"new");
    });
    assert_eq!(trio.reads(), [2, 0, 0]);
}

#[test]
fn an_endpoint_that_does_not_take_a_request_is_passed_over() {
    // As a follower that takes no logins, and an Edge that has no metadata.
    let refused = || answer(405, "Write operations are not allowed");
    for kind in [Kind::Authenticate, Kind::Resource, Kind::Secret] {
        let trio = Trio::start();
        for server in &trio.servers[..2] {
            server.fault_always(kind, refused());
        }
        let resolver = trio.stack(trio.builder().with_versions());
        block_on(async {
            assert_eq!(bytes(resolver.get("v").await), b"x", "{kind:?}");
            // Also without the breakers of a resolver the next attempt goes to the next endpoint.
            let backend = trio.builder().with_versions().build().unwrap();
            for _ in 0..2 {
                assert_eq!(refusal(&backend, "v").await, ErrorKind::Unavailable);
            }
            assert_eq!(bytes(backend.get("v").await), b"x", "{kind:?}");
        });
    }
}

#[test]
fn a_follower_that_is_asked_to_write_says_what_the_tables_say_of_a_405() {
    let trio = Trio::start();
    let resolver = trio.stack(trio.builder());
    block_on(async {
        for server in &trio.servers {
            server.fault_always(Kind::Secret, Fault::Answer(conjur_double::Answer::new(405)));
        }
        let error = resolver.get("v").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Unavailable, Some(405))
        );
        assert!(error.to_string().contains("follower"), "{error}");
    });
}

#[test]
fn each_endpoint_is_one_of_the_backend() {
    let trio = Trio::start();
    let backend = trio.builder().build().unwrap();
    assert_eq!(backend.endpoints(), 3);
    let origins: Vec<_> = trio.servers.iter().map(ConjurDouble::origin).collect();
    assert_eq!(backend.origins(), origins);
}
