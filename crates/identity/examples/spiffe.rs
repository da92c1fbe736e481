//! A service without a credential of its own: its agent says who it is. A real SPIRE and a real OpenBao, which demands the client
//! certificate of every connection, run beside it; `cargo xtask setup` gets them.
//!
//! `cargo run -p secret-resolver-spiffe --example spiffe`

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::error::Error;
use std::time::Duration;

use secret_resolver::{ErrorKind, Resolver, SecretBuf, SecretResolverExt};
use secret_resolver_spiffe::SpiffeIdentity;
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::{OpenBao, Registration, Spire, TestCa, Validity};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // What SPIRE's administrator does: every process of this user is "/billing". Lives are so short that something happens here.
    let spire = Spire::start()?;
    let entry = Registration::new("/billing", spire.uid());
    let entry = spire.register(&entry.x509_ttl(10 * SECOND).jwt_ttl(20 * SECOND))?;
    spire.until_issued(spire.uid(), "/billing")?;
    let store = store_that_trusts(&spire)?;

    // What a service writes: who it is, and where its agent's socket is. An agent that does not run as root is named by its user id. The
    // socket of this one is below the folder for temporary files, to which everyone may add; of a real one no folder has to be allowed.
    let mut identity =
        SpiffeIdentity::builder(spire.id("/billing"), spire.socket()).with_agent_uid(spire.uid());
    for folder in spire.socket().ancestors() {
        if std::env::temp_dir().starts_with(folder) {
            identity = identity.with_sticky_folder(folder);
        }
    }
    let identity = identity.build()?;
    println!("{identity:?}");

    // It logs in with JWT-SVIDs, and shows its X509-SVID on every connection.
    let at_store = |auth| VaultTarget::new(store.origin(), store.ca_file(), auth);
    let by_jwt = Auth::jwt("billing", identity.jwts("bao")?);
    let certificates = identity.certificates()?;
    let target = at_store(by_jwt.clone()).with_client_certificate(certificates.clone());
    let backend = VaultBackend::builder(target).build()?;
    let resolver = Resolver::builder(backend).build()?;
    // At a start the agent may not have answered yet.
    resolver
        .require_within(&["app/db#password"], 10 * SECOND)
        .await?;
    let password = resolver.get("app/db#password").await?;
    println!(
        "read without a stored credential: {} bytes",
        password.expose_str()?.len()
    );

    // The agent replaces the certificate; no get fails.
    let (mut gets, mut rotations) = (0, 0);
    let mut ends = identity.status().ends;
    while rotations < 5 && gets < 2000 {
        resolver.invalidator().invalidate_all()?;
        resolver.get("app/db#password").await?;
        gets += 1;
        let now = identity.status().ends;
        rotations += usize::from(now != ends);
        ends = now;
        tokio::time::sleep(SECOND / 50).await;
    }
    println!("{rotations} rotations under {gets} gets, none of which failed");

    // Somebody has copied a token of the store, and the JWT-SVID, and has no certificate.
    let token = SecretBuf::from_slice(store.token(&["reader"], 60 * SECOND)?.as_bytes())?;
    let by_token = Auth::token(Credential::value(token));
    let mut refused = 0;
    for (what, copied) in [("token", by_token.clone()), ("JWT-SVID", by_jwt)] {
        let thief = VaultBackend::builder(at_store(copied)).build()?;
        if let Err(error) = thief.get("app/db#password").await {
            println!("a copied {what} is worth nothing: {error}");
            refused += 1;
        }
    }
    let target = at_store(by_token).with_client_certificate(certificates);
    let owner = VaultBackend::builder(target).build()?;
    let is_good = owner.get("app/db#password").await.is_ok();
    println!("the same token with the certificate reads: {is_good}");

    // The administrator takes the identity away: the agent says so, and nothing more is sent.
    spire.delete(&entry)?;
    let mut last = None;
    for _ in 0..500 {
        resolver.invalidator().invalidate_all()?;
        last = resolver.get("app/db#password").await.err();
        if last.is_some() {
            break;
        }
        tokio::time::sleep(SECOND / 50).await;
    }
    let is_closed =
        last.as_ref().map(secret_resolver::Error::kind) == Some(ErrorKind::Unauthenticated);
    if let Some(error) = last {
        println!("without the entry: {error}");
    }
    resolver.shutdown_within(SECOND).await;
    match rotations == 5 && refused == 2 && is_good && is_closed {
        true => Ok(()),
        false => Err("not what was expected".into()),
    }
}

/// An OpenBao that takes no connection without a certificate of this SPIRE, and lets "/billing" read by its JWT-SVIDs for "bao".
fn store_that_trusts(spire: &Spire) -> Result<OpenBao, Box<dyn Error>> {
    let administrator = TestCa::new(Validity::CURRENT)?;
    let store = OpenBao::start_demanding_also(&administrator, &spire.x509_bundle()?)?;
    store.policy(
        "reader",
        r#"path "secret/data/app/*" { capabilities = ["read"] }"#,
    )?;
    store.put("app/db", &[("password", "hunter2")])?;
    store.run(&["auth", "enable", "jwt"])?;
    let keys = spire.jwt_keys()?;
    let keys: Vec<_> = keys.iter().map(|key| key.pem.as_str()).collect();
    // A list: around each change of its key, SPIRE has two.
    let config = serde_json::json!({ "jwt_validation_pubkeys": keys }).to_string();
    store.run_with_input(&["write", "auth/jwt/config", "-"], &config)?;
    let subject = format!("bound_subject={}", spire.id("/billing"));
    store.run(&[
        "write",
        "auth/jwt/role/billing",
        &subject,
        "role_type=jwt",
        "user_claim=sub",
        "bound_audiences=bao",
        "token_policies=reader",
    ])?;
    Ok(store)
}
