//! Retries on a manual clock: what their tests share. Each file has one idea.

mod attempts;
mod budget;
mod stack;
mod waits;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::name::NameRef;
use crate::secret::SecretBuf;
use crate::sync::lock;
use crate::testing::ManualClock;

const NAME: &str = "prod/db#password";

fn clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::strict();
    (clock.clone(), Arc::new(clock))
}

fn name() -> NameRef<'static> {
    NameRef::parse(NAME).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls to the end; lets time pass only as far as somebody waits for it.
fn drive<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll(future.as_mut()) {
            return output;
        }
        let next = clock.next_wake().expect("it waits for nothing");
        clock.advance(next.since(clock.now()));
    }
}

/// A store that fails as the test says, and notes when it was asked, and for what.
#[derive(Debug)]
struct Failing {
    clock: ManualClock,
    asked: Mutex<Vec<(Moment, String)>>,
    error: Mutex<Option<Error>>,
}

impl Failing {
    fn with(clock: &ManualClock, error: Error) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            asked: Mutex::default(),
            error: Mutex::new(Some(error)),
        })
    }

    fn asked(&self) -> usize {
        lock(&self.asked).len()
    }
}

impl SecretResolver for Failing {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let name = request.name().as_str().to_owned();
        lock(&self.asked).push((self.clock.now(), name));
        ResolveFuture::ready(match &*lock(&self.error) {
            Some(error) => Err(error.clone()),
            None => SecretBuf::from_slice(b"v").map(|value| Record::single("failing", value)),
        })
    }
}

fn failing(kind: ErrorKind) -> (ManualClock, Arc<Failing>, Retry<Arc<Failing>>) {
    failing_with(
        Error::new(kind, "asked for by the test"),
        RetryConfig::default(),
    )
}

fn failing_with(
    error: Error,
    config: RetryConfig,
) -> (ManualClock, Arc<Failing>, Retry<Arc<Failing>>) {
    let (manual, shared) = clock();
    let store = Failing::with(&manual, error);
    let retry = Retry::new(Arc::clone(&store), shared, config).unwrap();
    (manual, store, retry)
}
