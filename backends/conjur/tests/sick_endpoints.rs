//! One endpoint of several is sick, in each way that tests have met, and another is well: no get fails, whatever it takes. Where all are
//! sick, the error is that of a store that gives no useful answer, and no exception follows.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{ConjurDouble, Fault, Kind, Where};
use secret_resolver::testing::{ManualClock, MockBackend};
use secret_resolver::{ErrorKind, Resolver, ResolverBuilder};
use secret_resolver_conjur::{ConjurBackend, ConjurTarget};

/// Answers that no store gives, or no healthy one, to any request.
fn sick() -> Vec<Fault> {
    let pages = [200, 400, 401, 403, 404, 413, 500, 502, 503];
    let mut all: Vec<_> = pages.map(|status| answer(status, PAGE)).into();
    let empty = [204, 302, 307, 405, 406, 408, 412, 418, 421, 429, 500, 503];
    all.extend(empty.map(|status| answer(status, "")));
    // As the store refuses, of a token that the other knows.
    all.push(no_token());
    all.push(answer(401, "Authorization missing"));
    all.push(Fault::Close);
    all.push(Fault::Truncate(0));
    all.push(Fault::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()));
    all
}

fn stack(servers: &[ConjurDouble], with_versions: bool) -> ResolverBuilder {
    let target = target_of(servers, by_key(&servers[0]));
    let builder = ConjurBackend::builder(target);
    let builder = match with_versions {
        true => builder.with_versions(),
        false => builder,
    };
    Resolver::builder(builder.build().unwrap())
}

/// The names of a Conjur with several endpoints.
fn furnished(number: usize) -> Vec<ConjurDouble> {
    let servers = endpoints(number);
    for number in 0..20 {
        store(&servers[0], &format!("one/{number}"), b"x");
        store(&servers[0], &format!("two/{number}"), b"x");
    }
    servers
}

/// Makes twenty gets, one by one or together, each of its own name. Returns what fails.
async fn failed(resolver: &Resolver, path: &str, together: bool) -> Vec<String> {
    let names: Vec<_> = (0..20).map(|number| format!("{path}/{number}")).collect();
    let mut answers = Vec::new();
    if together {
        answers = resolver.get_many(&names).await;
    } else {
        for name in &names {
            answers.push(resolver.get(name).await);
        }
    }
    let mut failed = Vec::new();
    for answer in answers {
        match answer {
            Ok(secret) => assert_eq!(bytes(Ok(secret)), b"x"),
            Err(error) => failed.push(error.to_string()),
        }
    }
    failed
}

#[test]
fn an_endpoint_that_gives_no_useful_answer_fails_no_get_of_conjur() {
    for fault in sick() {
        for sick_one in 0..2 {
            for with_versions in [false, true] {
                let servers = furnished(2);
                only(&servers[sick_one], Where::Anywhere, fault.clone());
                let resolver = stack(&servers, with_versions).build().unwrap();
                block_on(async {
                    let shown = format!("{fault:?} at {sick_one}, {with_versions}");
                    assert_eq!(failed(&resolver, "one", false).await, [""; 0], "{shown}");
                    assert_eq!(failed(&resolver, "two", true).await, [""; 0], "{shown}");
                });
            }
        }
    }
}

#[test]
fn an_endpoint_that_is_sick_at_one_kind_of_request_fails_no_get() {
    for kind in [
        Kind::Authenticate,
        Kind::Secret,
        Kind::Batch,
        Kind::Resource,
        Kind::Whoami,
    ] {
        for fault in [
            answer(200, PAGE),
            answer(503, ""),
            answer(404, PAGE),
            answer(429, ""),
        ] {
            let servers = furnished(2);
            only(&servers[0], kind, fault.clone());
            let resolver = stack(&servers, kind == Kind::Resource).build().unwrap();
            block_on(async {
                let shown = format!("{fault:?} at {kind:?}");
                assert_eq!(failed(&resolver, "one", false).await, [""; 0], "{shown}");
                // Its token ends by the server's clock.
                servers[0].advance(481 * SECOND);
                assert_eq!(failed(&resolver, "two", true).await, [""; 0], "{shown}");
            });
        }
    }
}

