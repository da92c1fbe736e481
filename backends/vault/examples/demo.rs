//! The main job on a real OpenBao with TLS: resolve, cached, rotated, invalidated, killed, refused.
//!
//! `cargo xtask demo` installs the server and runs this. Each step is checked; the last line is the verdict, and so is the exit code.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use secret_resolver::{ErrorKind, Resolver, SecretBuf};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::{AppRole, OpenBao};

const NAME: &str = "prod/db#password";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(steps) => {
            println!("verdict      all {steps} steps went as they should");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("verdict      it did not go as it should: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many steps there were, all of them as they should be.
async fn run() -> Result<usize, Box<dyn Error>> {
    println!("starting     its own OpenBao, on loopback");
    let mut server = OpenBao::start()?;
    let resolver = resolver_of(&server)?;
    put(&server, "first")?;
    println!("started      OpenBao with TLS; the role may read secret/prod/*");
    let mut demo = Demo { resolver, steps: 0 };

    demo.step("resolved", "login and read", "first", 1).await?;
    demo.step("cached", "no request", "first", 0).await?;
    put(&server, "second")?;
    demo.step("rotated", "the cache does not know yet", "first", 0)
        .await?;
    demo.resolver.invalidator().invalidate(NAME)?;
    demo.step("invalidated", "read again", "second", 1).await?;
    server.stop();
    demo.step("killed", "within its time to live", "second", 0)
        .await?;
    demo.resolver.invalidator().invalidate(NAME)?;
    demo.refused().await?;
    demo.shut_down().await?;
    Ok(demo.steps)
}

struct Demo {
    resolver: Resolver,
    steps: usize,
}

impl Demo {
    /// A get that must answer the password of that turn, with this many requests.
    async fn step(
        &mut self,
        title: &str,
        why: &str,
        turn: &str,
        requests: u64,
    ) -> Result<(), Box<dyn Error>> {
        let clock = self.resolver.clock();
        let (start, before) = (clock.now(), self.resolver.status().fetches);
        let secret = self.resolver.get(NAME).await?;
        let took = clock.now().since(start);
        let asked = self.resolver.status().fetches - before;
        // The demo's own passwords show their turn by their first word; a service never prints one.
        let answered = secret.expose_str()?.split('-').next().unwrap_or_default();
        println!(
            "{title:12} {:?}, the {answered} password, {took:?} ({why})",
            secret.version()
        );
        self.steps += 1;
        match answered == turn && asked == requests {
            true => Ok(()),
            false => Err(format!("{title}: the {turn} password was due, by {requests} requests, and not the {answered} by {asked}").into()),
        }
    }

    /// A get that must fail, because no store stands behind any answer.
    async fn refused(&mut self) -> Result<(), Box<dyn Error>> {
        let Err(error) = self.resolver.get(NAME).await else {
            return Err("a value was answered although no store is behind it".into());
        };
        println!("refused      {error}");
        self.steps += 1;
        match error.kind() {
            ErrorKind::Unavailable => Ok(()),
            _ => Err("the error does not say that the store is away".into()),
        }
    }

    async fn shut_down(&mut self) -> Result<(), Box<dyn Error>> {
        let report = self.resolver.shutdown_within(Duration::from_secs(1)).await;
        // Nobody is there to revoke it, so the report must not say that all was done.
        println!(
            "shut down    {} values are held; the token is left to its own end",
            report.values_still_held
        );
        self.steps += 1;
        let closed = self.resolver.get(NAME).await;
        match closed.is_err_and(|error| error.kind() == ErrorKind::Closed) {
            true if report.values_still_held == 0 && !report.is_complete() => Ok(()),
            _ => Err("the shutdown is not what it should be".into()),
        }
    }
}

/// A resolver that logs in with its own role.
fn resolver_of(server: &OpenBao) -> Result<Resolver, Box<dyn Error>> {
    let minute = Duration::from_secs(60);
    server.policy(
        "demo",
        r#"path "secret/data/prod/*" { capabilities = ["read"] }"#,
    )?;
    let AppRole { role_id, secret_id } =
        server.approle("demo", &["demo"], 10 * minute, 60 * minute)?;
    let credential = |value: String| SecretBuf::from_slice(value.as_bytes()).map(Credential::value);
    let auth = Auth::approle(credential(role_id)?, credential(secret_id)?);
    let target = VaultTarget::new(server.origin(), server.ca_file(), auth);
    Ok(Resolver::builder(VaultBackend::builder(target).build()?).build()?)
}

fn put(server: &OpenBao, turn: &str) -> Result<(), Box<dyn Error>> {
    let password = format!("{turn}-password");
    server.put("prod/db", &[("user", "app"), ("password", &password)])?;
    Ok(())
}
