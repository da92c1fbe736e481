//! The main job on a real OpenBao with TLS: resolve, cached, rotated, invalidated, killed, refused.
//!
//! `cargo xtask demo` installs the server and runs this.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::error::Error;
use std::time::Duration;

use secret_resolver::{Resolver, Secret, SecretBuf};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::OpenBao;

const NAME: &str = "prod/db#password";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut server = OpenBao::start()?;
    let minute = Duration::from_secs(60);
    server.policy(
        "demo",
        r#"path "secret/data/prod/*" { capabilities = ["read"] }"#,
    )?;
    server.put(
        "prod/db",
        &[("user", "app"), ("password", "first-password")],
    )?;
    let role = server.approle("demo", &["demo"], 10 * minute, 60 * minute)?;
    println!("started      OpenBao with TLS; the role may read secret/prod/*");

    let target = VaultTarget::new(
        server.origin(),
        server.ca_file(),
        Auth::approle(
            Credential::value(SecretBuf::from_slice(role.role_id.as_bytes())?),
            Credential::value(SecretBuf::from_slice(role.secret_id.as_bytes())?),
        ),
    );
    let resolver = Resolver::builder(VaultBackend::builder(target).build()?).build()?;

    step("resolved", &resolver, "login and read").await?;
    step("cached", &resolver, "no request").await?;

    server.put(
        "prod/db",
        &[("user", "app"), ("password", "second-password")],
    )?;
    step("rotated", &resolver, "the cache does not know yet").await?;

    resolver.invalidator().invalidate(NAME)?;
    step("invalidated", &resolver, "fetched anew").await?;

    server.stop();
    step("killed", &resolver, "within its time to live").await?;

    resolver.invalidator().invalidate(NAME)?;
    match resolver.get(NAME).await {
        Ok(_) => return Err("a value was answered that no store stands behind".into()),
        Err(error) => println!("refused      {error}"),
    }
    let report = resolver.shutdown_within(Duration::from_secs(1)).await;
    println!("shut down    {} values dropped", report.values_dropped);
    Ok(())
}

async fn step(title: &str, resolver: &Resolver, why: &str) -> Result<(), Box<dyn Error>> {
    let clock = resolver.clock();
    let start = clock.now();
    let secret: Secret = resolver.get(NAME).await?;
    let took = clock.now().since(start);
    // The demo's own passwords tell their turn by their first word; a service never prints one.
    let turn = secret.expose_str()?.split('-').next().unwrap_or_default();
    println!(
        "{title:12} {:?}, the {turn} password, {took:?} ({why})",
        secret.version()
    );
    Ok(())
}
