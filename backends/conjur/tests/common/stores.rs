//! Several endpoints of one Conjur, reads that are directed to one of them, and answers that are not those of a Conjur in good health.

use conjur_double::{Answer, ConjurDouble, Fault, Gate, Kind, Where};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, Resolver, Secret, SecretResolver};
use secret_resolver::{SecretResolverExt, ShutdownReport};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget};
use tokio::task::JoinHandle;

use super::{SECOND, bytes, server, target};

/// What a proxy says in place of the store.
pub(crate) const PAGE: &str = "<html><head><title>403 Forbidden</title></head></html>";

/// An answer in place of the honest one.
pub(crate) fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer(Answer::new(status).with_body(body))
}

/// How the store refuses a token.
pub(crate) fn no_token() -> Fault {
    answer(401, "Unauthorized: Invalid token")
}

/// From now on every request here meets this alone.
pub(crate) fn only(server: &ConjurDouble, place: impl Into<Where>, fault: Fault) {
    server.clear_faults();
    server.fault_always(place, fault);
}

/// Lets the next request here wait for the gate; its answer is of the moment at which it came.
pub(crate) fn hold(server: &ConjurDouble, place: impl Into<Where>) -> Gate {
    let gate = Gate::new();
    server.fault_next(place, Fault::Held(gate.clone()));
    gate
}

/// A Conjur with the value `x` at `v`, and so many endpoints: the first writes, the others are followers.
pub(crate) fn endpoints(number: usize) -> Vec<ConjurDouble> {
    let first = server(&[("v", b"x")]);
    let followers: Vec<_> = (1..number).map(|_| first.follower().unwrap()).collect();
    std::iter::once(first).chain(followers).collect()
}

/// These as endpoints of one store.
pub(crate) fn target_of(servers: &[ConjurDouble], auth: Auth) -> ConjurTarget {
    let first = target(&servers[0], auth);
    let others = servers[1..].iter().map(ConjurDouble::origin);
    others.fold(first, |target, origin| target.with_endpoint(origin))
}

pub(crate) fn backend_of(servers: &[ConjurDouble]) -> ConjurBackend {
    let target = target_of(servers, super::by_key(&servers[0]));
    ConjurBackend::builder(target).build().unwrap()
}

pub(crate) fn on_clock(target: ConjurTarget, clock: &ManualClock) -> ConjurBackend {
    ConjurBackend::builder(target)
        .with_clock(clock.clone())
        .build()
        .unwrap()
}

/// A Conjur with one endpoint, and a backend for it on a clock that the test moves.
pub(crate) fn single() -> (ConjurDouble, ConjurBackend, ManualClock) {
    let (server, clock) = (server(&[("v", b"x")]), ManualClock::strict());
    let backend = on_clock(target(&server, super::by_key(&server)), &clock);
    (server, backend, clock)
}

/// The same with two endpoints.
pub(crate) fn pair() -> (ConjurDouble, ConjurDouble, ConjurBackend, ManualClock) {
    let (servers, clock) = (endpoints(2), ManualClock::strict());
    let auth = super::by_key(&servers[0]);
    let backend = on_clock(target_of(&servers, auth), &clock);
    let [first, second] = <[ConjurDouble; 2]>::try_from(servers).unwrap();
    (first, second, backend, clock)
}

/// A get beside the test.
pub(crate) fn spawn_get(
    backend: &ConjurBackend,
    name: &'static str,
) -> JoinHandle<Result<Secret, Error>> {
    let backend = backend.clone();
    tokio::spawn(async move { backend.get(name).await })
}

/// A read of `v` at one endpoint, as a breaker directs it, beside the test.
pub(crate) fn read_at(
    backend: &ConjurBackend,
    endpoint: usize,
) -> JoinHandle<Result<Vec<u8>, ErrorKind>> {
    let backend = backend.clone();
    tokio::spawn(async move {
        let request = Request::new(NameRef::parse("v").unwrap()).at_endpoint(endpoint);
        let record = backend.resolve(request).await;
        let record = record.map_err(|error| error.kind())?;
        Ok(bytes(record.into_secret()))
    })
}

/// Gets each of these at once, the first of them a moment earlier, so that the others go together.
pub(crate) async fn get_together(
    server: &ConjurDouble,
    resolver: &Resolver,
    names: &[&str],
) -> Vec<Result<Secret, Error>> {
    let gate = hold(server, Kind::Secret);
    let (asked, owned) = (resolver.clone(), names.iter().map(ToString::to_string));
    let owned: Vec<_> = owned.collect();
    let batch = tokio::spawn(async move { asked.get_many(&owned).await });
    let shown = format!("waiting: {},", names.len() - 1);
    until_waiting(resolver, &shown).await;
    gate.open();
    batch.await.unwrap()
}

async fn until_waiting(resolver: &Resolver, shown: &str) {
    super::until("all wait", || format!("{resolver:#?}").contains(shown)).await;
}

/// A shutdown within a second.
pub(crate) async fn shut_down(backend: &ConjurBackend, clock: &dyn Clock) -> ShutdownReport {
    backend.shutdown(clock.now() + SECOND).await
}
