//! Two endpoints of one store: which of them a read goes to, and what becomes of the answer of one
//! that is behind. A scripted server plays each, because one store would answer the same at both.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, Resolver, SecretResolver, Version};
use secret_resolver_vault::{VaultBackend, VaultTarget};
use test_servers::Reply;

/// The endpoints, in the order of the config, and the clock of all that asks them.
struct Pair {
    first: Fake,
    second: Fake,
    clock: ManualClock,
}

impl Pair {
    fn start() -> (Self, VaultBackend) {
        Self::start_with(|target| target)
    }

    fn start_with(change: impl Fn(VaultTarget) -> VaultTarget) -> (Self, VaultBackend) {
        let pair = Self {
            first: Fake::start(),
            second: Fake::start(),
            clock: ManualClock::strict(),
        };
        let target = target_of(&[&pair.first, &pair.second], role());
        let backend = on_clock(change(target), &pair.clock);
        (pair, backend)
    }

    /// The assembled stack, in which a value lives for a second at most.
    fn stack(&self, backend: VaultBackend) -> Resolver {
        Resolver::builder(backend)
            .with_clock(self.clock.clone())
            .with_ttl(SECOND)
            .build()
            .unwrap()
    }

    /// How often each endpoint was asked for the secret.
    fn reads(&self) -> [usize; 2] {
        [&self.first, &self.second].map(|fake| fake.asked("/data/a"))
    }
}

/// Lets an endpoint hold this as the secret.
fn holds(fake: &Fake, version: u64, value: &str) {
    let body = format!(
        r#"{{"data":{{"data":{{"value":"{value}"}},"metadata":{{"version":{version}}}}}}}"#
    );
    answers(fake, Reply::json(200, &body));
}

/// Lets an endpoint answer this to each read of the secret, and to logins as before.
fn answers(fake: &Fake, reply: Reply) {
    fake.state().instead = Some(("/data/a", reply));
}

/// A read of the secret, directed or not.
async fn read(backend: &VaultBackend, endpoint: Option<usize>) -> Result<String, ErrorKind> {
    let request = Request::new(NameRef::parse("a").unwrap());
    let directed = endpoint.map(|endpoint| request.at_endpoint(endpoint));
    let answer = backend.resolve(directed.unwrap_or(request)).await;
    let record = answer.map_err(|error| error.kind())?;
    Ok(text(record.into_secret()))
}

#[test]
fn a_directed_read_goes_to_its_endpoint_and_to_no_other() {
    let (pair, backend) = Pair::start();
    holds(&pair.first, 1, "of the first");
    holds(&pair.second, 1, "of the second");
    block_on(async {
        assert_eq!(backend.endpoints(), 2);
        let mut reads = [0, 0];
        // Both orders, and each endpoint twice in a row: it does not matter which one the last read asked.
        for endpoint in [1, 0, 0, 1, 1, 0] {
            let expected = ["of the first", "of the second"][endpoint];
            assert_eq!(
                read(&backend, Some(endpoint)).await.as_deref(),
                Ok(expected)
            );
            reads[endpoint] += 1;
            assert_eq!(pair.reads(), reads);
        }
    });
}

#[test]
fn a_directed_read_that_fails_is_not_tried_at_another_endpoint() {
    let (pair, backend) = Pair::start();
    holds(&pair.first, 1, "of the first");
    block_on(async {
        for outage in [
            Reply::status(503),
            Reply::status(412),
            Reply::status(429),
            Reply::CloseAtOnce,
        ] {
            answers(&pair.second, outage.clone());
            let refused = read(&backend, Some(1)).await.unwrap_err();
            assert!(
                matches!(refused, ErrorKind::Unavailable | ErrorKind::Throttled),
                "{refused} for {outage:?}"
            );
        }
        // A connection that was closed without an answer may have been tried once more.
        assert!(pair.reads()[1] >= 4);
        assert_eq!(pair.reads()[0], 0);
    });
}

#[test]
fn a_directed_read_that_meets_a_redirect_is_that_endpoints_error() {
    let (pair, backend) = Pair::start();
    holds(&pair.first, 1, "of the first");
    block_on(async {
        // A standby that cannot answer, and a page that wants a login.
        for (asked, (status, kind)) in [
            (307, ErrorKind::Unavailable),
            (302, ErrorKind::Refused),
            (308, ErrorKind::Refused),
        ]
        .into_iter()
        .enumerate()
        {
            let location = format!("{}/v1/secret/data/a", pair.first.server.origin());
            let redirect = Reply::status(status).with_header("Location", &location);
            answers(&pair.second, redirect);
            let request = Request::new(NameRef::parse("a").unwrap()).at_endpoint(1);
            let error = backend.resolve(request).await.unwrap_err();
            assert_eq!((error.kind(), error.status()), (kind, Some(status)));
            assert_eq!(pair.reads(), [0, asked + 1]);
        }
        // A read without a direction is answered by the other.
        for _ in 0..2 {
            assert_eq!(read(&backend, None).await.as_deref(), Ok("of the first"));
        }
    });
}

#[test]
fn an_endpoint_that_redirects_is_passed_over_after_a_few_reads() {
    for (sick, status, most) in [(0, 307, 10), (1, 307, 0), (0, 302, 25)] {
        let (pair, backend) = Pair::start();
        let [redirects, answers] = match sick {
            0 => [&pair.first, &pair.second],
            _ => [&pair.second, &pair.first],
        };
        redirects.state().instead = Some(("", Reply::status(status)));
        let stack = pair.stack(backend);
        block_on(async {
            for number in 0..100 {
                assert_eq!(text(stack.get(&format!("name/{number}")).await), "v");
            }
        });
        let (asked, connections) = (
            redirects.server.requests().len(),
            redirects.server.connections(),
        );
        assert!(
            asked <= most && connections <= most,
            "{asked} {connections}"
        );
        assert!(asked > 0 || sick == 1);
        assert_eq!(answers.asked("/login"), 1);
    }
}

