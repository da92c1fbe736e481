//! A backend that answers what a test has set, call by call, and counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::name::{NameRef, SecretName};
use crate::resolver::{
    Excess, ExcessFuture, Request, ResolveFuture, SecretResolver, ShutdownFuture, ShutdownReport,
};
use crate::secret::{Record, SecretBuf, Version};
use crate::sync::lock;

/// A store in memory. A clone shares it, so that a test keeps one end and gives the other away.
///
/// Names with one path are fields of one record, whose version rises with each change.
///
/// ```
/// use secret_resolver::{ErrorKind, Resolver, testing::{MockBackend, Reply}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = MockBackend::new().with_value("prod/token", "t0k3n");
/// backend.script("prod/token", [Reply::Error(ErrorKind::Unavailable)]);
/// let resolver = Resolver::builder(backend.clone()).with_attempts(1).build()?;
///
/// let refused = resolver.get("prod/token").await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Unavailable);
/// assert_eq!(resolver.get("prod/token").await?.expose_str()?, "t0k3n");
/// assert_eq!(backend.calls(), 2);
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct MockBackend(Arc<Shared>);

/// What the mock does with one call. The value is the one stored when the call came, even where
/// the answer comes later.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// Answers what is stored.
    Stored,
    /// Answers an error of this kind.
    Error(ErrorKind),
    /// Does `then` once the given time has passed on the mock's clock.
    Delay(Duration, Box<Reply>),
    /// Does `then` once the gate is open.
    Gate(Gate, Box<Reply>),
    /// Never answers.
    Hang,
    /// Panics, as a backend must not.
    Panic,
}

/// Holds answers back until a test opens it. A clone is the same gate.
///
/// ```
/// use secret_resolver::testing::{Gate, Reply};
///
/// let gate = Gate::new();
/// let held_back = gate.then(Reply::Stored);
/// gate.open();
/// # drop(held_back);
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

struct Shared {
    state: Mutex<State>,
    calls: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    records: HashMap<String, Stored>,
    scripts: HashMap<String, VecDeque<Reply>>,
    always: Option<Reply>,
    calls: HashMap<String, usize>,
    clock: Option<Arc<dyn Clock>>,
    closed: bool,
    identity: u64,
    at_once: usize,
    excess: Vec<Excess>,
}

