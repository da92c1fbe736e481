//! A flight's way: it fetches, and lands what may be held.

use std::sync::Arc;

use tracing::Instrument as _;

use crate::audit;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::cache::flight::{Flight, Outcome};
use crate::layers::cache::flights::{Flights, Flying, REFRESH_AGAIN, closed_error, lost};
use crate::layers::cache::seen::Verdict;
use crate::layers::cache::settle::Settling;
use crate::layers::cache::slot::{Detached, Life, Slot};
use crate::name::{NameRef, SecretName};
use crate::race::race;
use crate::resolver::{Request, SecretResolver};
use crate::secret::Record;
use crate::sync::preempt;

/// A flight that must end, whatever happens to the job that carries it.
struct Landing<R: SecretResolver> {
    flights: Arc<Flights<R>>,
    flight: Arc<Flight>,
}

/// One answer of the store, and what was known when it was asked.
struct Fetched {
    generation: u64,
    identity: u64,
    began: Moment,
    answer: Result<Record, Error>,
}

impl<R: SecretResolver> Flights<R> {
    /// Fetches until an answer may land. The job of the driver.
    pub(super) fn fly(
        self: Arc<Self>,
        flight: Arc<Flight>,
        name: SecretName,
    ) -> impl Future<Output = ()> + Send + 'static {
        // First of all, and not first when it is polled: it ends the flight also when the fetch, or a
        // subscriber, panics, and when the driver drops the job.
        let landing = Landing {
            flights: self,
            flight,
        };
        async move {
            let name = name.as_ref();
            let span = audit::fetching(name);
            landing.until_landed(name).instrument(span).await;
        }
    }
}

/// Whether a flight is over.
enum Landed {
    Done,
    /// What was fetched may not be answered: it began before an invalidation.
    Fenced,
    /// The endpoint answered a lower version than one seen; another may know better.
    RolledBack,
}

impl<R: SecretResolver> Landing<R> {
    async fn until_landed(&self, name: NameRef<'_>) {
        // An endpoint that is behind is asked once; the layers below go on to the next by turns.
        let mut other_endpoints = self.flights.inner.endpoints().saturating_sub(1);
        loop {
            let fetched = self.fetch(name).await;
            match self.land(fetched, name, other_endpoints > 0) {
                Landed::Done => return,
                Landed::Fenced => {}
                Landed::RolledBack => other_endpoints -= 1,
            }
        }
    }

    async fn fetch(&self, name: NameRef<'_>) -> Fetched {
        let Self { flights, flight } = self;
        let generation = flight.generation();
        let identity = flights.inner.identity();
        preempt();
        let began = flights.clock.now();
        // From before the call, so that the time the call itself takes counts.
        let budget = began + flights.config.flight_budget;
        let request = Request::new(name).with_deadline(budget);
        flights.asked();
        let closed = async {
            flights.closed().await;
            Err(closed_error())
        };
        let answer = match self.held(budget) {
            None => race(flights.inner.resolve(request), closed).await,
            Some(held) => {
                // This job holds the value now: it lets go when the value is invalidated.
                let fenced = async {
                    flight.fenced(generation).await;
                    Err(lost())
                };
                let read = flights.inner.resolve(request.with_held(&held));
                race(race(read, fenced), closed).await
            }
        };
        Fetched {
            generation,
            identity,
            began,
            answer,
        }
    }

    /// The record to offer for a conditional read. Only one that is kept until the budget is over
    /// anyway, so that the fetch does not keep it longer.
    fn held(&self, budget: Moment) -> Option<Record> {
        let slot = self.flights.slot(&self.flight.address)?;
        if slot.life.ends < budget {
            return None;
        }
        slot.record()
    }

