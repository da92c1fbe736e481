//! The store of the web server and of the pool: its own OpenBao with TLS, and a resolver that may read `prod/*` there and nothing else.

use std::time::Duration;

use secret_resolver::{Resolver, SecretBuf};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::OpenBao;

/// In a service only the last part of this is left: a target, and credentials from files.
pub(crate) fn resolver_of(
    server: &OpenBao,
    deadline: Duration,
) -> Result<Resolver, Box<dyn std::error::Error>> {
    server.policy(
        "app",
        r#"path "secret/data/prod/*" { capabilities = ["read"] }"#,
    )?;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let role = server.approle("app", &["app"], minutes(10), minutes(60))?;
    let credential = |value: String| SecretBuf::from_slice(value.as_bytes()).map(Credential::value);
    let auth = Auth::approle(credential(role.role_id)?, credential(role.secret_id)?);

    let target = VaultTarget::new(server.origin(), server.ca_file(), auth);
    let vault = VaultBackend::builder(target).build()?;
    Ok(Resolver::builder(vault).with_deadline(deadline).build()?)
}
