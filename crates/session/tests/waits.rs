//! What a read waits for whose time ends: the store, or the source of a credential.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretBuf};
use secret_resolver_session::{Grant, Issued, Session, Store, Waiting};

/// Long enough that no thread that is late for a moment changes what is found.
const ATTEMPT: Duration = Duration::from_millis(2400);
const NONE: Duration = Duration::ZERO;

/// Two endpoints. Each login takes the next of these times for its credential, and the last of them again and again.
struct Fake {
    sources: Mutex<Vec<Duration>>,
    /// How long a token lives; without it, no login is answered.
    lease: Option<Duration>,
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
        2
    }

    fn endpoint(&self) -> usize {
        0
    }

    async fn load(&self) -> Result<u8, Error> {
        let takes = {
            let mut sources = self.sources.lock().unwrap();
            match sources.len() {
                1 => sources[0],
                _ => sources.remove(0),
            }
        };
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        Ok(1)
    }

    async fn login(&self, _: &u8, _: Option<usize>, _: &Waiting) -> Result<Issued, Error> {
        let Some(lease) = self.lease else {
            return pending().await;
        };
        Ok(Issued {
            token: Arc::new(SecretBuf::from_slice(b"t")?),
            grant: Grant {
                lease: Some(lease),
                renewable: false,
            },
            revocable: false,
            unfit: None,
        })
    }

    async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> {
        unreachable!()
    }

    async fn revoke(&self, _: &SecretBuf, _: Option<usize>) -> Result<(), Error> {
        unreachable!()
    }

    async fn knows(&self, _: &SecretBuf, _: Option<usize>) -> Result<bool, Error> {
        unreachable!()
    }
}

fn session(sources: &[Duration], lease: Option<Duration>) -> (Arc<Session<Fake>>, Arc<dyn Clock>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let sources = Mutex::new(sources.to_vec());
    let session = Session::new(Fake { sources, lease }, Arc::clone(&clock));
    (Arc::new(session), clock)
}

/// How a read at the second endpoint ends, while the login of another is under way at the first.
async fn ends(source: Duration) -> Error {
    let (session, clock) = session(&[source], None);
    let other = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.attempt(None).token(Some(0)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    // It waits for that login for half a second, and then begins its own, when more than half of its time is over.
    let attempt = session.attempt(Some(clock.now() + ATTEMPT));
    let token = pin!(attempt.token(Some(1)));
    let read = attempt.run(token).await;
    other.abort();
    read.map(drop).unwrap_err()
}

fn is_of_the_source(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(error.is_held_back(), "{error}");
}

#[tokio::test]
async fn a_store_that_is_silent_is_an_outage_also_where_a_login_is_begun_late() {
    let error = ends(NONE).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_source_that_takes_half_of_the_time_is_none() {
    for source in [ATTEMPT / 4 * 3, ATTEMPT * 4] {
        is_of_the_source(&ends(source).await);
    }
}

#[tokio::test]
async fn a_read_that_comes_late_to_a_login_has_waited_little_for_its_source() {
    let (session, clock) = session(&[ATTEMPT * 2], None);
    let other = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.attempt(None).token(None).await.map(drop) }
    });
    tokio::time::sleep(ATTEMPT * 2 - ATTEMPT / 8).await;
    let attempt = session.attempt(Some(clock.now() + ATTEMPT));
    let token = pin!(attempt.token(None));
    let error = attempt.run(token).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    other.abort();
}

#[tokio::test]
async fn a_credential_that_came_late_for_one_login_is_not_forgotten_for_another() {
    let (session, clock) = session(&[ATTEMPT / 4 * 3, NONE], None);
    let attempt = session.attempt(Some(clock.now() + ATTEMPT));
    let other = tokio::spawn({
        let session = Arc::clone(&session);
        async move {
            tokio::time::sleep(ATTEMPT / 16 * 13).await;
            session.attempt(None).token(Some(1)).await.map(drop)
        }
    });
    let token = pin!(attempt.token(Some(0)));
    is_of_the_source(&attempt.run(token).await.map(drop).unwrap_err());
    other.abort();
}

#[tokio::test]
async fn a_read_that_needs_no_login_waits_for_no_source() {
    let lease = Duration::from_secs(6);
    let (session, clock) = session(&[NONE, ATTEMPT / 4 * 3, NONE], Some(lease));
    drop(session.attempt(None).token(None).await.unwrap());
    // Late enough that the next request begins a refresh.
    tokio::time::sleep(lease / 4 * 3).await;
    let (attempt, before) = (
        session.attempt(Some(clock.now() + ATTEMPT)),
        session.identity(),
    );
    let read = pin!(async {
        drop(attempt.token(None).await?);
        pending::<Result<(), Error>>().await
    });
    let error = attempt.run(read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Meanwhile, or a moment later on a busy machine, the refresh brings another token.
    let replaced = async {
        while session.identity() == before {
            tokio::time::sleep(ATTEMPT / 100).await;
        }
    };
    tokio::time::timeout(ATTEMPT, replaced).await.unwrap();
}
