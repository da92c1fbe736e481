//! The breaker on a manual clock: what its tests share. Each file has one idea.

mod counting;
mod endpoints;
mod left_alone;
mod machine;
mod opening;
mod outside;
mod rates;
mod trials;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use std::sync::Mutex;

use super::endpoint::{Admission, Endpoint, Evidence};
use super::*;
use crate::name::NameRef;
use crate::secret::Record;
use crate::sync::lock;
use crate::testing::{ManualClock, MockBackend, Reply};

const NAME: &str = "prod/db#password";

type Answer<'a> = Pin<Box<ResolveFuture<'a>>>;

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match poll(&mut Box::pin(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A store of several endpoints, one mock each, what each says instead of its answer, and whether
/// requests are spread over them.
#[derive(Clone, Debug)]
struct Fleet(Vec<MockBackend>, Arc<Mutex<Vec<Option<Error>>>>, bool);

impl Fleet {
    fn new(endpoints: usize, spreads: bool) -> Self {
        let endpoint = |_| MockBackend::new().with_value(NAME, "v1");
        let says = Arc::new(Mutex::new(vec![None; endpoints]));
        Self((0..endpoints).map(endpoint).collect(), says, spreads)
    }

    fn calls(&self) -> Vec<usize> {
        self.0.iter().map(MockBackend::calls).collect()
    }
}

impl SecretResolver for Fleet {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let number = request.endpoint().unwrap_or(0);
        match self.0.get(number) {
            Some(endpoint) => {
                let answer = endpoint.resolve(request);
                match lock(&self.1)[number].clone() {
                    Some(error) => ResolveFuture::ready(Err(error)),
                    None => answer,
                }
            }
            None => ResolveFuture::ready(Err(Error::new(ErrorKind::NotFound, "no such endpoint"))),
        }
    }

    fn endpoints(&self) -> usize {
        self.0.len()
    }

    fn spreads(&self) -> bool {
        self.2
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        for endpoint in &self.0 {
            let _ = now(endpoint.shutdown(deadline));
        }
        ShutdownFuture::ready(crate::ShutdownReport::default())
    }
}

struct Bench {
    clock: ManualClock,
    fleet: Fleet,
    breaker: Breaker<Fleet>,
}

/// Of a store that spreads requests over its endpoints.
fn bench(endpoints: usize) -> Bench {
    bench_of(Fleet::new(endpoints, true), BreakerConfig::default())
}

/// Of a store that prefers its first endpoint.
fn preferring(endpoints: usize) -> Bench {
    bench_of(Fleet::new(endpoints, false), BreakerConfig::default())
}

fn bench_of(fleet: Fleet, config: BreakerConfig) -> Bench {
    let clock = ManualClock::strict();
    let breaker = Breaker::new(fleet.clone(), Arc::new(clock.clone()), config).unwrap();
    Bench {
        clock,
        fleet,
        breaker,
    }
}

fn request() -> Request<'static> {
    Request::new(NameRef::parse(NAME).unwrap())
}

impl Bench {
    /// The reply of every endpoint from now on; `None` for the stored value.
    fn all(&self, reply: impl Into<Option<Reply>>) {
        let reply = reply.into();
        for endpoint in &self.fleet.0 {
            endpoint.always(reply.clone());
        }
    }

    fn fail(&self) {
        self.all(Reply::Error(ErrorKind::Unavailable));
    }

    /// What an endpoint says from now on to every caller.
    fn says(&self, endpoint: usize, error: impl Into<Option<Error>>) {
        lock(&self.fleet.1)[endpoint] = error.into();
    }

    fn start(&self) -> Answer<'_> {
        self.start_for(NAME)
    }

    fn start_for<'a>(&'a self, name: &'a str) -> Answer<'a> {
        let name = NameRef::parse(name).unwrap();
        Box::pin(self.breaker.resolve(Request::new(name)))
    }

    /// One attempt that is over at once.
    fn ask(&self) -> Result<Record, Error> {
        self.ask_for(NAME)
    }

    fn ask_for(&self, name: &str) -> Result<Record, Error> {
        now(self.start_for(name))
    }

    fn kind(&self) -> Option<ErrorKind> {
        self.ask().err().map(|error| error.kind())
    }

    /// Whether an attempt for a name that was never answered is refused without any request, perhaps after
    /// a trial.
    fn refuses(&self) -> bool {
        self.refuses_for("never/answered")
    }

    fn refuses_for(&self, name: &str) -> bool {
        let before = self.fleet.calls();
        let answer = poll(&mut self.start_for(name));
        let asked = before != self.fleet.calls();
        match answer {
            Poll::Ready(answer) => {
                let refused = answer.is_err_and(|error| error.is_held_back());
                assert_ne!(refused, asked);
            }
            Poll::Pending => assert!(!asked, "the endpoint keeps it waiting"),
        }
        !asked
    }

    fn state(&self, endpoint: usize) -> BreakerState {
        self.breaker.monitor().status()[endpoint].breaker
    }

    fn failures(&self) -> u32 {
        self.breaker.monitor().status()[0].failures
    }

    /// Opens the breaker of a store with one endpoint.
    fn open(&self) {
        self.fail();
        for _ in 0..5 {
            assert!(!self.refuses());
        }
        assert!(matches!(self.state(0), BreakerState::Open { .. }));
    }
}

/// Draws below a limit, which depend on the seed alone (xorshift64).
fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move |below| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    }
}
