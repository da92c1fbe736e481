//! A store on real time that remembers what it said and when, and a test's own processes.

use std::collections::HashMap;
use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture, SystemClock};
use secret_resolver::{
    Clock, Error, ErrorKind, Moment, Record, Secret, SecretBuf, SecretResolver, Version,
};

/// The clock of all tests: `CLOCK_BOOTTIME`, so that its moments compare with any resolver's.
pub(crate) fn now() -> Moment {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    CLOCK.get_or_init(|| SystemClock::shared().unwrap()).now()
}

pub(crate) fn since(moment: Moment) -> Duration {
    now().since(moment)
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) async fn pause(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// A test that hangs fails, instead of keeping the run waiting.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(limit, future).await;
    ended.unwrap_or_else(|_| panic!("it has not ended within {limit:?}"))
}

/// What the store does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    Value,
    Error(ErrorKind),
    /// Throttled, to come back after this time.
    Throttled(Duration),
    /// Takes its time.
    After(Duration, Box<Say>),
    /// Never answers.
    Hang,
    /// Blocks the thread that polls it, as a store must not.
    Block(Duration),
}

impl Say {
    pub(crate) fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

/// One request as the store saw it. A value contains its number, so that each answer leads back here.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) sent: Moment,
    /// When it was answered, and by which error.
    pub(crate) answered: Option<(Moment, Option<ErrorKind>)>,
}

type Script = dyn Fn(&str) -> Say + Send + Sync;

/// A store in memory. Every name is there, in version 1 until it is rotated. A clone shares it.
#[derive(Clone)]
pub(crate) struct Store(Arc<Shared>);

struct Shared {
    backend: &'static str,
    script: Mutex<Arc<Script>>,
    calls: Mutex<Vec<Call>>,
    versions: Mutex<HashMap<String, u64>>,
    of_all: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.backend)
    }
}

impl Store {
    /// A store that answers at once.
    pub(crate) fn new(backend: &'static str) -> Self {
        Self(Arc::new(Shared {
            backend,
            script: Mutex::new(Arc::new(|_| Say::Value)),
            calls: Mutex::default(),
            versions: Mutex::default(),
            of_all: AtomicU64::new(1),
        }))
    }

    pub(crate) fn saying(backend: &'static str, say: Say) -> Self {
        let store = Self::new(backend);
        store.says(say);
        store
    }

    /// What it says from now on.
    pub(crate) fn says(&self, say: Say) {
        self.script(move |_| say.clone());
    }

    /// What it says from now on, by name.
    pub(crate) fn script(&self, script: impl Fn(&str) -> Say + Send + Sync + 'static) {
        *self.0.script.lock().unwrap() = Arc::new(script);
    }

    pub(crate) fn rotate(&self, name: &str) {
        let mut versions = self.0.versions.lock().unwrap();
        *versions.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn rotate_all(&self) {
        self.0.of_all.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn version(&self, name: &str) -> u64 {
        let own = self.0.versions.lock().unwrap().get(name).copied();
        self.0.of_all.load(Ordering::SeqCst) + own.unwrap_or(0)
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> usize {
        self.0.calls.lock().unwrap().len()
    }

    pub(crate) fn call(&self, number: usize) -> Call {
        self.0.calls.lock().unwrap()[number].clone()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    /// The requests that were sent at or after this moment.
    pub(crate) fn calls_from(&self, moment: Moment) -> Vec<Call> {
        let calls = self.0.calls.lock().unwrap();
        let first = calls.partition_point(|call| call.sent < moment);
        calls[first..].to_vec()
    }

    /// The request which this secret is the answer to.
    pub(crate) fn call_of(&self, secret: &Secret) -> Call {
        self.call(number_of(secret))
    }

    fn take(&self, name: &str) -> (usize, u64, Say) {
        let version = self.version(name);
        let script = Arc::clone(&self.0.script.lock().unwrap());
        let say = script(name);
        let mut calls = self.0.calls.lock().unwrap();
        calls.push(Call {
            name: name.to_owned(),
            version,
            sent: now(),
            answered: None,
        });
        (calls.len() - 1, version, say)
    }

    fn answered(&self, number: usize, error: Option<ErrorKind>) {
        self.0.calls.lock().unwrap()[number].answered = Some((now(), error));
    }

    fn record(&self, name: &str, number: usize, version: u64) -> Result<Record, Error> {
        let text = format!("{name} v{version} #{number}");
        Record::builder(self.0.backend)
            .field("", SecretBuf::from_slice(text.as_bytes())?)
            .version(Version::number(version))
            .build()
    }
}

impl SecretResolver for Store {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let name = request.name().as_str();
            let (number, version, mut say) = self.take(name);
            loop {
                let error = match say {
                    Say::Value => {
                        self.answered(number, None);
                        return request.admit(self.record(name, number, version)?);
                    }
                    Say::After(time, then) => {
                        tokio::time::sleep(time).await;
                        say = *then;
                        continue;
                    }
                    Say::Block(time) => {
                        std::thread::sleep(time);
                        say = Say::Value;
                        continue;
                    }
                    Say::Hang => std::future::pending().await,
                    Say::Throttled(time) => {
                        Error::new(ErrorKind::Throttled, "by the test").with_retry_after(time)
                    }
                    Say::Error(kind) => Error::new(kind, "by the test"),
                };
                self.answered(number, Some(error.kind()));
                return Err(error.with_backend(self.0.backend));
            }
        })
    }
}

/// The number of the request that this secret is the answer to.
pub(crate) fn number_of(secret: &Secret) -> usize {
    let text = secret.expose_str().unwrap();
    text.rsplit_once('#').unwrap().1.parse().unwrap()
}

pub(crate) fn version_of(secret: &Secret) -> u64 {
    secret.version().as_number().unwrap()
}

/// The largest of some times, and the middle one.
pub(crate) fn worst_and_middle(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() - 1], times[times.len() / 2])
}

/// Runs an ignored test of this program in its own process, for at most `limit`.
pub(crate) fn in_a_process(test: &str, limit: Duration) {
    let said = end_of(&mut start(test, &[]), limit);
    assert!(said.is_ok(), "{test}: {}", said.unwrap_err());
}

/// Starts an ignored test of this program in its own process.
pub(crate) fn start(test: &str, environment: &[(&str, &str)]) -> Child {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args([test, "--exact", "--ignored", "--test-threads=1"])
        .arg("--nocapture")
        // To look up the lines of a backtrace takes a second of all that is measured here.
        .env("RUST_BACKTRACE", "0")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    process.spawn().unwrap()
}

/// Waits until the process has ended; returns what it said when it did not pass.
pub(crate) fn end_of(child: &mut Child, limit: Duration) -> Result<(), String> {
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |pipe: &mut dyn std::io::Read| {
        let mut said = Vec::new();
        let _ = pipe.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    // Read while it runs: a pipe that is full would hold it up.
    let out = std::thread::spawn(move || read(&mut out));
    let err = std::thread::spawn(move || read(&mut err));
    let begun = now();
    let ended = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if since(begun) > limit => break None,
            None => std::thread::sleep(ms(20)),
        }
    };
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let said = format!("{}{}", out.join().unwrap(), err.join().unwrap());
    match ended {
        Some(status) if status.success() && said.contains("1 passed") => Ok(()),
        Some(status) => Err(format!("{status}\n{said}")),
        None => Err(format!("it has not ended within {limit:?}\n{said}")),
    }
}
