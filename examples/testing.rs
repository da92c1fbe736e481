//! How the code of a service is tested without a store: a rotation, an outage, a store that hangs, a rush.
//!
//! `cargo run --example testing`
//!
//! In a project each of these functions is a `#[tokio::test]`, and the feature `testing` is used only in the dev-dependencies.
//! Here `main` runs them. An assertion that fails ends the program with an exit code that says so.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{Error, ErrorKind, Resolver, secret_name};

const PASSWORD: &str = secret_name!("prod/db#password");

/// The code under test: it logs in with the current password. When the database refuses it, the password may have changed since it
/// was cached, so it is asked for once more.
async fn connect(resolver: &Resolver, database: &Database) -> Result<Connection, Error> {
    let password = resolver.get(PASSWORD).await?;
    if let Some(connection) = database.log_in(password.expose_str()?) {
        return Ok(connection);
    }
    resolver.invalidator().invalidate(PASSWORD)?;
    let password = resolver.get(PASSWORD).await?;
    let connection = database.log_in(password.expose_str()?);
    connection.ok_or_else(|| Error::new(ErrorKind::Denied, "the database refuses the password"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    a_login_that_is_refused_learns_of_a_rotation().await?;
    an_outage_is_an_error_and_not_an_old_password().await?;
    a_store_that_hangs_costs_no_more_than_the_deadline().await?;
    a_rush_is_one_request().await?;
    println!("all four passed");
    Ok(())
}

async fn a_login_that_is_refused_learns_of_a_rotation() -> Result<(), Error> {
    let store = MockBackend::new().with_value(PASSWORD, "first");
    let resolver = Resolver::builder(store.clone()).build()?;
    let database = Database::with_password("first");
    connect(&resolver, &database).await?;

    store.set(PASSWORD, "second");
    database.change_password("second");
    connect(&resolver, &database).await?;

    assert_eq!(
        store.calls(),
        2,
        "one request before the rotation, one after"
    );
    println!("rotation   the refused login asked the store once more and went through");
    Ok(())
}

async fn an_outage_is_an_error_and_not_an_old_password() -> Result<(), Error> {
    let store = MockBackend::new().with_value(PASSWORD, "first");
    let clock = ManualClock::new();
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        // One attempt: pauses between several would pass by themselves and move the clock.
        .with_attempts(1)
        .build()?;
    let database = Database::with_password("first");
    connect(&resolver, &database).await?;

    store.always(Reply::Error(ErrorKind::Unavailable));
    connect(&resolver, &database).await?;
    println!("outage     within its time to live the password is still answered");

    clock.advance(Duration::from_secs(300));
    let error = refused(connect(&resolver, &database).await);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    println!("           after it there is an error: {error}");

    store.always(None);
    connect(&resolver, &database).await?;
    println!("           and when the store is back, the next login goes through");
    Ok(())
}

async fn a_store_that_hangs_costs_no_more_than_the_deadline() -> Result<(), Error> {
    let store = MockBackend::new().with_value(PASSWORD, "first");
    store.always(Reply::Hang);
    let clock = ManualClock::new();
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        .with_deadline(Duration::from_secs(1))
        .build()?;
    let asked = tokio::spawn(async move { resolver.get(PASSWORD).await });

    // The test waits for what happens and not for time: first for the request, then the clock is moved.
    store.called(1).await;
    clock.advance(Duration::from_secs(1));
    let error = refused(asked.await.unwrap_or_else(|_| panic!("the task panicked")));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    println!("hang       {error}");
    Ok(())
}

async fn a_rush_is_one_request() -> Result<(), Error> {
    let store = MockBackend::new().with_value(PASSWORD, "first");
    let gate = Gate::new();
    store.script(PASSWORD, [gate.then(Reply::Stored)]);
    let resolver = Resolver::builder(store.clone()).build()?;
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.get(PASSWORD).await.is_ok() })
        })
        .collect();

    store.called(1).await;
    gate.open();
    let mut answered = 0;
    for caller in callers {
        answered += usize::from(caller.await.unwrap_or(false));
    }
    assert_eq!((answered, store.calls()), (1000, 1));
    println!("rush       {answered} callers, {} request", store.calls());
    Ok(())
}

/// What a test expects to fail.
fn refused<T>(answer: Result<T, Error>) -> Error {
    match answer {
        Ok(_) => panic!("an answer came where there should be none"),
        Err(error) => error,
    }
}

/// Stands for a database: it knows one password.
struct Database(Mutex<String>);

/// Stands for an open connection.
struct Connection;

impl Database {
    fn with_password(password: &str) -> Self {
        Self(Mutex::new(password.to_owned()))
    }

    fn change_password(&self, password: &str) {
        password.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn log_in(&self, password: &str) -> Option<Connection> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*known == password).then_some(Connection)
    }
}