#[test]
fn an_undirected_read_stays_with_the_endpoint_that_answers_it() {
    let (pair, backend) = Pair::start();
    holds(&pair.first, 1, "of the first");
    holds(&pair.second, 1, "of the second");
    block_on(async {
        for _ in 0..3 {
            assert_eq!(read(&backend, None).await.as_deref(), Ok("of the first"));
        }
        answers(&pair.first, Reply::status(503));
        assert_eq!(read(&backend, None).await, Err(ErrorKind::Unavailable));
        for _ in 0..3 {
            assert_eq!(read(&backend, None).await.as_deref(), Ok("of the second"));
            // What a directed read meets elsewhere is not a reason to leave the one that answers.
            assert_eq!(read(&backend, Some(0)).await, Err(ErrorKind::Unavailable));
        }
        // The return of the first is not one either.
        holds(&pair.first, 1, "of the first");
        assert_eq!(read(&backend, None).await.as_deref(), Ok("of the second"));
        answers(&pair.second, Reply::status(503));
        assert_eq!(read(&backend, None).await, Err(ErrorKind::Unavailable));
        assert_eq!(read(&backend, None).await.as_deref(), Ok("of the first"));
    });
}

#[test]
fn a_direction_to_an_endpoint_that_is_not_there_is_answered_by_one_that_is() {
    let (pair, backend) = Pair::start();
    block_on(async {
        for (past, nowhere) in [2, 3, 1000, usize::MAX - 1, usize::MAX]
            .into_iter()
            .enumerate()
        {
            assert_eq!(read(&backend, Some(nowhere)).await.as_deref(), Ok("v"));
            assert_eq!(pair.reads().iter().sum::<usize>(), past + 1, "{nowhere}");
        }
    });
}

#[test]
fn reads_go_to_the_first_endpoint_or_are_spread_over_all() {
    let spread: fn(VaultTarget) -> VaultTarget = VaultTarget::spread;
    for (change, reads) in [((|target| target) as fn(_) -> _, [6, 0]), (spread, [3, 3])] {
        let (pair, backend) = Pair::start_with(change);
        let stack = pair.stack(backend);
        holds(&pair.first, 1, "v");
        holds(&pair.second, 1, "v");
        block_on(async {
            for _ in 0..6 {
                assert_eq!(text(stack.get("a").await), "v");
                pair.clock.advance(SECOND);
            }
            assert_eq!(pair.reads(), reads);
        });
    }
}

#[test]
fn a_lower_version_at_one_endpoint_is_healed_by_the_other() {
    let (pair, backend) = Pair::start();
    let stack = pair.stack(backend);
    holds(&pair.first, 2, "new");
    holds(&pair.second, 2, "new");
    block_on(async {
        assert_eq!(text(stack.get("a").await), "new");
        holds(&pair.first, 1, "old");
        // Even after ten seconds, when a lower version counts as a new life, the first is not let through,
        // because each answer of the second says that there is none.
        for round in 1..6 {
            pair.clock.advance(5 * SECOND);
            let healed = stack.get("a").await.unwrap();
            assert_eq!(
                (healed.expose_str().unwrap(), healed.version()),
                ("new", &Version::number(2))
            );
            assert_eq!(pair.reads(), [1 + round, round]);
        }
    });
}

#[test]
fn a_lower_version_at_every_endpoint_is_refused_after_each_was_asked_once() {
    let (pair, backend) = Pair::start();
    let stack = pair.stack(backend);
    holds(&pair.first, 5, "seen");
    holds(&pair.second, 5, "seen");
    block_on(async {
        assert_eq!(text(stack.get("a").await), "seen");
        let [first, second] = pair.reads();
        holds(&pair.first, 3, "behind");
        holds(&pair.second, 4, "behind");
        pair.clock.advance(SECOND);
        let refused = stack.get("a").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert_eq!(pair.reads(), [first + 1, second + 1]);
        // It is not remembered: once either endpoint has caught up, it is answered.
        holds(&pair.second, 6, "caught up");
        assert_eq!(text(stack.get("a").await), "caught up");
    });
}

#[test]
fn a_directed_read_that_is_behind_does_not_leave_the_endpoint_that_is_not() {
    let (pair, backend) = Pair::start();
    holds(&pair.first, 5, "new");
    holds(&pair.second, 1, "behind");
    let floor = Version::number(5);
    block_on(async {
        let request = Request::new(NameRef::parse("a").unwrap()).at_least(&floor);
        assert!(backend.resolve(request).await.is_ok());
        let behind = backend.resolve(request.at_endpoint(1)).await;
        assert_eq!(behind.unwrap_err().kind(), ErrorKind::Refused);
        assert!(backend.resolve(request).await.is_ok());
    });
}

#[test]
fn a_login_begins_at_the_endpoint_of_the_read_that_needs_it() {
    let (pair, backend) = Pair::start();
    holds(&pair.second, 1, "of the second");
    // So that a login there would be an outage of the wrong endpoint.
    pair.first.state().instead = Some(("/login", Reply::status(503)));
    block_on(async {
        let answer = read(&backend, Some(1)).await;
        assert_eq!(answer.as_deref(), Ok("of the second"));
        let logins = [&pair.first, &pair.second].map(|fake| fake.asked("/login"));
        assert_eq!(logins, [0, 1]);
    });
}
