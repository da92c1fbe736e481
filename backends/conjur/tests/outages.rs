//! A Conjur that is away for some seconds, in each way that it can be, before services that log in in each way and have chosen each of the
//! policies. Only an outage may be seen, every exception that was chosen works, and the store is found again soon after its return.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use conjur_double::{ConjurDouble, Host, JwtService, Kind, Where};
use secret_resolver::backend::SystemClock;
use secret_resolver::testing::MockBackend;
use secret_resolver::{BreakerState, Clock, Error, Moment, Resolver, Secret};
use secret_resolver_conjur::{Auth, ConjurBackend, JwtFile};

/// How long the store is away: longer than its tokens live.
const AWAY: Duration = Duration::from_secs(6);
const LIFE: Duration = Duration::from_secs(4);
/// Within this time of the store's return every name is answered.
const BACK: Duration = Duration::from_secs(2);

const WORKLOAD: &str = "workloads/spiffe://example.org/payments";
const SUBJECT: &str = "spiffe://example.org/payments";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Closed,
    Stale,
    Fallback,
}

/// A service: how it logs in, what it has chosen, and whether it has read `app/a` before.
struct Service {
    login: &'static str,
    policy: Policy,
    resolver: Resolver,
    has_read: bool,
}

/// A server, and the files of what logs in there.
struct Site {
    server: ConjurDouble,
    folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let server = server(&[("app/a", b"v"), ("app/new", b"n")]);
        server.add_authn_jwt("svc", &JwtService::default());
        server.add_host_with(&Host::new(WORKLOAD).annotation("authn-jwt/svc/sub", SUBJECT));
        let workload = format!("host:{WORKLOAD}");
        server.allow_login(&workload, "authn-jwt/svc");
        for id in ["app/a", "app/new"] {
            server.allow_read(&workload, id);
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jwt"), server.jwt(SUBJECT).mint()).unwrap();
        // The sidecar's is not the shortest, because it has no store to get another from.
        std::fs::write(folder.path().join("token"), server.token(READER)).unwrap();
        server.set_token_life(LIFE);
        Self { server, folder }
    }

    fn services(&self) -> Vec<Service> {
        let file = |name| self.folder.path().join(name);
        let mut all = Vec::new();
        for policy in [Policy::Closed, Policy::Stale, Policy::Fallback] {
            for (login, auth) in [
                ("authn", by_key(&self.server)),
                ("authn-jwt", Auth::jwt("svc", JwtFile::new(file("jwt")))),
                ("token file", Auth::token_file(file("token"))),
            ] {
                let backend = ConjurBackend::builder(target(&self.server, auth)).build();
                all.push(Service::new(login, backend.unwrap(), policy));
            }
        }
        all
    }
}

impl Service {
    fn new(login: &'static str, backend: ConjurBackend, policy: Policy) -> Self {
        let builder = Resolver::builder(backend).with_ttl(SECOND);
        let builder = match policy {
            Policy::Closed => builder,
            Policy::Stale => builder.serve_stale_up_to(600 * SECOND),
            Policy::Fallback => {
                let other = MockBackend::new().with_value("app/a", "of the fallback");
                builder.dangerous_fallback_to(other)
            }
        };
        Self {
            login,
            policy,
            resolver: builder.build().unwrap(),
            has_read: false,
        }
    }

