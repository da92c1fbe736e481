//! A real store that is away for twenty seconds, in four ways, before services that authenticate in two
//! ways and have chosen each of the policies. Only an outage may be seen, every exception that was chosen
//! works, and the store is found again soon after its return.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use secret_resolver::BreakerState;
use secret_resolver::backend::SystemClock;
use secret_resolver::testing::MockBackend;
use secret_resolver::{Clock, Error, Moment, Resolver, Secret};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::{AppRole, OpenBao};

/// How long the store is away.
const AWAY: Duration = Duration::from_secs(20);
/// How long a value is fresh.
const FRESH: Duration = SECOND;
/// Within this time of the store's return every name is answered.
const BACK: Duration = Duration::from_secs(2);

const POLICIES: [Policy; 3] = [Policy::Closed, Policy::Stale, Policy::Fallback];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Closed,
    Stale,
    Fallback,
}

/// A service: how it authenticates, what it has chosen, and whether it has read `app/a` before.
struct Service {
    auth: &'static str,
    policy: Policy,
    resolver: Resolver,
    has_read: bool,
}

impl Service {
    fn new(server: &OpenBao, auth: &'static str, login: Auth, policy: Policy) -> Self {
        let backend = VaultBackend::builder(target(server, login))
            .build()
            .unwrap();
        let builder = Resolver::builder(backend).with_ttl(FRESH);
        let builder = match policy {
            Policy::Closed => builder,
            Policy::Stale => builder.serve_stale_up_to(600 * SECOND),
            Policy::Fallback => {
                let other = MockBackend::new().with_value("app/a", "of the fallback");
                builder.dangerous_fallback_to(other)
            }
        };
        Self {
            auth,
            policy,
            resolver: builder.build().unwrap(),
            has_read: false,
        }
    }

    /// What may be answered while the store is away.
    fn check(&self, name: &str, answer: &Result<Secret, Error>) {
        let text = answer.as_ref().map(|secret| secret.expose_str().unwrap());
        let right = match (text, self.policy, name) {
            (Ok("v"), Policy::Stale, "app/a") => self.has_read,
            (Ok("of the fallback"), Policy::Fallback, "app/a") => true,
            (Err(error), policy, name) => {
                let excepted = match policy {
                    Policy::Closed => false,
                    Policy::Stale => name == "app/a" && self.has_read,
                    Policy::Fallback => name == "app/a",
                };
                error.kind().permits().counts_for_breaker && !excepted
            }
            _ => false,
        };
        let version = answer.as_ref().map(Secret::version);
        assert!(right, "{} {:?} {name}: {version:?}", self.auth, self.policy);
    }

