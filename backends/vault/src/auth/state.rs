//! What a session knows, and what follows from it: pure decisions, told the time, under one lock.

use std::sync::Arc;

use secret_resolver::{Error, Moment, SecretBuf};

use crate::auth::Loaded;
use crate::auth::flight::Flight;
use crate::auth::gate::Gate;
use crate::auth::life::Life;
use crate::error;
use crate::wire::Grant;

#[derive(Default)]
pub(super) struct State {
    pub(super) live: Option<Live>,
    pub(super) errand: Option<Errand>,
    gate: Gate,
    pub(super) held: Option<Held>,
    /// The last token that died: one that was given to us is not sent again.
    spent: Option<Arc<SecretBuf>>,
    /// How many tokens were put into use.
    pub(super) issued: u64,
    pub(super) ended: bool,
    /// Whether a token that was issued after the end could be revoked.
    pub(super) late: Option<bool>,
}

pub(super) struct Live {
    pub(super) token: Arc<Token>,
    pub(super) life: Life,
}

pub(super) struct Errand {
    pub(super) flight: Flight,
    pub(super) is_login: bool,
}

/// The refusal that holds back logins with the same credentials.
pub(super) struct Held {
    until: Moment,
    loaded: Loaded,
    error: Error,
}

/// A token in use. The number tells tokens apart without looking at them.
pub(crate) struct Token {
    pub(super) secret: Arc<SecretBuf>,
    pub(super) number: u64,
}

impl Token {
    pub(crate) fn secret(&self) -> &SecretBuf {
        &self.secret
    }
}

impl State {
    /// The live token, if it is still this one.
    pub(super) fn live_of(&mut self, number: u64) -> Option<&mut Live> {
        self.live
            .as_mut()
            .filter(|live| live.token.number == number)
    }

    /// The new life of a renewed token, unless another is in use by now.
    pub(super) fn renewed(&mut self, number: u64, asked: Moment, grant: Grant) -> Option<Life> {
        let live = self.live_of(number)?;
        live.life = live.life.renewed(asked, grant);
        Some(live.life)
    }

    /// Whether this token is the one in use, and may still be sent.
    pub(super) fn uses(&self, token: &Token, now: Moment) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|live| live.token.number == token.number && !live.life.is_over(now))
    }

    /// This token is dead. One that is not `ours` may be given to us again; it is remembered.
    pub(super) fn bury(&mut self, number: u64, ours: bool) {
        if let Some(dead) = self.live.take_if(|live| live.token.number == number) {
            self.spent = (!ours).then(|| Arc::clone(&dead.token.secret));
        }
    }

    /// Whether a login with these credentials may be sent.
    pub(super) fn admit(&mut self, loaded: &Loaded, now: Moment) -> Result<(), Error> {
        if self.ended {
            return Err(error::closed());
        }
        if let (Loaded::Token(given), Some(spent)) = (loaded, &self.spent)
            && given == spent
        {
            return Err(error::unauthenticated(
                "the token that was given has died; give another",
            ));
        }
        if let Some(held) = &self.held {
            let same = held.loaded == *loaded;
            if same && now < held.until {
                return Err(held.error.clone().with_retry_after(held.until.since(now)));
            }
            if !same {
                // A changed credential ends the back-off.
                self.gate.accepted();
                self.held = None;
            }
        }
        self.gate.admit(now).map_err(|wait| {
            error::held_back(
                "logins are held back: there were too many; ask again later",
                wait,
            )
        })
    }

    /// Holds back logins with credentials that were refused. An outage refuses nothing.
    pub(super) fn hold(&mut self, loaded: Loaded, error: Error, now: Moment) {
        if !error.kind().permits().counts_for_breaker {
            let until = self.gate.refused(now, error.retry_after());
            self.held = Some(Held {
                until,
                loaded,
                error,
            });
        }
    }

    /// `false` when the session has ended meanwhile.
    pub(super) fn install(&mut self, secret: &Arc<SecretBuf>, life: Life) -> bool {
        if self.ended {
            return false;
        }
        self.gate.accepted();
        self.held = None;
        self.spent = None;
        self.issued += 1;
        let token = Arc::new(Token {
            secret: Arc::clone(secret),
            number: self.issued,
        });
        self.live = Some(Live { token, life });
        true
    }
}