    /// What may be answered while the store is away.
    fn check(&self, name: &str, answer: &Result<Secret, Error>) {
        let text = answer.as_ref().map(|secret| secret.expose_str().unwrap());
        let right = match (&text, self.policy, name) {
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
        let shown = text.err();
        assert!(right, "{} {:?} {name}: {shown:?}", self.login, self.policy);
    }

    /// How long it takes until a name that was never asked for is answered.
    async fn is_back(&self, clock: &SystemClock, since: Moment) -> Duration {
        let mut last = None;
        while clock.now().since(since) < 30 * SECOND {
            match self.resolver.get("app/new").await {
                Ok(secret) => {
                    assert_eq!(bytes(Ok(secret)), b"n");
                    return clock.now().since(since);
                }
                Err(error) => {
                    assert!(error.kind().permits().counts_for_breaker, "{error}");
                    last = Some(error);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} {:?}: {last:?}", self.login, self.policy);
    }
}

async fn read_once(services: &mut [Service]) {
    for service in services {
        assert_eq!(bytes(service.resolver.get("app/a").await), b"v");
        service.has_read = true;
    }
}

/// Asks for a name that was read and for ever new ones, one by one and together, until the outage is over.
async fn live_through_it(services: &[Service]) {
    let clock = SystemClock::shared().unwrap();
    let (begun, mut round) = (clock.now(), 0);
    // What was fresh when it began may be answered.
    let over = begun + SECOND;
    clock.sleep_until(over + SECOND / 10).await;
    while clock.now().since(begun) < AWAY {
        round += 1;
        let names = ["app/a", "app/unknown/1", "app/unknown/2"].map(|name| match name {
            "app/a" => name.to_owned(),
            _ => format!("{name}/{round}"),
        });
        let gets: Vec<_> = services
            .iter()
            .map(|service| {
                let (resolver, names) = (service.resolver.clone(), names.clone());
                tokio::spawn(async move { resolver.get_many(&names).await })
            })
            .collect();
        for (service, get) in services.iter().zip(gets) {
            for (name, answer) in names.iter().zip(get.await.unwrap()) {
                service.check(name, &answer);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for service in services {
        let status = service.resolver.status();
        let mut endpoints = status.endpoints();
        assert!(endpoints.all(|endpoint| endpoint.breaker != BreakerState::Closed));
    }
}

/// Asserts that the store is found again in time.
async fn all_come_back(services: Vec<Service>, within: Duration) {
    let clock = SystemClock::shared().unwrap();
    let back = clock.now();
    let services: Vec<_> = services.into_iter().map(Arc::new).collect();
    let waits = services.iter().map(|service| {
        let (service, clock) = (Arc::clone(service), clock.clone());
        tokio::spawn(async move { service.is_back(&clock, back).await })
    });
    for wait in waits.collect::<Vec<_>>() {
        let took = wait.await.unwrap();
        assert!(took <= within, "{took:?}");
    }
    for service in services {
        if service.policy == Policy::Closed {
            assert_eq!(bytes(service.resolver.get("app/a").await), b"v");
        }
        // A token of Conjur cannot be revoked, so none is left to be.
        let report = service.resolver.shutdown_within(5 * SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (0, 0));
    }
}

/// Takes the store away and gives it back.
fn outage(away: impl Fn(&ConjurDouble), back: impl Fn(&ConjurDouble), within: Duration) {
    let site = Site::start();
    block_on(async {
        let mut services = site.services();
        read_once(&mut services).await;
        away(&site.server);
        live_through_it(&services).await;
        back(&site.server);
        all_come_back(services, within).await;
    });
}

#[test]
fn a_database_that_is_away_for_a_while_is_an_outage_and_nothing_else() {
    outage(
        |server| server.set_outage(true),
        |server| server.set_outage(false),
        BACK,
    );
}

#[test]
fn a_conjur_that_is_not_available_for_a_while_is_an_outage_and_nothing_else() {
    let away =
        |status| move |server: &ConjurDouble| only(server, Where::Anywhere, answer(status, ""));
    outage(away(503), ConjurDouble::clear_faults, BACK);
}

#[test]
fn a_conjur_that_is_stopped_for_a_while_is_an_outage_and_nothing_else() {
    outage(
        ConjurDouble::stop,
        |server| server.start_again().unwrap(),
        BACK,
    );
}

#[test]
fn a_conjur_that_is_silent_for_a_while_is_an_outage_and_nothing_else() {
    outage(
        |server| server.set_black_hole(true),
        |server| server.set_black_hole(false),
        // What was sent a moment before has to time out first.
        BACK + 3 * SECOND,
    );
}

#[test]
fn a_conjur_that_starts_later_than_its_services_is_an_outage_and_nothing_else() {
    let site = Site::start();
    site.server.stop();
    block_on(async {
        let services = site.services();
        let waiting = Service::new("authn", backend(&site.server), Policy::Closed);
        let required = tokio::spawn({
            let resolver = waiting.resolver.clone();
            async move { resolver.require_within(&["app/a"], 40 * SECOND).await }
        });
        live_through_it(&services).await;
        site.server.start_again().unwrap();
        all_come_back(services, BACK).await;
        required.await.unwrap().unwrap();
    });
}

#[test]
fn tokens_that_end_in_a_quiet_hour_before_an_outage_are_an_outage_and_nothing_else() {
    let site = Site::start();
    block_on(async {
        let mut services = site.services();
        read_once(&mut services).await;
        // Nobody asks, so nothing is replaced.
        let clock = SystemClock::shared().unwrap();
        clock.sleep_until(clock.now() + LIFE).await;
        site.server.set_outage(true);
        live_through_it(&services).await;
        site.server.set_outage(false);
        all_come_back(services, BACK).await;
    });
    let refused = |kind| {
        let requests = site.server.requests();
        let of_kind = requests.iter().filter(|it| it.kind == kind);
        of_kind.filter(|it| it.status == Some(401)).count()
    };
    // No token was sent that had ended.
    assert_eq!((refused(Kind::Secret), refused(Kind::Batch)), (0, 0));
}
