//! A SPIRE whose socket the guard lets through, and this workload's identity.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secret_resolver::Error;
use secret_resolver_session::{Jwt, JwtSource};
use secret_resolver_spiffe::SpiffeIdentity;
use test_servers::{Registration, Spire, SpireSettings};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PATH: &str = "/billing";
pub(crate) const AUDIENCE: &str = "bao";

/// Runs `future` to its end, or fails: a test of what must not hang must not hang itself.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limited = tokio::time::timeout(SECOND * 120, future);
        limited.await.unwrap()
    })
}

/// A SPIRE in the system's folder for temporary files, which is sticky.
pub(crate) fn spire() -> Spire {
    SpireSettings::new("example.test").start().unwrap()
}

/// This workload's entry, with short lives.
pub(crate) fn entry(spire: &Spire) -> Registration {
    Registration::new(PATH, spire.uid())
        .dns("billing.test")
        .x509_ttl(SECOND * 20)
        .jwt_ttl(SECOND * 20)
}

pub(crate) fn identity_of(spire: &Spire, path: &str) -> SpiffeIdentity {
    let mut builder = SpiffeIdentity::builder(spire.id(path), spire.socket());
    for folder in sticky(&spire.socket()) {
        builder = builder.with_sticky_folder(folder);
    }
    builder.with_agent_uid(spire.uid()).build().unwrap()
}

pub(crate) fn identity(spire: &Spire) -> SpiffeIdentity {
    identity_of(spire, PATH)
}

/// Where tests put their files is open to everyone.
pub(crate) fn sticky(socket: &Path) -> Vec<PathBuf> {
    let temporary = std::env::temp_dir();
    let above = socket
        .ancestors()
        .filter(|folder| temporary.starts_with(folder));
    above.map(Path::to_owned).collect()
}

pub(crate) async fn jwt(source: &impl JwtSource) -> Result<Jwt, Error> {
    source.jwt().await
}

/// Polls until `done`, for at most 30 s.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if done().await {
            return;
        }
        tokio::time::sleep(SECOND / 100).await;
    }
    panic!("not within 30 s: {what}");
}
