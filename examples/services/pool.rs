//! A pool of database connections whose password rotates while queries run: a real PostgreSQL, a real OpenBao, no failed query.
//!
//! `cargo xtask setup && cargo run -p service-examples --example pool`
//!
//! The pool keeps no password. For every new connection it asks the resolver, which answers from its cache. Nothing reports to the service
//! that the password was rotated: it learns that from the first login that is refused.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

mod store;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Pool, RecycleError, RecycleResult, Timeouts};
use secret_resolver::{ExposeSecret, Resolver, Secret, secret_name};
use test_servers::{OpenBao, Postgres};
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const PASSWORD: &str = secret_name!("prod/db#password");
const ROLE: &str = "app";
const ROTATIONS: usize = 6;
const BETWEEN_ROTATIONS: Duration = Duration::from_millis(500);
/// How long the pool may take to log in with a new password.
const LONGEST: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 8;
const TASKS: usize = 24;

/// What makes the pool's connections.
struct Logins {
    resolver: Resolver,
    database: tokio_postgres::Config,
    counts: Arc<Counts>,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Logins {
    /// The password and its copy in the store are changed one after the other, so for a moment one of them is ahead of the other.
    /// A login that is refused in that moment is tried again for this long.
    const ATTEMPTS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);

    async fn log_in(&self, password: &Secret) -> Result<Client, tokio_postgres::Error> {
        // The driver keeps a copy of the password, which nobody wipes, in this value. So it lives for one login.
        let mut config = self.database.clone();
        config.password(password.expose_secret());
        // Over a network: TLS, with the CA of the database.
        let (client, connection) = config.connect(NoTls).await?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Has the next `get` ask the store, unless another login has done so already and there is another version by now.
    fn refused(&self, password: &Secret) -> Result<(), secret_resolver::Error> {
        let now = self.resolver.peek(PASSWORD);
        if now.is_ok_and(|now| now.version() == password.version()) {
            self.resolver.invalidator().invalidate(PASSWORD)?;
        }
        Ok(())
    }
}

impl managed::Manager for Logins {
    type Type = Client;
    type Error = Failure;

    async fn create(&self) -> Result<Client, Failure> {
        for _ in 0..Self::ATTEMPTS {
            let password = self.resolver.get(PASSWORD).await?;
            match self.log_in(&password).await {
                Ok(client) => {
                    self.counts.logged_in(&password);
                    return Ok(client);
                }
                Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    self.refused(&password)?;
                    sleep(Self::PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err("the database refuses the password that the store has".into())
    }

    async fn recycle(&self, client: &mut Client, metrics: &Metrics) -> RecycleResult<Failure> {
        // Connections outlive their password. This bounds for how long; here it is short, so that there are many logins.
        let longest = Duration::from_millis(200);
        match metrics.age() > longest || client.is_closed() {
            true => Err(RecycleError::message("it is old")),
            false => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (store, database) = (OpenBao::start()?, Postgres::start()?);
    database.set_password(ROLE, "password-0")?;
    store.put("prod/db", &[("password", "password-0")])?;
    let resolver = store::resolver_of(&store, Duration::from_secs(5))?;
    resolver.require(&[PASSWORD]).await?;
    println!("started   a PostgreSQL with SCRAM, an OpenBao with TLS, all that is required");

    let counts = Arc::new(Counts::default());
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(database.port())
        .user(ROLE)
        .dbname(Postgres::DATABASE);
    let logins = Logins {
        resolver: resolver.clone(),
        database: config.clone(),
        counts: Arc::clone(&counts),
    };
    let limit = Some(Duration::from_secs(10));
    let pool = Pool::builder(logins)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: limit,
            create: limit,
            recycle: limit,
        })
        .build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(work(pool.clone(), Arc::clone(&counts), Arc::clone(&stop))))
        .collect();

    for number in 1..=ROTATIONS {
        counts.until_used(number).await;
        let password = format!("password-{number}");
        // The servers' own tools block. The tasks go on meanwhile.
        tokio::task::block_in_place(|| rotate(number, &password, &store, &database))?;
        println!("rotated   to version {}; {counts}", number + 1);
    }
    counts.until_used(ROTATIONS + 1).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    println!("ended     {counts}");
    println!(
        "          {} requests at the store for {} answers from the cache",
        resolver.status().fetches,
        resolver.status().hits
    );

    config.password("password-0");
    let first_is_over = config.connect(NoTls).await.is_err();
    let report = resolver.shutdown_within(Duration::from_secs(2)).await;
    println!("shut down {} token revoked", report.revoked);
    let complete = report.is_complete() && report.revoked == 1;
    match counts.failed.load(Ordering::Relaxed) {
        0 if first_is_over && complete && counts.versions() == ROTATIONS + 1 => {
            println!("0 queries failed in {ROTATIONS} rotations");
            Ok(())
        }
        failed => Err(format!(
            "{failed} queries failed, {} of {} passwords were used, the first is over: {first_is_over}",
            counts.versions(),
            ROTATIONS + 1
        )
        .into()),
    }
}

/// What a person or a job does, in no hurry between the two steps. Which of them comes first does not matter, so both have their turn.
fn rotate(
    number: usize,
    password: &str,
    store: &OpenBao,
    database: &Postgres,
) -> Result<(), test_servers::Error> {
    if number.is_multiple_of(2) {
        store.put("prod/db", &[("password", password)])?;
        return database.set_password(ROLE, password);
    }
    database.set_password(ROLE, password)?;
    store.put("prod/db", &[("password", password)]).map(drop)
}

/// One query after the other.
async fn work(pool: Pool<Logins>, counts: Arc<Counts>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let count = match query(&pool).await {
            Ok(()) => &counts.queries,
            Err(error) => {
                println!("failed    {error}");
                &counts.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(2)).await;
    }
}

async fn query(pool: &Pool<Logins>) -> Result<(), Failure> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let row = client.query_one("SELECT current_user::text", &[]).await?;
    match row.try_get::<_, &str>(0)? {
        ROLE => Ok(()),
        other => Err(format!("the query ran as {other}").into()),
    }
}

#[derive(Default)]
struct Counts {
    queries: AtomicU64,
    failed: AtomicU64,
    logins: AtomicU64,
    refused: AtomicU64,
    /// The number of passwords that were logged in with.
    versions: Mutex<BTreeSet<Option<u64>>>,
}

impl Counts {
    fn logged_in(&self, password: &Secret) {
        self.logins.fetch_add(1, Ordering::Relaxed);
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.insert(password.version().as_number());
    }

    /// Waits until this many passwords were logged in with, and a while longer: a machine that is busy takes its time.
    async fn until_used(&self, passwords: usize) {
        let used = async {
            while self.versions() < passwords {
                sleep(Logins::PAUSE).await;
            }
        };
        // The counts at the end say whether it came to that.
        let _ = tokio::time::timeout(LONGEST, used).await;
        sleep(BETWEEN_ROTATIONS).await;
    }

    fn versions(&self) -> usize {
        let versions = self.versions.lock();
        versions.unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} queries, {} failed; {} logins, {} refused and tried again",
            of(&self.queries),
            of(&self.failed),
            of(&self.logins),
            of(&self.refused)
        )
    }
}