    /// How long it takes until a name that was never asked for is answered.
    async fn is_back(&self, clock: &SystemClock, since: Moment) -> Duration {
        let mut last = None;
        while clock.now().since(since) < 30 * SECOND {
            match self.resolver.get("app/new").await {
                Ok(secret) => {
                    assert_eq!(secret.expose_str().unwrap(), "n");
                    return clock.now().since(since);
                }
                Err(error) => {
                    assert!(error.kind().permits().counts_for_breaker, "{error}");
                    last = Some(error);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} {:?}: {last:?}", self.auth, self.policy);
    }
}

/// The server's secrets, and a role that may read them with tokens of this life.
fn furnished(server: &OpenBao, life: Duration) -> (AppRole, String) {
    server.put("app/a", &[("value", "v")]).unwrap();
    server.put("app/new", &[("value", "n")]).unwrap();
    let role = reader(server, life, HOUR);
    (role, server.token(&["reader"], HOUR).unwrap())
}

fn services(server: &OpenBao, (role, token): &(AppRole, String)) -> Vec<Service> {
    let both = |policy| {
        [
            Service::new(server, "approle", approle(role), policy),
            Service::new(server, "token", Auth::token(value(token)), policy),
        ]
    };
    POLICIES.into_iter().flat_map(both).collect()
}

async fn read_once(services: &mut [Service]) {
    for service in services {
        assert_eq!(text(service.resolver.get("app/a").await), "v");
        service.has_read = true;
    }
}

/// Asks for a name that was read and for ever new ones, until the outage is over.
async fn live_through_it(services: &[Service]) {
    // What was fresh when it began may be answered.
    tokio::time::sleep(FRESH + Duration::from_millis(300)).await;
    let clock = SystemClock::shared().unwrap();
    let (begun, mut round) = (clock.now(), 0);
    while clock.now().since(begun) < AWAY {
        round += 1;
        let new = format!("app/unknown/{round}");
        let mut gets = Vec::new();
        for (at, service) in services.iter().enumerate() {
            for name in ["app/a", &new] {
                let (resolver, name) = (service.resolver.clone(), name.to_owned());
                gets.push(tokio::spawn(async move {
                    let answer = resolver.get(&name).await;
                    (at, name, answer)
                }));
            }
        }
        for get in gets {
            let (at, name, answer) = get.await.unwrap();
            services[at].check(&name, &answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for service in services {
        let status = service.resolver.status();
        assert!(
            status
                .endpoints()
                .all(|endpoint| endpoint.breaker != BreakerState::Closed)
        );
    }
}

/// Asserts that the store is found again in time, and that nothing is left there at the end.
async fn all_come_back(services: Vec<Service>) {
    let clock = SystemClock::shared().unwrap();
    let back = clock.now();
    let services: Vec<_> = services.into_iter().map(Arc::new).collect();
    let waits = services.iter().map(|service| {
        let (service, clock) = (Arc::clone(service), clock.clone());
        tokio::spawn(async move { service.is_back(&clock, back).await })
    });
    for wait in waits.collect::<Vec<_>>() {
        let took = wait.await.unwrap();
        assert!(took <= BACK, "{took:?}");
    }
    for service in services {
        if service.policy == Policy::Closed {
            assert_eq!(text(service.resolver.get("app/a").await), "v");
        }
        let report = service.resolver.shutdown_within(5 * SECOND).await;
        let ours = usize::from(service.auth == "approle");
        assert_eq!((report.revoked, report.not_revoked), (ours, 0));
    }
}

#[test]
fn a_store_that_is_sealed_for_a_while_is_an_outage_and_nothing_else() {
    let server = OpenBao::start().unwrap();
    let logins = furnished(&server, 5 * SECOND);
    block_on(async {
        let mut services = services(&server, &logins);
        read_once(&mut services).await;
        server.seal().unwrap();
        live_through_it(&services).await;
        server.unseal().unwrap();
        server.run(&["read", "secret/config"]).unwrap();
        all_come_back(services).await;
    });
}

#[test]
fn a_store_that_is_stopped_for_a_while_is_an_outage_and_nothing_else() {
    let mut server = OpenBao::start_durable().unwrap();
    let logins = furnished(&server, 5 * SECOND);
    block_on(async {
        let mut services = services(&server, &logins);
        read_once(&mut services).await;
        server.stop();
        live_through_it(&services).await;
        server.start_again().unwrap();
        all_come_back(services).await;
    });
}

#[test]
fn a_store_that_starts_later_than_its_services_is_an_outage_and_nothing_else() {
    let mut server = OpenBao::start_durable().unwrap();
    let logins = furnished(&server, HOUR);
    server.stop();
    block_on(async {
        let services = services(&server, &logins);
        let waiting = Service::new(&server, "approle", approle(&logins.0), Policy::Closed);
        let required = tokio::spawn({
            let resolver = waiting.resolver.clone();
            async move { resolver.require_within(&["app/a"], 40 * SECOND).await }
        });
        live_through_it(&services).await;
        server.start_again().unwrap();
        all_come_back(services).await;
        required.await.unwrap().unwrap();
    });
}

#[test]
fn a_token_that_ends_in_a_quiet_hour_before_an_outage_is_an_outage_and_nothing_else() {
    let mut server = OpenBao::start_durable().unwrap();
    let logins = furnished(&server, 3 * SECOND);
    block_on(async {
        let mut services = services(&server, &logins);
        read_once(&mut services).await;
        // Nobody asks, so nothing is renewed.
        tokio::time::sleep(4 * SECOND).await;
        server.stop();
        live_through_it(&services).await;
        server.start_again().unwrap();
        all_come_back(services).await;
    });
}