#[derive(Clone, Default)]
struct Stored {
    version: u64,
    lease: Option<Duration>,
    conditional: bool,
    // Wiped, so that a test which looks for copies of a value finds none that the mock made.
    fields: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl MockBackend {
    /// An empty store that answers at once.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            calls: watch::Sender::new(0),
        }))
    }

    /// With a value under `name`.
    ///
    /// # Panics
    /// When the name is not a valid one.
    #[must_use]
    pub fn with_value(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.set(name, value);
        self
    }

    /// Reading up to so many names in one call, as a store with batch reads does. A call is counted once, and for each of its
    /// names; a scripted outage of the first name is one of the whole call.
    #[must_use]
    pub fn reading_at_once(self, names: usize) -> Self {
        lock(&self.0.state).at_once = names;
        self
    }

    /// With a clock for delays.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        lock(&self.0.state).clock = Some(Arc::new(clock));
        self
    }

    /// Writes a value: the record's version rises by one.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn set(&self, name: &str, value: impl AsRef<[u8]>) {
        let name = valid(name);
        let mut state = lock(&self.0.state);
        let stored = state.records.entry(name.path().to_owned()).or_default();
        stored.version += 1;
        let field = name.field().unwrap_or_default().to_owned();
        let value = Zeroizing::new(value.as_ref().to_vec());
        stored.fields.insert(field, value);
    }

    /// Gives the record of `name` a lease.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn set_lease(&self, name: &str, lease: Duration) {
        let name = valid(name);
        let mut state = lock(&self.0.state);
        state
            .records
            .entry(name.path().to_owned())
            .or_default()
            .lease = Some(lease);
    }

    /// Sets the version of the record of `name`, as a store that was restored from a backup would.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn set_version(&self, name: &str, version: u64) {
        let name = valid(name);
        let mut state = lock(&self.0.state);
        state
            .records
            .entry(name.path().to_owned())
            .or_default()
            .version = version;
    }

    /// Answers reads of `name` that hold the current version with "unchanged", as a store with
    /// conditional reads does.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn set_conditional(&self, name: &str) {
        let name = valid(name);
        let mut state = lock(&self.0.state);
        state
            .records
            .entry(name.path().to_owned())
            .or_default()
            .conditional = true;
    }

    /// Makes the mock appear under a new login.
    pub fn set_identity(&self, identity: u64) {
        lock(&self.0.state).identity = identity;
    }

    /// What the mock's identity may do beyond reading; none of it by default: for a test of a start with
    /// [`least_privilege`](crate::ResolverBuilder::require_least_privilege).
    pub fn set_excess(&self, excess: impl IntoIterator<Item = Excess>) {
        lock(&self.0.state).excess = excess.into_iter().collect();
    }

    /// Removes the whole record of `name`.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn remove(&self, name: &str) {
        lock(&self.0.state).records.remove(valid(name).path());
    }

    /// The replies to the next calls for the record of `name`, one a call; then it goes on as
    /// before.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn script(&self, name: &str, replies: impl IntoIterator<Item = Reply>) {
        let name = valid(name);
        let mut state = lock(&self.0.state);
        let script = state.scripts.entry(name.path().to_owned()).or_default();
        script.extend(replies);
    }

    /// The reply to the `number`-th call from now on for the record of `name`, counted from 1; the
    /// calls before it are answered from the store.
    ///
    /// # Panics
    /// When the name is not a valid one.
    pub fn on_call(&self, name: &str, number: usize, reply: Reply) {
        let before = std::iter::repeat_n(Reply::Stored, number.saturating_sub(1));
        self.script(name, before.chain([reply]));
    }

    /// The reply to every call that no script answers; `None` for what is stored.
    pub fn always(&self, reply: impl Into<Option<Reply>>) {
        lock(&self.0.state).always = reply.into();
    }

    /// How many calls there were in all.
    #[must_use]
    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// How many calls there were for the record of `name`.
    ///
    /// # Panics
    /// When the name is not a valid one.
    #[must_use]
    pub fn calls_of(&self, name: &str) -> usize {
        let state = lock(&self.0.state);
        state.calls.get(valid(name).path()).copied().unwrap_or(0)
    }

    /// Waits until there were at least `number` calls in all.
    pub async fn called(&self, number: usize) {
        let mut calls = self.0.calls.subscribe();
        // It cannot fail: the sender is part of `self`.
        let _ = calls.wait_for(|calls| *calls >= number).await;
    }

    /// Takes a call in.
    fn take(&self, name: NameRef<'_>) -> Taken {
        let mut state = lock(&self.0.state);
        *state.calls.entry(name.path().to_owned()).or_default() += 1;
        let scripted = state
            .scripts
            .get_mut(name.path())
            .and_then(VecDeque::pop_front);
        let reply = match scripted {
            _ if state.closed => Reply::Error(ErrorKind::Closed),
            Some(reply) => reply,
            None => state.always.clone().unwrap_or(Reply::Stored),
        };
        Taken {
            reply,
            stored: state.records.get(name.path()).cloned(),
            clock: state.clock.clone(),
        }
    }
}

impl Gate {
    /// A gate that is shut.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets all answers out that wait for it, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// A reply that waits for this gate.
    #[must_use]
    pub fn then(&self, reply: Reply) -> Reply {
        Reply::Gate(self.clone(), Box::new(reply))
    }
}

