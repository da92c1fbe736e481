//! A session whose store has several endpoints that do not agree.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretBuf};
use secret_resolver_session::{Grant, Issued, Session, Store, Waiting};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Fake {
    current: AtomicUsize,
    moves: bool,
    logins: Arc<Mutex<Vec<usize>>>,
    revokes: Arc<AtomicUsize>,
    number: usize,
    first: ErrorKind,
    scene: u8,
}
impl Store for Fake {
    const NAME: &'static str = "fake";
    type Credentials = u8;
    fn method(&self) -> &'static str {
        "key"
    }
    fn issues_tokens(&self) -> bool {
        true
    }
    fn endpoints(&self) -> usize {
        self.number
    }
    fn endpoint(&self) -> usize {
        self.current.load(Relaxed)
    }
    async fn load(&self) -> Result<u8, Error> {
        Ok(1)
    }
    async fn login(&self, _: &u8, at: Option<usize>, _: &Waiting) -> Result<Issued, Error> {
        let at = at.unwrap_or_else(|| self.endpoint());
        self.logins.lock().unwrap().push(at);
        // A read at the same endpoint fails meanwhile: Vault's client moves on (`leave`).
        if self.moves {
            let _ = self
                .current
                .compare_exchange(at, (at + 1) % self.number, Relaxed, Relaxed);
        }
        if self.scene == 0 && at == 0 || self.scene == 2 {
            return Err(Error::new(self.first, "refused"));
        }
        let grant = Grant {
            lease: None,
            renewable: false,
        };
        Ok(Issued {
            token: Arc::new(SecretBuf::from_slice(b"t").unwrap()),
            grant,
            revocable: true,
            unfit: None,
        })
    }
    async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> {
        unreachable!()
    }
    async fn revoke(&self, _: &SecretBuf, at: Option<usize>) -> Result<(), Error> {
        if at == Some(0) {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "a lagging standby, or a proxy",
            ));
        }
        // The leader is away for two seconds.
        match self.revokes.fetch_add(1, Relaxed) {
            0..=7 => Err(Error::new(ErrorKind::Unavailable, "electing")),
            _ => Ok(()),
        }
    }
    async fn knows(&self, _: &SecretBuf, _: Option<usize>) -> Result<bool, Error> {
        Ok(true)
    }
}
fn fake(scene: u8, moves: bool, number: usize, first: ErrorKind) -> (Fake, Arc<Mutex<Vec<usize>>>) {
    let logins = Arc::default();
    (
        Fake {
            current: AtomicUsize::new(0),
            moves,
            logins: Arc::clone(&logins),
            revokes: Arc::default(),
            number,
            first,
            scene,
        },
        logins,
    )
}
#[tokio::test]
async fn a_shutdown_asks_until_its_deadline_even_if_one_endpoint_refuses() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let session = Session::new(fake(1, false, 2, ErrorKind::Denied).0, Arc::clone(&clock));
    session.attempt(None).token(Some(0)).await.unwrap();
    let report = session.shutdown(clock.now() + Duration::from_secs(6)).await;
    assert_eq!((report.revoked, report.not_revoked), (1, 0));
}
#[tokio::test]
async fn the_other_endpoint_is_asked_although_the_current_one_moved() {
    for number in [2, 3] {
        for first in [ErrorKind::Malformed, ErrorKind::Unauthenticated] {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
            let (store, logins) = fake(0, true, number, first);
            let answer = Session::new(store, clock).attempt(None).token(None).await;
            let asked = logins.lock().unwrap().clone();
            assert!(
                asked.iter().filter(|&&at| at == 0).count() == 1 && answer.is_ok(),
                "{number} endpoints, {first:?}: asked {asked:?}"
            );
        }
    }
}
#[tokio::test]
async fn a_refusal_is_confirmed_at_the_next_endpoint_whichever_was_first() {
    for (first, next) in [(0, 1), (1, 2), (2, 0)] {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
        let (store, logins) = fake(2, false, 3, ErrorKind::Denied);
        let error = Session::new(store, clock)
            .attempt(None)
            .token(Some(first))
            .await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(*logins.lock().unwrap(), [first, next]);
    }
}
