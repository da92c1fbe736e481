//! The tokens that a sidecar writes into a file. How long one lives is counted from when it was first seen; that the file is looked at
//! again each minute replaces it before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secret_resolver::{Clock, Error, ErrorKind, Moment, SecretBuf};
use secret_resolver_session::{Credential, Grant, Issued};

use crate::{error, wire};

/// How long a token is used before the file is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What stood in the file.
#[derive(Clone)]
pub(crate) struct Written {
    text: Arc<SecretBuf>,
    dies: Moment,
}

/// Two are the same when their texts are: both have lived since the first was seen.
impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The last that was seen.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Option<Written>>);

impl Seen {
    /// What stands in the file now. A token whose life is over is not one: the sidecar may write another soon.
    pub(crate) async fn load(
        &self,
        file: &Credential,
        clock: &dyn Clock,
    ) -> Result<Written, Error> {
        let text = file.load().await?;
        let now = clock.now();
        let written = {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.as_ref().is_none_or(|seen| seen.text != text) {
                // That a text is not a token is the login's error.
                let life = wire::token(text.expose()).map_or(LOOK_AGAIN, |token| token.life);
                let dies = now + life;
                *seen = Some(Written { text, dies });
            }
            seen.clone()
        };
        let living = written.filter(|written| now < written.dies);
        living.ok_or_else(|| file.located(over().held_back()))
    }
}

impl Written {
    /// When the file is to be looked at again, at the latest.
    pub(crate) fn ends(&self, now: Moment) -> Moment {
        self.dies.min(now + LOOK_AGAIN)
    }

    /// Whether it is the administrator's.
    pub(crate) fn of_admin(&self) -> bool {
        wire::token(self.text.expose()).is_ok_and(|token| token.of_admin)
    }

    /// The token. Somebody else renews it, so at its end the file is looked at, and nobody is refused.
    pub(crate) fn issued(&self, file: &Credential) -> Result<Issued, Error> {
        let token = wire::token(self.text.expose()).map_err(|_| {
            file.located(error::misconfigured(
                "the file has no access token of Conjur, in JSON or base64",
            ))
        })?;
        Ok(Issued {
            token: Arc::new(token.header),
            grant: Grant {
                lease: None,
                renewable: true,
            },
            revocable: false,
            unfit: None,
        })
    }
}

fn over() -> Error {
    error::new(
        ErrorKind::Unauthenticated,
        "the life of the access token in the file is over; does the sidecar run that writes it?",
    )
}
