//! What a read waits for whose time ends: the store, or the source of a credential.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretBuf};
use secret_resolver_session::{Grant, Issued, Session, Store};

const ATTEMPT: Duration = Duration::from_millis(800);

/// Two endpoints that take a login and say nothing; and a source that takes so long for a credential.
struct Silent {
    source: Duration,
}

impl Store for Silent {
    const NAME: &'static str = "silent";
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
        if !self.source.is_zero() {
            tokio::time::sleep(self.source).await;
        }
        Ok(1)
    }

    async fn login(&self, _: &u8, _: Option<usize>) -> Result<Issued, Error> {
        std::future::pending().await
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

/// How a read at the second endpoint ends, while the login of another is under way at the first.
async fn ends(source: Duration) -> Error {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let session = Arc::new(Session::new(Silent { source }, Arc::clone(&clock)));
    let other = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.token(Some(0)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    // It waits for that login for half a second, and then begins its own, when more than half of its time is over.
    let deadline = clock.now() + ATTEMPT;
    let token = pin!(session.token(Some(1)));
    let read = session.bounded(Some(deadline), token).await;
    other.abort();
    read.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_store_that_is_silent_is_an_outage_also_where_a_login_is_begun_late() {
    let error = ends(Duration::ZERO).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_source_that_takes_half_of_the_time_is_none() {
    for source in [ATTEMPT / 4 * 3, ATTEMPT * 4] {
        let error = ends(source).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.is_held_back(), "{error}");
    }
}
