//! When a shutdown asks again, and how long it waits for each endpoint.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretBuf, ShutdownReport};
use secret_resolver_session::{Grant, Issued, Session, Store, Waiting};

/// What an endpoint answers to a revocation.
#[derive(Clone, Copy)]
enum Says {
    Revoked,
    /// It wants to be left alone for so long.
    Throttled(Duration),
    Nothing,
}

/// A store whose endpoints answer revocations by a script.
struct Scripted {
    endpoints: usize,
    script: Mutex<Vec<Says>>,
    /// Which endpoints were asked for a revocation, and how long after the start.
    asked: Mutex<Vec<(usize, Duration)>>,
    clock: ManualClock,
}

impl Store for Scripted {
    const NAME: &'static str = "scripted";
    type Credentials = u8;

    fn method(&self) -> &'static str {
        "key"
    }

    fn issues_tokens(&self) -> bool {
        true
    }

    fn endpoints(&self) -> usize {
        self.endpoints
    }

    fn endpoint(&self) -> usize {
        0
    }

    async fn load(&self) -> Result<u8, Error> {
        Ok(1)
    }

    async fn login(&self, _: &u8, _: Option<usize>, _: &Waiting) -> Result<Issued, Error> {
        Ok(Issued {
            token: Arc::new(SecretBuf::from_slice(b"t").unwrap()),
            grant: Grant {
                lease: None,
                renewable: false,
            },
            revocable: true,
            unfit: None,
        })
    }

    async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> {
        unreachable!()
    }

    async fn revoke(&self, _: &SecretBuf, endpoint: Option<usize>) -> Result<(), Error> {
        let at = self.clock.now().since(secret_resolver::Moment::ZERO);
        self.asked.lock().unwrap().push((endpoint.unwrap(), at));
        let says = self.script.lock().unwrap().remove(0);
        match says {
            Says::Revoked => Ok(()),
            Says::Throttled(wait) => {
                let error = Error::new(ErrorKind::Throttled, "of the test's own making");
                Err(error.with_retry_after(wait))
            }
            Says::Nothing => std::future::pending().await,
        }
    }

    async fn knows(&self, _: &SecretBuf, _: Option<usize>) -> Result<bool, Error> {
        Ok(true)
    }
}

const TIME: Duration = Duration::from_secs(4);

/// A shutdown that has four seconds: its report, and when each endpoint was asked.
async fn shutdown(endpoints: usize, script: &[Says]) -> (ShutdownReport, Vec<(usize, Duration)>) {
    let clock = ManualClock::strict();
    let store = Scripted {
        endpoints,
        script: Mutex::new(script.to_vec()),
        asked: Mutex::default(),
        clock: clock.clone(),
    };
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let session = Arc::new(Session::new(store, shared));
    session.attempt(None).token(None).await.unwrap();
    let end = clock.now() + TIME;
    let ending = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.shutdown(end).await }
    });
    // Time passes only as far as the shutdown waits for it.
    while !ending.is_finished() {
        tokio::task::yield_now().await;
        if let Some(next) = clock.next_wake() {
            clock.advance(next.since(clock.now()));
        }
    }
    let asked = session.store().asked.lock().unwrap().clone();
    (ending.await.unwrap(), asked)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn a_store_that_names_a_time_is_left_alone_until_then() {
    let script = [Says::Throttled(millis(3_000)), Says::Revoked];
    let (report, asked) = shutdown(1, &script).await;
    assert_eq!(asked, [(0, Duration::ZERO), (0, millis(3_000))]);
    assert_eq!((report.revoked, report.not_revoked), (1, 0));
}

#[tokio::test]
async fn a_store_that_names_the_deadline_or_later_is_asked_again_as_if_it_named_none() {
    for named in [TIME, TIME * 2] {
        let script = [Says::Throttled(named), Says::Revoked];
        let (report, asked) = shutdown(1, &script).await;
        assert_eq!(asked, [(0, Duration::ZERO), (0, millis(250))]);
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
    }
}

#[tokio::test]
async fn each_endpoint_that_is_left_has_its_share_of_the_time() {
    let script = [Says::Nothing, Says::Nothing, Says::Revoked];
    let (report, asked) = shutdown(3, &script).await;
    let third = TIME / 3;
    let second = third + (TIME - third) / 2;
    assert_eq!(asked, [(0, Duration::ZERO), (1, third), (2, second)]);
    assert_eq!((report.revoked, report.not_revoked), (1, 0));
}
