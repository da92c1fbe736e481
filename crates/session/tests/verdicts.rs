//! What is known about one token says nothing about the next, and what a question has shown is not asked twice.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretBuf};
use secret_resolver_session::{Grant, Issued, Session, Store, Token, Verdict, Waiting};
use tokio::sync::Notify;

/// Shorter than a question may take.
const LEASE: Duration = Duration::from_secs(2);

/// Gives tokens that are numbers, from 1 on.
struct Numbers {
    asked: Mutex<Asked>,
    endpoints: usize,
    lease: Duration,
}

#[derive(Default)]
struct Asked {
    logins: u8,
    /// Which tokens were looked up.
    lookups: Vec<u8>,
    /// Which tokens it knows; about others it does not answer.
    known: Vec<(u8, bool)>,
    /// What the next lookup waits for, to fail then.
    fails: Option<Arc<Notify>>,
}

impl Store for Numbers {
    const NAME: &'static str = "numbers";
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
        let mut asked = self.asked.lock().unwrap();
        asked.logins += 1;
        let token = SecretBuf::from_slice(&[asked.logins]).unwrap();
        let grant = Grant {
            lease: Some(self.lease),
            renewable: false,
        };
        Ok(Issued {
            token: Arc::new(token),
            grant,
            revocable: true,
            unfit: None,
        })
    }

    async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> {
        unreachable!()
    }

    async fn revoke(&self, _: &SecretBuf, _: Option<usize>) -> Result<(), Error> {
        Ok(())
    }

    async fn knows(&self, token: &SecretBuf, _: Option<usize>) -> Result<bool, Error> {
        let number = token.expose()[0];
        let (answer, fails) = {
            let mut asked = self.asked.lock().unwrap();
            asked.lookups.push(number);
            let known = asked.known.iter().find(|(known, _)| *known == number);
            (known.map(|(_, answer)| *answer), asked.fails.take())
        };
        if let Some(fails) = fails {
            fails.notified().await;
            return Err(Error::new(ErrorKind::Unavailable, "electing"));
        }
        match answer {
            Some(answer) => Ok(answer),
            None => std::future::pending().await,
        }
    }
}

fn session(known: &[(u8, bool)]) -> (ManualClock, Session<Numbers>) {
    let asked = Asked {
        known: known.to_vec(),
        ..Asked::default()
    };
    session_with(Numbers {
        asked: Mutex::new(asked),
        endpoints: 1,
        lease: LEASE,
    })
}

fn session_with(store: Numbers) -> (ManualClock, Session<Numbers>) {
    let clock = ManualClock::strict();
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    (clock, Session::new(store, shared))
}

/// The token in use, which is to be this one.
async fn token(session: &Session<Numbers>, number: u8) -> Arc<Token> {
    let token = session.attempt(None).token(None).await.unwrap();
    assert_eq!(token.secret().expose(), [number]);
    token
}

fn lookups(session: &Session<Numbers>) -> Vec<u8> {
    session.store().asked.lock().unwrap().lookups.clone()
}

#[tokio::test]
async fn an_old_tokens_life_proves_nothing_about_a_new_one() {
    let (clock, session) = session(&[(1, true), (2, false)]);
    let old = token(&session, 1).await;
    // Taken before anything was looked up, as for a read that is slow.
    let sent = session.mark();
    let verdict = session.judge(&old, sent, 0, false).await.unwrap();
    assert_eq!(verdict, Verdict::Denied);
    clock.advance(LEASE);
    let new = token(&session, 2).await;
    // The old one is not in use any more, although it lives.
    let verdict = session.judge(&old, sent, 0, false).await.unwrap();
    assert_eq!((verdict, lookups(&session)), (Verdict::Replaced, vec![1]));
    let verdict = session.judge(&new, sent, 0, false).await.unwrap();
    assert_eq!((verdict, lookups(&session)), (Verdict::Dead, vec![1, 2]));
    // Its death says nothing about the old one, which was replaced.
    let verdict = session.judge(&old, sent, 0, false).await.unwrap();
    assert_eq!(
        (verdict, lookups(&session)),
        (Verdict::Replaced, vec![1, 2])
    );
}

