//! Whether what a store answered may be held, and for how long.

use std::sync::Arc;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::cache::core::State;
use crate::layers::cache::landing::{Arrived, Asked, Landing, Next, Not};
use crate::layers::cache::life::{Life, Terms, shortened};
use crate::layers::cache::negative::Negatives;
use crate::layers::cache::seen::Order;
use crate::layers::cache::slot::{Detached, Slot};
use crate::secret::{Freshness, Record};

impl Landing {
    /// Holds what was fetched, if it may be.
    pub(super) fn judge(
        &self,
        state: &mut State,
        asked: &Asked,
        answer: Result<Record, Error>,
        ask_again: bool,
        out: &mut Vec<Detached>,
    ) -> Result<Arrived, Not> {
        let Self { core, flight, name } = self;
        let (name, address) = (name.borrowed(), &flight.address);
        // What an invalidation was about is fenced, an error like a value: the secret may have been
        // created since.
        let fenced =
            flight.is_fenced(asked.epoch) || core.store.was_signalled(asked.epoch, address, name);
        // It was this process that was late: the answer may be as old as the stop was long.
        let is_old = |error: &Error| error.kind().is_of_the_secret() && self.is_old_word(asked);
        if fenced || answer.as_ref().is_err_and(is_old) {
            return Err(Not::Next(Next::Repeat));
        }
        let answer = answer?;
        let backend = answer.answer().backend();
        // The attempt that was answered may have begun later than the fetch.
        let sent = answer.answer().fetched_at().unwrap_or(asked.began);
        if sent < asked.began || answer.answer().freshness() != Freshness::Fresh {
            let error = Error::new(
                ErrorKind::Misconfigured,
                "the store answers from a memory of its own, which no invalidation reaches; give the resolver what is behind it",
            );
            return Err(error.with_backend(backend).into());
        }
        let endpoint = answer.endpoint();
        let (record, lease_over) = self.whole(answer, asked, sent)?;
        let now = core.clock.now();
        let version = record.version();
        let verdict = state.seen.judge(address, version, asked.epoch, now);
        let new_life = match verdict {
            Order::Good => false,
            Order::NewLife => true,
            Order::RolledBack => {
                let refused = Error::new(
                    ErrorKind::Refused,
                    "the store answers a lower version than before; if it was restored on purpose, forget_version",
                );
                let refused = refused.with_backend(backend);
                return Err(match ask_again {
                    true => Not::Next(Next::RolledBack(endpoint, refused)),
                    false => Not::Said(refused),
                });
            }
        };
        let record = core.fits(record)?;
        let told = (backend, record.version().clone());
        let life = self.life(state, &record, lease_over, sent);
        let life = life.map_err(|error| match self.was_stopped(asked) {
            true => Not::Next(Next::Repeat),
            false => error.with_backend(backend).into(),
        })?;
        let answer = record.answer().timed(sent, life.expires);
        let record = record.with_answer(answer);
        let slot = Arc::new(Slot::new(address, &record, life, asked.epoch));
        out.extend(core.store.put(&slot)?);
        state.negatives.forget(address);
        Ok(Arrived {
            slot,
            told,
            new_life,
        })
    }

    /// Whether this process stood still for so long that the store's answer is out of date.
    fn is_old_word(&self, asked: &Asked) -> bool {
        let age = self.core.clock.now().since(asked.began);
        self.was_stopped(asked) && age >= Negatives::LONGEST
    }

    /// Whether this process stood still while the store was asked.
    fn was_stopped(&self, asked: &Asked) -> bool {
        self.core.clock.lost() > asked.lost
    }

    /// The record, which may be the one that is held, and when its lease is over.
    fn whole(&self, answer: Record, asked: &Asked, sent: Moment) -> Result<(Record, Moment), Not> {
        let lease = answer.lease();
        let lease_over = lease.map_or(Moment::NEVER, |lease| sent + lease);
        if !answer.is_unchanged() {
            return Ok((answer, lease_over));
        }
        let Some(offered) = &asked.held else {
            let error = Error::new(
                ErrorKind::Malformed,
                "the store answers \"unchanged\" to a read that offered no version",
            );
            return Err(error.with_backend(answer.answer().backend()).into());
        };
        // Evicted meanwhile, or over.
        let held = offered.record().ok_or(Not::Next(Next::Repeat))?;
        // What is unchanged has no new lease, unless it says so; all its other times are new.
        let over = lease.map_or(offered.life.lease_over, |_| lease_over);
        Ok((held.with_answer(answer.answer()), over))
    }

    fn life(
        &self,
        state: &mut State,
        record: &Record,
        lease_over: Moment,
        sent: Moment,
    ) -> Result<Life, Error> {
        let Self { core, flight, name } = self;
        let now = core.clock.now();
        let (name, address) = (name.borrowed(), &*flight.address);
        // An end that the backend itself has set counts like a lease.
        let over = record.answer().expires_at();
        let lease_over = over.map_or(lease_over, |over| over.min(lease_over));
        let lease_used = match lease_over {
            Moment::NEVER => Moment::NEVER,
            over => sent + shortened(over.since(sent)),
        };
        let wide = core.store.signals.latest(name.path(), address);
        Life::begin(Terms {
            asked: sent,
            now,
            ttl: shortened(*core.config.ttl.get(name.path())),
            lease_over,
            lease_used,
            stale: *core.config.stale.get(name.path()),
            unsettled: state
                .settling
                .trusted_for(address, Some(record.version()), now, wide),
        })
    }
}
