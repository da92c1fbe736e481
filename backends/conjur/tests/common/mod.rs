//! What the tests of this crate share: a Conjur in process, and backends for it. Several endpoints of one Conjur are in `stores`.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses its own part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

mod stores;

use std::future::Future;
use std::time::Duration;

use conjur_double::ConjurDouble;
use secret_resolver::{Error, ErrorKind, Resolver, Secret, SecretBuf, SecretResolverExt};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurBuilder, ConjurTarget, Credential, Trust};

pub(crate) use stores::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The host that reads.
pub(crate) const READER: &str = "host/apps/reader";

/// Runs `future` to its end, or fails: a test of what must not hang must not hang itself.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), future)
            .await
            .expect("the test ends within two minutes")
    })
}

pub(crate) fn credential(text: &str) -> Credential {
    Credential::value(SecretBuf::from_slice(text.as_bytes()).unwrap())
}

/// A server with a host that may read these variables, which have these values.
pub(crate) fn server(values: &[(&str, &[u8])]) -> ConjurDouble {
    let server = ConjurDouble::start().unwrap();
    server.add_host("apps/reader");
    for (id, value) in values {
        store(&server, id, value);
    }
    server
}

/// A variable that the reader may read.
pub(crate) fn store(server: &ConjurDouble, id: &str, value: &[u8]) {
    server.add_variable(id);
    server.set(id, value);
    server.allow_read("host:apps/reader", id);
}

pub(crate) fn by_key(server: &ConjurDouble) -> Auth {
    Auth::api_key(READER, credential(&server.key_of(READER)))
}

pub(crate) fn trust(server: &ConjurDouble) -> Trust {
    Trust::from_pem(server.ca_pem().as_bytes()).unwrap()
}

pub(crate) fn target(server: &ConjurDouble, auth: Auth) -> ConjurTarget {
    ConjurTarget::new(server.origin(), trust(server), server.account(), auth)
}

pub(crate) fn builder(server: &ConjurDouble) -> ConjurBuilder {
    ConjurBackend::builder(target(server, by_key(server)))
}

pub(crate) fn backend(server: &ConjurDouble) -> ConjurBackend {
    builder(server).build().unwrap()
}

pub(crate) fn resolver(server: &ConjurDouble) -> Resolver {
    Resolver::builder(backend(server)).build().unwrap()
}

pub(crate) fn bytes(secret: Result<Secret, Error>) -> Vec<u8> {
    use secret_resolver::ExposeSecret as _;
    secret.unwrap().expose_secret().to_vec()
}

pub(crate) async fn refusal(backend: &ConjurBackend, name: &str) -> ErrorKind {
    match backend.get(name).await {
        Ok(_) => panic!("{name} was answered"),
        Err(error) => error.kind(),
    }
}

/// Waits for an event, or fails.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 20 s: {what}");
}
