//! A first look, without any server: a hit, an expiry, and what fails closed.
//!
//! `cargo run --example quickstart`

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{Error, ErrorKind, Resolver};
use secret_resolver_env::{EnvBackend, EnvSource};

/// The example's own environment, so that it needs no preparation; leave `with_source` out to
/// read the process's.
#[derive(Clone, Debug, Default)]
struct Variables {
    password: Arc<Mutex<String>>,
    reads: Arc<AtomicUsize>,
}

impl EnvSource for Variables {
    fn read(&self, variable: &str) -> Option<OsString> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let password = self.password.lock().ok()?;
        (variable == "DEMO_PROD_DB_PASSWORD").then(|| password.as_str().into())
    }
}

impl Variables {
    fn set(&self, value: &str) {
        if let Ok(mut password) = self.password.lock() {
            value.clone_into(&mut password);
        }
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let variables = Variables::default();
    variables.set("hunter2");
    let backend = EnvBackend::builder()
        .with_prefix("DEMO")
        .with_source(variables.clone())
        .build()?;
    // A manual clock, so that five minutes pass at once.
    let clock = ManualClock::new();
    let resolver = Resolver::builder(backend)
        .with_clock(clock.clone())
        .build()?;

    let password = resolver.get("prod/db#password").await?;
    println!(
        "resolved   {} bytes, shown as {password:?}",
        password.expose_str()?.len()
    );
    println!("           {} read of the environment", variables.reads());
    assert_eq!(variables.reads(), 1);

    resolver.get("prod/db#password").await?;
    println!(
        "hit        still {} read: answered from the cache",
        variables.reads()
    );
    assert_eq!(variables.reads(), 1, "a hit asks nobody");

    variables.set("a-new-password");
    clock.advance(Duration::from_secs(300));
    let password = resolver.get("prod/db#password").await?;
    println!(
        "expired    {} reads; the new value has {} bytes",
        variables.reads(),
        password.expose_str()?.len()
    );
    assert_eq!(password.expose_str()?, "a-new-password");

    // The same stack in front of a store that goes away. The environment is right there, with a
    // value for the name; it was not named as a fallback, so it is not asked.
    let store = MockBackend::new().with_value("prod/db#password", "from-the-store");
    store.always(Reply::Error(ErrorKind::Unavailable));
    let resolver = Resolver::builder(store).build()?;
    let before = variables.reads();
    let Err(error) = resolver.get("prod/db#password").await else {
        panic!("a value was answered although no store is behind it");
    };
    println!("store away {error}");
    let reads = variables.reads() - before;
    assert_eq!(reads, 0, "the environment was not named as a fallback");
    println!("           {reads} reads of the environment for it");
    Ok(())
}
