//! Two endpoints, of which one is sick in a way that is not an outage: an answer of the other that is lost is asked
//! for again, and soon.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::backend::{NameRef, Request, ResolveFuture};
use crate::layers::{Breaker, BreakerConfig, Retry, RetryConfig};
use crate::testing::{ManualClock, MockBackend};
use crate::{Clock, Error, ErrorKind, SecretResolver};

const NAME: &str = "prod/db#password";

#[derive(Debug)]
struct Two {
    bad: fn() -> Error,
    blips: Mutex<u32>,
    good: MockBackend,
    asked: Arc<Mutex<Vec<usize>>>,
}
impl SecretResolver for Two {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let at = request.endpoint().unwrap_or(0);
        self.asked.lock().unwrap().push(at);
        if at == 0 {
            return ResolveFuture::ready(Err((self.bad)()));
        }
        let mut blips = self.blips.lock().unwrap();
        if *blips > 0 {
            *blips -= 1;
            return ResolveFuture::ready(Err(Error::new(ErrorKind::Unavailable, "reset")));
        }
        self.good.resolve(request)
    }
    fn endpoints(&self) -> usize {
        2
    }
}
fn drive<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(out) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return out;
        }
        let next = clock.next_wake().unwrap();
        clock.advance(next.since(clock.now()));
    }
}
fn run(bad: fn() -> Error, warm: usize) {
    let manual = ManualClock::strict();
    let shared: Arc<dyn Clock> = Arc::new(manual.clone());
    let asked = Arc::default();
    let store = Arc::new(Two {
        bad,
        blips: Mutex::new(0),
        good: MockBackend::new()
            .with_value(NAME, "v")
            .with_value("a/b0#c", "v"),
        asked: Arc::clone(&asked),
    });
    let breaker = Breaker::new(
        Arc::clone(&store) as Arc<dyn SecretResolver>,
        Arc::clone(&shared),
        BreakerConfig::default(),
    )
    .unwrap();
    let retry = Retry::new(breaker, shared, RetryConfig::default()).unwrap();
    // The sick endpoint's breaker opens; the other answers all.
    for n in 0..warm {
        let name = format!("a/b{n}#c");
        store.good.set(&name, "v");
        let name = NameRef::parse(&name).unwrap();
        drive(&manual, retry.resolve(Request::new(name))).unwrap();
    }
    *store.blips.lock().unwrap() = 1;
    asked.lock().unwrap().clear();
    let began = manual.now();
    let request =
        Request::new(NameRef::parse(NAME).unwrap()).with_deadline(began + Duration::from_secs(4));
    let answer = drive(&manual, retry.resolve(request));
    let took = manual.now().since(began);
    assert!(
        answer.is_ok() && took < Duration::from_secs(1),
        "asked {:?}, took {took:?}: {:?}",
        asked.lock().unwrap(),
        answer.err()
    );
}
#[test]
fn a_lost_answer_is_asked_for_again_beside_an_endpoint_that_is_left_alone() {
    run(
        || Error::new(ErrorKind::Throttled, "429").with_retry_after(Duration::from_secs(10)),
        5,
    );
}
#[test]
fn a_lost_answer_is_asked_for_again_beside_a_long_wish_to_be_left_alone() {
    run(
        || Error::new(ErrorKind::Throttled, "429").with_retry_after(Duration::from_secs(10)),
        0,
    );
}
#[test]
fn a_lost_answer_is_asked_for_again_sooner_than_another_endpoint_wants() {
    run(
        || Error::new(ErrorKind::Throttled, "429").with_retry_after(Duration::from_secs(3)),
        0,
    );
}
#[test]
fn a_lost_answer_is_asked_for_again_beside_an_open_breaker_of_nonsense() {
    run(|| Error::new(ErrorKind::Refused, "cert"), 40);
}
#[test]
fn a_lost_answer_is_asked_for_again_beside_nonsense() {
    run(|| Error::new(ErrorKind::Refused, "cert"), 0);
}
