//! A SPIRE whose socket the guard lets through, an OpenBao that trusts it, and backends between the two.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_session::{Jwt, JwtSource};
use secret_resolver_spiffe::SpiffeIdentity;
use secret_resolver_vault::{Auth, VaultTarget};
use test_servers::{OpenBao, Registration, Spire, SpireSettings};

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

pub(crate) fn register(spire: &Spire) -> String {
    let entry = spire.register(&entry(spire)).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    entry
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

pub(crate) async fn kind(source: &impl JwtSource) -> Option<ErrorKind> {
    jwt(source).await.err().map(|error| error.kind())
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

/// Lets the role `billing` read, by JWTs and by certificates of this SPIRE.
pub(crate) fn trust(server: &OpenBao, spire: &Spire) {
    let read = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;
    server.policy("reader", read).unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    server.run(&["auth", "enable", "jwt"]).unwrap();
    let keys = spire.jwt_keys().unwrap();
    let keys: Vec<_> = keys.iter().map(|key| key.pem.as_str()).collect();
    let key = format!("jwt_validation_pubkeys={}", keys.join("\n"));
    let config = [
        "write",
        "auth/jwt/config",
        &key,
        "jwt_supported_algs=RS256,ES256",
    ];
    server.run(&config).unwrap();
    let subject = format!("bound_subject={}", spire.id(PATH));
    let role = [
        "write",
        "auth/jwt/role/billing",
        &subject,
        "bound_audiences=bao",
        "role_type=jwt",
        "user_claim=sub",
        "token_policies=reader",
        "token_ttl=1h",
    ];
    server.run(&role).unwrap();
    server.run(&["auth", "enable", "cert"]).unwrap();
    let certificate = format!("certificate={}", spire.x509_bundle().unwrap());
    let id = format!("allowed_uri_sans={}", spire.id(PATH));
    let role = [
        "write",
        "auth/cert/certs/billing",
        &certificate,
        &id,
        "token_policies=reader",
        "token_ttl=1h",
    ];
    server.run(&role).unwrap();
}

pub(crate) fn target(server: &OpenBao, auth: Auth) -> VaultTarget {
    VaultTarget::new(server.origin().as_str(), server.ca_file(), auth)
}