#[tokio::test]
async fn a_question_about_an_old_token_is_not_an_answer_about_a_new_one() {
    let (clock, session) = session(&[(2, true)]);
    let session = Arc::new(session);
    let old = token(&session, 1).await;
    let sent = session.mark();
    let hangs = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.judge(&old, sent, 0, false).await }
    });
    while lookups(&session).is_empty() {
        tokio::task::yield_now().await;
    }
    clock.advance(LEASE);
    let new = token(&session, 2).await;
    let judge = session.judge(&new, sent, 0, false);
    let verdict = tokio::time::timeout(Duration::from_secs(10), judge).await;
    let verdict = verdict.expect("it waits for another token's answer");
    assert_eq!(verdict.unwrap(), Verdict::Denied);
    assert_eq!(lookups(&session), [1, 2]);
    assert!(hangs.await.unwrap().is_err());
}

#[tokio::test]
async fn a_lookup_that_was_sent_before_a_read_and_fails_is_not_an_answer_to_it() {
    let (_clock, session) = session(&[(1, true)]);
    let token = token(&session, 1).await;
    let fails = Arc::new(Notify::new());
    session.store().asked.lock().unwrap().fails = Some(Arc::clone(&fails));
    let before = session.mark();
    let early = session.judge(&token, before, 0, false);
    let late = async {
        while lookups(&session).is_empty() {
            tokio::task::yield_now().await;
        }
        let sent = session.mark();
        fails.notify_one();
        session.judge(&token, sent, 0, false).await
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(late.unwrap(), Verdict::Denied);
    assert_eq!(lookups(&session), [1, 1]);
}

/// Waits until so many lookups were sent.
async fn looked_up(session: &Session<Numbers>, number: usize) {
    let sent = async {
        while lookups(session).len() < number {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), sent).await;
    assert!(in_time.is_ok(), "no further lookup is sent");
}

#[tokio::test]
async fn a_lookup_that_failed_after_a_read_was_sent_is_the_answer_to_it_later_too() {
    let (_clock, session) = session(&[(1, true)]);
    let token = token(&session, 1).await;
    let fails = Arc::new(Notify::new());
    fails.notify_one();
    session.store().asked.lock().unwrap().fails = Some(fails);
    let sent = session.mark();
    for _ in 0..3 {
        let error = session.judge(&token, sent, 0, false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(lookups(&session), [1]);
    }
    // A read that was sent since is another question.
    let later = session.mark();
    let verdict = session.judge(&token, later, 0, false).await.unwrap();
    assert_eq!((verdict, lookups(&session)), (Verdict::Denied, vec![1, 1]));
}

#[tokio::test]
async fn once_a_new_token_can_look_itself_up_refusals_are_looked_into_again() {
    let (clock, session) = session(&[(1, false), (2, false), (3, true)]);
    let first = token(&session, 1).await;
    let verdict = session.judge(&first, session.mark(), 0, false).await;
    assert_eq!(verdict.unwrap(), Verdict::Dead);
    // The next one may not look either: this login's tokens may not look, as it seems.
    let second = token(&session, 2).await;
    let verdict = session.judge(&second, session.mark(), 0, true).await;
    assert_eq!(verdict.unwrap(), Verdict::Denied);
    clock.advance(LEASE);
    let third = token(&session, 3).await;
    looked_up(&session, 4).await;
    tokio::task::yield_now().await;
    let verdict = session.judge(&third, session.mark(), 0, false).await;
    assert_eq!(verdict.unwrap(), Verdict::Denied);
    assert_eq!(lookups(&session), [1, 2, 2, 3, 3]);
}

#[tokio::test]
async fn a_question_that_no_endpoint_answers_is_over_after_two_seconds() {
    let (clock, session) = session_with(Numbers {
        asked: Mutex::default(),
        endpoints: 3,
        lease: LEASE * 100,
    });
    let session = Arc::new(session);
    let token = token(&session, 1).await;
    let judge = || {
        let (session, token) = (Arc::clone(&session), Arc::clone(&token));
        let sent = session.mark();
        tokio::spawn(async move { session.judge(&token, sent, 0, false).await })
    };
    let first = judge();
    looked_up(&session, 1).await;
    clock.advance(Duration::from_millis(500));
    looked_up(&session, 3).await;
    clock.advance(Duration::from_millis(500));
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    clock.advance(Duration::from_secs(1));
    let second = judge();
    looked_up(&session, 4).await;
    second.abort();
}