    fn land(&self, fetched: Fetched, name: NameRef<'_>, ask_again: bool) -> Landed {
        let Self { flights, flight } = self;
        let mut flying = flights.lock();
        if flying.closed {
            drop(flying);
            self.end_closed();
            return Landed::Done;
        }
        if flight.generation() != fetched.generation {
            // An error is fenced like a value: the secret may have been created since.
            if flight.awaited_by() > 0 {
                return Landed::Fenced;
            }
            flying.flights.remove(&flight.address);
            drop(flying);
            self.refresh_later();
            return Landed::Done;
        }
        let mut out = Vec::new();
        let mut anew = false;
        let landed = match fetched.answer {
            Ok(record) => match self.judge(&mut flying, &record, ask_again) {
                Ok(new_life) => {
                    anew = new_life;
                    let told = (record.answer().backend(), record.version().clone());
                    let held = self.hold(&mut flying, record, name, fetched.began, &mut out);
                    held.map(|slot| (slot, told))
                }
                Err(None) => return Landed::RolledBack,
                Err(Some(error)) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = &landed {
            out.extend(self.fail(&mut flying, error, fetched.identity));
        }
        flying.flights.remove(&flight.address);
        let epoch = flights.epoch();
        drop(flying);
        // Wiped here, after the lock.
        drop(out);
        preempt();
        // First what others rely on; then what runs foreign code: wakers, subscribers, recorders.
        let told = match landed {
            Ok((slot, told)) => {
                // Before a waiter is woken, so that the value's end is certain by then.
                flights.sweeper.due_at(slot.life.ends);
                flights.succeeded(flights.clock.now());
                preempt();
                flight.end(Outcome::Landed(Arc::clone(&slot)));
                // Those who have left before cannot say so.
                if flight.awaited_by() == 0 {
                    slot.not_awaited();
                }
                Ok(told)
            }
            Err(error) => {
                flight.end(Outcome::Failed(error.clone(), epoch));
                Err(error)
            }
        };
        if anew {
            tracing::warn!(%name, "a lower version has stayed: taken for a record that was created anew");
        }
        let took = flights.clock.now().since(fetched.began);
        audit::fetched(name, told.as_ref(), took);
        flights.tell_hits();
        Landed::Done
    }

    /// Ends the flight as what it is: a shutdown is no outage, so it permits no fallback.
    fn end_closed(&self) {
        let closed = Outcome::Failed(closed_error(), self.flights.epoch());
        self.flight.end_if_flying(closed);
    }

    /// Gives back the claim on a refresh that came to nothing.
    fn refresh_later(&self) {
        if let Some(slot) = self.flights.slot(&self.flight.address) {
            slot.refresh_again(self.flights.clock.now() + REFRESH_AGAIN);
        }
    }

    /// Whether the version may be answered, and whether it begins a new life of the record;
    /// `Err(None)` when another endpoint should be asked.
    fn judge(
        &self,
        flying: &mut Flying,
        record: &Record,
        ask_again: bool,
    ) -> Result<bool, Option<Error>> {
        let address = &self.flight.address;
        let now = self.flights.clock.now();
        match flying.seen.judge(address, record.version(), now) {
            Verdict::Good => Ok(false),
            Verdict::NewLife => Ok(true),
            Verdict::RolledBack if ask_again => Err(None),
            Verdict::RolledBack => Err(Some(
                Error::new(
                    ErrorKind::Refused,
                    "the store answers a lower version than before; if it was restored on purpose, forget_version",
                )
                .with_backend(record.answer().backend()),
            )),
        }
    }

    /// Holds the record, with its times; or tells why it may not be held.
    fn hold(
        &self,
        flying: &mut Flying,
        record: Record,
        name: NameRef<'_>,
        began: Moment,
        out: &mut Vec<Detached>,
    ) -> Result<Arc<Slot>, Error> {
        let Self { flights, flight } = self;
        let record = flights.fits(record)?;
        let life = self.life(flying, &record, name, began)?;
        let answer = record.answer().timed(began, life.expires);
        let (replaced, held) = flights.store.put(flight, &record.with_answer(answer), life);
        out.extend(replaced);
        held
    }

    fn life(
        &self,
        flying: &mut Flying,
        record: &Record,
        name: NameRef<'_>,
        began: Moment,
    ) -> Result<Life, Error> {
        let Self { flights, flight } = self;
        let now = flights.clock.now();
        // The store said "current" just now; but its lease ran while the answer travelled.
        let configured = now + flights.store.shortened(flights.config.ttl_of(name));
        let lease = record.lease();
        let leased = lease.map(|lease| began + flights.store.shortened(lease));
        let expires = leased.map_or(configured, |leased| leased.min(configured));
        if expires <= now {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the value's lease ended before it arrived; ask the store for a longer one",
            ));
        }
        if flying
            .settling
            .may_be_old(&flight.address, record.version(), now)
        {
            // Perhaps the very value that a signal was about: not trusted for long, never stale. Asked
            // for again in time, so that nobody has to do without.
            let expires = expires.min(now + Settling::RECHECK);
            return Ok(Life {
                refresh: now + expires.since(now) / 2,
                expires,
                ends: expires,
            });
        }
        let stale = expires + flights.config.stale_for(name).unwrap_or_default();
        let over = lease.map_or(Moment::NEVER, |lease| began + lease);
        Ok(Life {
            // In the last fifth of its life a value in use is refreshed before anybody has to wait.
            refresh: now + expires.since(now) / 5 * 4,
            expires,
            ends: stale.min(over).max(expires),
        })
    }

    /// What an error means for what is held: the store's own word about the secret ends it.
    fn fail(&self, flying: &mut Flying, error: &Error, identity: u64) -> Option<Detached> {
        let Self { flights, flight } = self;
        let now = flights.clock.now();
        if error.kind().is_of_the_secret() {
            let mut until = now + flights.config.negative_ttl;
            // A signal may be about a secret that is not there yet, too.
            if flying.settling.is_unsettled(&flight.address, now) {
                until = until.min(now + Settling::RECHECK);
            }
            flying
                .negatives
                .put(&flight.address, error, until, identity);
            return flights.store.take(&flight.address);
        }
        let slot = flights.slot(&flight.address)?;
        // Not at once again, or every read of a hot name would be one during an outage.
        let left = slot.life.expires.since(now);
        slot.refresh_again(now + (left / 4).max(REFRESH_AGAIN));
        None
    }
}

impl<R: SecretResolver> Drop for Landing<R> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        let flight = flying.flights.get(&self.flight.address);
        let unlanded = flight.is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        if unlanded {
            flying.flights.remove(&self.flight.address);
        }
        let closed = flying.closed;
        drop(flying);
        if closed {
            self.end_closed();
        }
        if unlanded {
            self.refresh_later();
        }
        // Also when it left the table and something panicked on the way to its end.
        let lost = Outcome::Failed(lost(), self.flights.epoch());
        self.flight.end_if_flying(lost);
    }
}
