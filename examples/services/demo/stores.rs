//! The two stores of the demo, what is in them, and the resolver before them. In a service only the two targets are left of this, with
//! credentials from files.

use std::error::Error;
use std::time::Duration;

use conjur_double::ConjurDouble;
use secret_resolver::{Resolver, SecretBuf};
use secret_resolver_conjur::{ConjurBackend, ConjurTarget, Trust};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::{AppRole, OpenBao};

use crate::MANY;

/// Logs in with a role of its own at OpenBao, and with a host of its own at Conjur, which is asked for the names below `shop`.
pub(crate) fn resolver_of(
    bao: &OpenBao,
    conjur: &ConjurDouble,
) -> Result<Resolver, Box<dyn Error>> {
    let primary = VaultBackend::builder(vault_target(bao)?).build()?;
    let second = ConjurBackend::builder(conjur_target(conjur)?).build()?;
    let resolver = Resolver::builder(primary).with_route("shop", second);
    Ok(resolver.build()?)
}

fn vault_target(bao: &OpenBao) -> Result<VaultTarget, Box<dyn Error>> {
    let minute = Duration::from_secs(60);
    bao.policy(
        "demo",
        r#"path "secret/data/prod/*" { capabilities = ["read"] }"#,
    )?;
    let AppRole { role_id, secret_id } =
        bao.approle("demo", &["demo"], 10 * minute, 60 * minute)?;
    let auth = Auth::approle(credential(&role_id)?, credential(&secret_id)?);
    Ok(VaultTarget::new(bao.origin(), bao.ca_file(), auth))
}

fn conjur_target(conjur: &ConjurDouble) -> Result<ConjurTarget, Box<dyn Error>> {
    let key = conjur.add_host("apps/shop");
    add(conjur, "shop/db/password");
    for number in 0..MANY {
        let id = name_of(number);
        add(conjur, &id);
        conjur.set(&id, value_of(number));
    }
    let auth = secret_resolver_conjur::Auth::api_key("host/apps/shop", credential(&key)?);
    // An authority of its own: neither store is believed with the other's.
    let trust = Trust::from_pem(conjur.ca_pem().as_bytes())?;
    Ok(ConjurTarget::new(
        conjur.origin(),
        trust,
        conjur.account(),
        auth,
    ))
}

/// A variable that the host may read.
fn add(conjur: &ConjurDouble, id: &str) {
    conjur.add_variable(id);
    conjur.allow_read("host:apps/shop", id);
}

pub(crate) fn name_of(number: usize) -> String {
    format!("shop/settings/{number:03}")
}

pub(crate) fn value_of(number: usize) -> String {
    format!("value-{number}")
}

pub(crate) fn put(bao: &OpenBao, turn: &str) -> Result<(), Box<dyn Error>> {
    let password = format!("{turn}-password");
    bao.put("prod/db", &[("user", "app"), ("password", &password)])?;
    Ok(())
}

pub(crate) fn set(conjur: &ConjurDouble, turn: &str) {
    conjur.set("shop/db/password", format!("{turn}-password"));
}

fn credential(value: &str) -> Result<Credential, secret_resolver::Error> {
    SecretBuf::from_slice(value.as_bytes()).map(Credential::value)
}