#[test]
fn one_endpoint_of_five_that_is_well_is_found_and_fails_no_get_of_conjur() {
    let mixed = || {
        [
            answer(503, ""),
            answer(404, PAGE),
            answer(429, ""),
            answer(307, ""),
        ]
    };
    for faults in [
        [(); 4].map(|()| answer(404, PAGE)),
        [(); 4].map(|()| answer(200, PAGE)),
        [(); 4].map(|()| answer(429, "")),
        [(); 4].map(|()| answer(405, "")),
        mixed(),
    ] {
        let servers = furnished(5);
        for (server, fault) in servers.iter().zip(&faults) {
            only(server, Where::Anywhere, fault.clone());
        }
        let resolver = stack(&servers, false).build().unwrap();
        block_on(async {
            assert_eq!(failed(&resolver, "one", false).await, [""; 0], "{faults:?}");
            servers[0].advance(481 * SECOND);
            assert_eq!(failed(&resolver, "two", true).await, [""; 0], "{faults:?}");
        });
    }
}

#[test]
fn an_endpoint_of_conjur_with_another_authoritys_certificate_gets_nothing_and_fails_no_get() {
    let (servers, rogue) = (furnished(1), ConjurDouble::start().unwrap());
    let target = ConjurTarget::new(
        rogue.origin(),
        trust(&servers[0]),
        "myorg",
        by_key(&servers[0]),
    );
    let target = target.with_endpoint(servers[0].origin());
    let backend = ConjurBackend::builder(target).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        assert_eq!(failed(&resolver, "one", false).await, [""; 0]);
        assert_eq!(failed(&resolver, "two", true).await, [""; 0]);
    });
    assert!(rogue.requests().is_empty());
}

#[test]
fn where_no_endpoint_of_conjur_gives_a_useful_answer_no_exception_follows() {
    for (first, second) in [
        (answer(404, PAGE), answer(200, PAGE)),
        // An outage of one is not an outage of the store while the other gives nonsense.
        (answer(200, PAGE), answer(503, "")),
        (answer(503, ""), answer(403, PAGE)),
    ] {
        let (servers, clock) = (endpoints(2), ManualClock::new());
        let fallback = MockBackend::new().with_value("a", "of the fallback");
        let target = target_of(&servers, by_key(&servers[0]));
        let resolver = Resolver::builder(on_clock(target, &clock))
            .with_clock(clock.clone())
            .with_ttl(SECOND)
            .serve_stale_up_to(600 * SECOND)
            .dangerous_fallback_to(fallback)
            .build()
            .unwrap();
        block_on(async {
            assert_eq!(bytes(resolver.get("v").await), b"x");
            clock.advance(SECOND);
            only(&servers[0], Where::Anywhere, first.clone());
            only(&servers[1], Where::Anywhere, second.clone());
            for name in ["a", "v"] {
                let error = resolver.get(name).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
            }
        });
    }
}

#[test]
fn an_endpoint_of_conjur_that_is_silent_costs_time_and_no_answer() {
    let servers = furnished(2);
    let resolver = stack(&servers, false).build().unwrap();
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
        only(&servers[0], Where::Anywhere, Fault::Hang);
        assert_eq!(failed(&resolver, "one", true).await, [""; 0]);
        assert_eq!(failed(&resolver, "two", false).await, [""; 0]);
    });
}

#[test]
fn a_sick_endpoint_is_passed_over_after_a_few_reads() {
    for (fault, most) in [
        (answer(503, ""), 12),
        (answer(404, PAGE), 30),
        (answer(307, ""), 30),
    ] {
        let servers = endpoints(2);
        for number in 0..100 {
            store(&servers[0], &format!("many/{number}"), b"x");
        }
        only(&servers[0], Where::Anywhere, fault.clone());
        let resolver = stack(&servers, false).build().unwrap();
        block_on(async {
            for number in 0..100 {
                assert_eq!(bytes(resolver.get(&format!("many/{number}")).await), b"x");
            }
        });
        let asked = servers[0]
            .requests()
            .iter()
            .filter(|it| it.endpoint == 0)
            .count();
        assert!((1..=most).contains(&asked), "{asked} for {fault:?}");
        assert_eq!(servers[1].count_here(Kind::Authenticate), 1);
    }
}