impl SecretResolver for MockBackend {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let own = self.take(request.name());
        let others = request.batch().map(|batch| {
            let taken: Vec<_> = batch.names().map(|name| self.take(name)).collect();
            (batch, taken)
        });
        let future = async move {
            let answer = own.answer(request).await;
            let failed = |error: &Error| !error.kind().is_of_the_secret();
            let Some((batch, taken)) = others.filter(|_| !answer.as_ref().is_err_and(failed))
            else {
                return answer;
            };
            for (place, (name, taken)) in batch.names().zip(taken).enumerate() {
                batch.answer(place, taken.answer(Request::new(name)).await);
            }
            answer
        };
        // Counted once the reply is settled, so that a waiter for the call finds it taken in.
        self.0.calls.send_modify(|calls| *calls += 1);
        ResolveFuture::new(future)
    }

    fn at_once(&self, _: &Request<'_>) -> usize {
        lock(&self.0.state).at_once.max(1)
    }

    /// Not a call: it is not counted.
    fn excess<'a>(&'a self, _: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::ready(Ok(lock(&self.0.state).excess.clone()))
    }

    fn identity(&self) -> u64 {
        lock(&self.0.state).identity
    }

    fn shutdown(&self, _deadline: Moment) -> ShutdownFuture<'_> {
        lock(&self.0.state).closed = true;
        ShutdownFuture::ready(ShutdownReport::default())
    }
}

/// A call that was taken in: what is answered, and from which state of the store.
struct Taken {
    reply: Reply,
    stored: Option<Stored>,
    clock: Option<Arc<dyn Clock>>,
}

impl Taken {
    async fn answer(self, request: Request<'_>) -> Result<Record, Error> {
        let mut reply = self.reply;
        loop {
            match reply {
                Reply::Stored => return answer(self.stored, request),
                Reply::Error(kind) => {
                    return Err(Error::new(kind, "scripted by the test").with_backend("mock"));
                }
                Reply::Delay(time, then) => {
                    let Some(clock) = &self.clock else {
                        return Err(Error::new(
                            ErrorKind::Misconfigured,
                            "a delay needs a clock: MockBackend::with_clock",
                        ));
                    };
                    clock.sleep_until(clock.now() + time).await;
                    reply = *then;
                }
                Reply::Gate(gate, then) => {
                    let mut open = gate.0.subscribe();
                    let _ = open.wait_for(|open| *open).await;
                    reply = *then;
                }
                Reply::Hang => std::future::pending().await,
                Reply::Panic => panic!("scripted by the test"),
            }
        }
    }
}

fn answer(stored: Option<Stored>, request: Request<'_>) -> Result<Record, Error> {
    let not_found = |what| Err(Error::new(ErrorKind::NotFound, what).with_backend("mock"));
    let Some(stored) = stored else {
        return not_found("the mock has no such record");
    };
    let version = Version::number(stored.version);
    if stored.conditional && request.held().as_ref() == Some(&version) {
        return Ok(Record::unchanged("mock"));
    }
    let mut record = Record::builder("mock").version(version);
    for (field, value) in stored.fields {
        record = record.field(field, SecretBuf::from_slice(&value)?);
    }
    if let Some(lease) = stored.lease {
        record = record.lease(lease);
    }
    request.admit(record.build()?.select(request.name().field()))
}

fn valid(name: &str) -> SecretName {
    match SecretName::parse(name) {
        Ok(name) => name,
        Err(error) => panic!("the test names a secret that cannot be: {error}"),
    }
}

impl Default for MockBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MockBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockBackend")
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::SecretResolverExt as _;

    #[tokio::test]
    async fn a_reply_on_one_call_is_that_of_no_other() {
        for number in 1..4 {
            let store = MockBackend::new().with_value("a/b", "value");
            store.on_call("a/b", number, Reply::Error(ErrorKind::Denied));
            for call in 1..6 {
                let answer = store.get("a/b").await;
                assert_eq!(answer.is_err(), call == number, "{call} of {number}");
            }
        }
    }
}
