//! Scripted stores with one endpoint or several, a backend for each, and answers that are not those of a store
//! in good health.

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, Secret, ShutdownReport};
use secret_resolver::{SecretResolver, SecretResolverExt};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::Reply;
use tokio::task::JoinHandle;

use super::{Fake, SECOND, text, value};

/// What a proxy says in place of the store.
pub(crate) const PAGE: &str = "<html><head><title>403 Forbidden</title></head></html>";

/// What a store says while it is turned into version 2.
pub(crate) const UPGRADING: &str = r#"{"errors":["Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly."]}"#;

/// A refusal in the store's own form.
pub(crate) fn refused(status: u16) -> Reply {
    Reply::json(status, r#"{"errors":["permission denied"]}"#)
}

/// A login that issues a token of ours.
pub(crate) fn role() -> Auth {
    Auth::approle(value("role"), value("secret"))
}

/// A token that somebody has given us.
pub(crate) fn given() -> Auth {
    Auth::token(value("given"))
}

/// A store with one endpoint.
pub(crate) fn single(auth: Auth) -> (Fake, VaultBackend, ManualClock) {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = on_clock(fake.target(auth), &clock);
    (fake, backend, clock)
}

/// Two endpoints of one store, each played by a server.
pub(crate) fn pair() -> (Fake, Fake, VaultBackend, ManualClock) {
    let (first, second, clock) = (Fake::start(), Fake::start(), ManualClock::strict());
    let backend = on_clock(target_of(&[&first, &second], role()), &clock);
    (first, second, backend, clock)
}

/// So many endpoints of one store, on the real clock.
pub(crate) fn cluster(number: usize, auth: Auth) -> (Vec<Fake>, VaultBackend) {
    let fakes: Vec<_> = (0..number).map(|_| Fake::start()).collect();
    let target = target_of(&fakes.iter().collect::<Vec<_>>(), auth);
    let backend = VaultBackend::builder(target).build().unwrap();
    (fakes, backend)
}

/// These as endpoints of one store.
pub(crate) fn target_of(fakes: &[&Fake], auth: Auth) -> VaultTarget {
    let pem: String = fakes.iter().map(|fake| fake.ca.pem()).collect();
    let trust = Trust::from_pem(pem.as_bytes()).unwrap();
    let origin = |fake: &Fake| Origin::parse(&fake.server.origin()).unwrap();
    let target = VaultTarget::new(origin(fakes[0]), trust, auth);
    fakes[1..]
        .iter()
        .fold(target, |target, fake| target.with_endpoint(origin(fake)))
}

pub(crate) fn on_clock(target: VaultTarget, clock: &ManualClock) -> VaultBackend {
    VaultBackend::builder(target)
        .with_clock(clock.clone())
        .build()
        .unwrap()
}

/// A get beside the test.
pub(crate) fn spawn_get(
    backend: &VaultBackend,
    name: &'static str,
) -> JoinHandle<Result<Secret, Error>> {
    let backend = backend.clone();
    tokio::spawn(async move { backend.get(name).await })
}

/// A read at one endpoint, as a breaker directs it, beside the test.
pub(crate) fn read_at(
    backend: &VaultBackend,
    endpoint: usize,
) -> JoinHandle<Result<(), ErrorKind>> {
    let backend = backend.clone();
    tokio::spawn(async move {
        let request = Request::new(NameRef::parse("a").unwrap()).at_endpoint(endpoint);
        let answer = backend.resolve(request).await;
        answer.map(drop).map_err(|error| error.kind())
    })
}

/// Time enough for what no event shows: that an answer was read, or that a request waits.
pub(crate) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Time enough on a busy machine, too: where no event shows that an answer was read, and the test fails if it was not.
pub(crate) async fn a_while() {
    tokio::time::sleep(SECOND).await;
}

/// As `until`, reading again each time: what is due is begun by a read.
pub(crate) async fn until_polled(
    what: &str,
    backend: &VaultBackend,
    mut done: impl FnMut() -> bool,
) {
    for _ in 0..2000 {
        assert_eq!(text(backend.get("a").await), "v");
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 20 s: {what}");
}

/// A shutdown beside the test.
pub(crate) fn shutdown_within(
    backend: &VaultBackend,
    clock: &ManualClock,
    time: Duration,
) -> JoinHandle<ShutdownReport> {
    let (backend, deadline) = (backend.clone(), clock.now() + time);
    tokio::spawn(async move { backend.shutdown(deadline).await })
}

/// How many tokens a shutdown within a second has revoked, and how many it has not.
pub(crate) async fn shut_down(backend: &VaultBackend, clock: &ManualClock) -> (usize, usize) {
    let report = backend.shutdown(clock.now() + SECOND).await;
    (report.revoked, report.not_revoked)
}

/// Moves the clock as fast as the real time until these have ended: a read waits half a second for the login of another.
pub(crate) async fn until_finished<T>(clock: &ManualClock, reads: &[&JoinHandle<T>]) {
    while !reads.iter().all(|read| read.is_finished()) {
        tokio::time::sleep(SECOND / 100).await;
        clock.advance(SECOND / 100);
    }
}
