//! One endpoint of a store is sick, in each way that tests have met, and the other is well: no get fails.
//! Where all are sick, the error is that of a store that gives no useful answer, and no exception follows.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::testing::MockBackend;
use secret_resolver::{ErrorKind, Resolver, ResolverBuilder};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::{Reply, TestCa};

const PAGE: &str = "<html><body>It works!</body></html>";

/// Answers that no store gives, or no healthy store.
fn sick() -> Vec<Reply> {
    let pages =
        [200, 400, 401, 403, 404, 413, 500, 502, 503].map(|status| Reply::json(status, PAGE));
    let mut all = Vec::from(pages);
    all.extend([302, 307, 408, 412, 421, 429, 503].map(Reply::status));
    all.push(Reply::CloseAtOnce);
    all
}

fn stack(endpoints: [&Fake; 2], trust: &[&TestCa]) -> ResolverBuilder {
    let pem: String = trust.iter().map(|ca| ca.pem()).collect();
    let trust = Trust::from_pem(pem.as_bytes()).unwrap();
    let [first, second] = endpoints.map(|fake| Origin::parse(&fake.server.origin()).unwrap());
    let auth = Auth::approle(value("role"), value("secret"));
    let target = VaultTarget::new(first, trust, auth).with_endpoint(second);
    Resolver::builder(VaultBackend::builder(target).build().unwrap())
}

/// Makes this many gets, each of its own name. Returns how many fail.
async fn failed(resolver: &Resolver, name: &str, gets: usize) -> Vec<String> {
    let mut failed = Vec::new();
    for number in 0..gets {
        if let Err(error) = resolver.get(&format!("{name}/{number}")).await {
            failed.push(error.to_string());
        }
    }
    failed
}

#[test]
fn an_endpoint_that_gives_no_useful_answer_fails_no_get() {
    for answer in sick() {
        for sick_one in 0..2 {
            let fakes = [Fake::start(), Fake::start()];
            fakes[sick_one].state().instead = Some(("", answer.clone()));
            let cas = [&fakes[0].ca, &fakes[1].ca];
            let resolver = stack([&fakes[0], &fakes[1]], &cas).build().unwrap();
            let failed = block_on(failed(&resolver, "name", 40));
            assert_eq!(failed, [""; 0], "{answer:?} at {sick_one}");
        }
    }
}

#[test]
fn an_endpoint_with_another_authoritys_certificate_fails_no_get() {
    let fakes = [Fake::start(), Fake::start()];
    let resolver = stack([&fakes[0], &fakes[1]], &[&fakes[1].ca])
        .build()
        .unwrap();
    assert_eq!(block_on(failed(&resolver, "name", 40)), [""; 0]);
    assert_eq!(fakes[0].server.requests().len(), 0);
}

#[test]
fn one_endpoint_of_five_that_is_well_is_found_and_fails_no_get() {
    let [page, quota] = [Reply::json(404, PAGE), Reply::status(429)];
    let mixed = [
        Reply::status(503),
        page.clone(),
        quota.clone(),
        Reply::status(307),
    ];
    for answers in [
        [0; 4].map(|_| page.clone()),
        [0; 4].map(|_| Reply::json(200, PAGE)),
        [0; 4].map(|_| quota.clone()),
        [0; 4].map(|_| Reply::status(302)),
        mixed,
    ] {
        for auth in [role, given] {
            let (fakes, backend) = cluster(5, auth());
            for (fake, answer) in fakes.iter().zip(&answers) {
                fake.state().instead = Some(("", answer.clone()));
            }
            let resolver = Resolver::builder(backend).build().unwrap();
            block_on(async {
                assert_eq!(failed(&resolver, "cold", 20).await, [""; 0], "{answers:?}");
                // A login that the store takes, and its token's end.
                fakes[4].state().dead.push("token-1".into());
                assert_eq!(failed(&resolver, "later", 20).await, [""; 0], "{answers:?}");
            });
        }
    }
}

#[test]
fn one_endpoint_of_five_that_is_trusted_is_found_and_fails_no_get() {
    for auth in [role, given] {
        let fakes: Vec<_> = (0..5).map(|_| Fake::start()).collect();
        let origin = |fake: &Fake| Origin::parse(&fake.server.origin()).unwrap();
        let first = VaultTarget::new(origin(&fakes[0]), fakes[4].trust(), auth());
        let target = fakes[1..].iter().map(origin);
        let target = target.fold(first, VaultTarget::with_endpoint);
        let backend = VaultBackend::builder(target).build().unwrap();
        let resolver = Resolver::builder(backend).build().unwrap();
        block_on(async {
            assert_eq!(failed(&resolver, "cold", 20).await, [""; 0]);
            fakes[4].state().dead.push("token-1".into());
            assert_eq!(failed(&resolver, "later", 20).await, [""; 0]);
        });
    }
}

#[test]
fn where_no_endpoint_gives_a_useful_answer_no_exception_follows() {
    for (first, second, kind) in [
        (
            Reply::json(404, PAGE),
            Reply::json(200, PAGE),
            ErrorKind::Malformed,
        ),
        // An outage of one is not an outage of the store while the other gives nonsense.
        (
            Reply::json(200, PAGE),
            Reply::status(503),
            ErrorKind::Malformed,
        ),
        (
            Reply::status(503),
            Reply::json(403, PAGE),
            ErrorKind::Malformed,
        ),
    ] {
        let fakes = [Fake::start(), Fake::start()];
        let cas = [&fakes[0].ca, &fakes[1].ca];
        let fallback = MockBackend::new().with_value("a", "of the fallback");
        let builder = stack([&fakes[0], &fakes[1]], &cas)
            .with_ttl(Duration::from_secs(1))
            .serve_stale_up_to(Duration::from_secs(600))
            .dangerous_fallback_to(fallback);
        let resolver = builder.build().unwrap();
        block_on(async {
            assert_eq!(text(resolver.get("b").await), "v");
            tokio::time::sleep(Duration::from_millis(1100)).await;
            fakes[0].state().instead = Some(("", first.clone()));
            fakes[1].state().instead = Some(("", second.clone()));
            for name in ["a", "b"] {
                let answer = resolver.get(name).await;
                let shown = format!("{name} {first:?} {second:?}: {answer:?}");
                assert_eq!(
                    answer.err().map(|error| error.kind()),
                    Some(kind),
                    "{shown}"
                );
            }
        });
    }
}

#[test]
fn an_endpoint_that_is_silent_costs_time_and_no_answer() {
    let fakes = [Fake::start(), Fake::start()];
    let cas = [&fakes[0].ca, &fakes[1].ca];
    let resolver = stack([&fakes[0], &fakes[1]], &cas).build().unwrap();
    block_on(async {
        assert_eq!(text(resolver.get("a").await), "v");
        fakes[0].state().instead = Some(("", Reply::Silent));
        let gets: Vec<_> = (0..40)
            .map(|number| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.get(&format!("name/{number}")).await })
            })
            .collect();
        for get in gets {
            assert_eq!(text(get.await.unwrap()), "v");
        }
    });
}
