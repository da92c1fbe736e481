//! Conjur without a server of one's own: the one that the tests use runs in this process, with TLS.
//!
//! `cargo run -p secret-resolver-conjur --example conjur`

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::error::Error;

use conjur_double::{ConjurDouble, Kind};
use secret_resolver::{ErrorKind, Resolver, SecretBuf};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Credential, Trust};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = ConjurDouble::start()?;
    server.add_host("apps/billing");
    for (id, value) in [
        ("prod/db/user", "app"),
        ("prod/db/password", "hunter2"),
        ("prod/api/key", "k3y"),
    ] {
        server.add_variable(id);
        server.set(id, value.as_bytes());
        server.allow_read("host:apps/billing", id);
    }

    // What a service writes: where the store is, which authority it must show, and who it is.
    let key = SecretBuf::from_slice(server.key_of("host/apps/billing").as_bytes())?;
    let auth = Auth::api_key("host/apps/billing", Credential::value(key));
    let trust = Trust::from_pem(server.ca_pem().as_bytes())?;
    let target = ConjurTarget::new(server.origin(), trust, "myorg", auth);
    let resolver = Resolver::builder(ConjurBackend::builder(target).build()?).build()?;

    let names = [
        "prod/db#user",
        "prod/db#password",
        "prod/api#key",
        "prod/none",
    ];
    let mut found = 0;
    for (name, secret) in names.iter().zip(resolver.get_many(&names).await) {
        match secret {
            Ok(_) => found += 1,
            Err(error) => println!("{name} fails alone: {error}"),
        }
    }
    let requests = server.count(Kind::Secret) + server.count(Kind::Batch);
    println!(
        "{found} of {} names, with one login and {requests} requests",
        names.len()
    );

    server.set("prod/db/password", b"rotated");
    resolver.invalidator().invalidate("prod/db#password")?;
    let password = resolver.get("prod/db#password").await?;
    println!(
        "after the signal the password is the new one: {}",
        password.expose_str()? == "rotated"
    );

    server.revoke_all("host:apps/billing", "prod/api/key");
    resolver.invalidator().invalidate_all()?;
    let refused = resolver.get("prod/api#key").await.err();
    let is_refused = refused.is_some_and(|error| error.kind() == ErrorKind::NotFound);
    println!("what may not be read any more is not found: {is_refused}");
    resolver
        .shutdown_within(std::time::Duration::from_secs(1))
        .await;
    match found == 3 && is_refused {
        true => Ok(()),
        false => Err("not what was expected".into()),
    }
}
