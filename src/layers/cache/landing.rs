//! A flight's way: it fetches, and lands what may be held. What that is, `judge` decides.

use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::clock::Moment;
use crate::error::Error;
use crate::layers::cache::core::{Core, State, closed_error, lost};
use crate::layers::cache::flight::{Flight, Outcome};
use crate::layers::cache::negative::Negatives;
use crate::layers::cache::slot::{Detached, Slot};
use crate::name::SecretName;
use crate::resolver::{Held, Holder, Request, SecretResolver, Tried};
use crate::secret::{Record, Version};
use crate::sync::preempt;

/// A flight that must end, whatever happens to the job that carries it.
pub(super) struct Landing {
    pub(super) core: Arc<Core>,
    pub(super) flight: Arc<Flight>,
    pub(super) name: SecretName,
}

/// What was known when the store was asked.
pub(super) struct Asked {
    pub(super) epoch: u64,
    pub(super) identity: u64,
    pub(super) began: Moment,
    /// How much time this process lost until then.
    pub(super) lost: Duration,
    /// What was held: its version was offered for a conditional read.
    pub(super) held: Option<Arc<Slot>>,
}

/// Why a flight fetches again.
pub(super) enum Next {
    /// What was fetched may not be answered: it began before an invalidation, or is too old because
    /// this process stood still. Or it says that what was held is to stay, and that is gone.
    Repeat,
    /// An endpoint answered a lower version than one seen, which is refused unless another knows better.
    RolledBack(Option<usize>, Error),
}

/// What has landed.
pub(super) struct Arrived {
    pub(super) slot: Arc<Slot>,
    /// The backend and the version, for the audit.
    pub(super) told: (&'static str, Version),
    /// Whether a new life of the record begins with it.
    pub(super) new_life: bool,
}

/// Why an answer does not land.
pub(super) enum Not {
    Next(Next),
    Said(Error),
}

impl From<Error> for Not {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}

impl Core {
    /// Fetches until an answer may land. The job of the driver.
    pub(super) fn fly(
        self: Arc<Self>,
        flight: Arc<Flight>,
        name: SecretName,
    ) -> impl Future<Output = ()> + Send + 'static {
        // First of all, and not first when it is polled: it ends the flight also when the fetch, or a
        // subscriber, panics, and when the driver drops the job.
        let landing = Landing {
            core: self,
            flight,
            name,
        };
        async move { landing.until_landed().await }
    }
}

impl Landing {
    async fn until_landed(&self) {
        let others = self.core.inner.endpoints().saturating_sub(1);
        let mut other_endpoints = others;
        // One that is behind is asked once, then each other.
        let mut behind = Tried::default();
        let mut rolled_back = None;
        loop {
            let (asked, answer) = self.fetch(behind).await;
            // That no other endpoint can be asked takes nothing from what this one has shown.
            let answer = answer.map_err(|error| match &rolled_back {
                Some(refused) if error.kind().permits().stale => Error::clone(refused),
                _ => error,
            });
            match self.land(&asked, answer, other_endpoints > 0) {
                None => return,
                Some(Next::Repeat) => {
                    // What was lower may be right now.
                    (behind, rolled_back) = (Tried::default(), None);
                    other_endpoints = others;
                }
                Some(Next::RolledBack(endpoint, refused)) => {
                    other_endpoints -= 1;
                    rolled_back = Some(refused);
                    endpoint
                        .into_iter()
                        .for_each(|endpoint| behind.add(endpoint));
                }
            }
        }
    }

    async fn fetch(&self, behind: Tried) -> (Asked, Result<Record, Error>) {
        let Self { core, flight, .. } = self;
        let name = self.name.borrowed();
        let epoch = core.epoch();
        // A replica of the store may be behind a signal.
        let wide = core.store.signals.latest(name.path(), &flight.address);
        let wants_latest = {
            let (now, state) = (core.clock.now(), core.lock());
            let seen = state.seen.epoch(&flight.address);
            let settling = &state.settling;
            settling.wants_latest(&flight.address, now, wide, seen)
        };
        let identity = core.inner.identity();
        preempt();
        let lost = core.clock.lost();
        let began = core.clock.now();
        let mut request = Request::new(name).elsewhere(behind);
        if wants_latest {
            request = request.latest();
        }
        let held = core.store.at(&flight.address);
        let holder = held.clone().map(|slot| -> Arc<dyn Holder> { slot });
        if let Some(holder) = &holder {
            request = request.with_held_by(Held::By(holder));
        }
        let answer = core.ask(request, began, lost).await;
        let asked = Asked {
            epoch,
            identity,
            began,
            lost,
            held,
        };
        (asked, answer)
    }

    /// Lets an answer land, if it may; says why not, if the store is to be asked again.
    fn land(&self, asked: &Asked, answer: Result<Record, Error>, ask_again: bool) -> Option<Next> {
        let Self { core, flight, .. } = self;
        let name = self.name.borrowed();
        // Foreign code, so before the lock.
        let located = core.inner.locate(name);
        let mut state = core.lock();
        if core.is_closed() {
            // Its drop says so to those that wait.
            return None;
        }
        let mut out = Vec::new();
        let landed = match self.judge(&mut state, asked, answer, ask_again, &mut out) {
            Ok(held) => Ok(held),
            Err(Not::Said(error)) => Err(error),
            Err(Not::Next(next @ Next::RolledBack(..))) => return Some(next),
            Err(Not::Next(next)) if flight.awaited_by() > 0 => return Some(next),
            Err(Not::Next(_)) => {
                // No caller waits for another try.
                state.end(flight);
                drop(state);
                core.keeper.due_now(&flight.address);
                return None;
            }
        };
        let outcome = match &landed {
            Ok(held) => {
                state.last_success = Some(core.clock.now());
                // Under the lock: once no fetch is under way, the name finds what has landed.
                core.store.link(name, &located);
                Outcome::Landed(Arc::clone(&held.slot))
            }
            Err(error) => self.fail(&mut state, error, asked, &mut out),
        };
        state.end(flight);
        drop(state);
        // Wiped here, after the lock.
        drop(out);
        preempt();
        // First what others rely on, a value's end above all; then what runs foreign code: wakers,
        // subscribers, recorders.
        match &landed {
            Ok(held) => {
                let slot = &held.slot;
                core.sweeper.due_at(slot.life.ends);
                let signals = &core.store.signals;
                core.keeper.landed(slot, |name| {
                    signals.concern(slot.epoch, name.borrowed().path(), &flight.address)
                });
            }
            Err(error) => {
                core.keeper.failed(&flight.address, error, || {
                    core.was_signalled(&core.lock(), asked.epoch, name, &flight.address)
                });
            }
        }
        flight.end(outcome);
        if landed.as_ref().is_ok_and(|held| held.new_life) {
            audit::created_anew(name);
        }
        core.tell_fetched(name, asked.began, landed.map(|held| held.told));
        core.tell_hits();
        None
    }

    /// What an error means for what is held: the store's own word about the secret ends it.
    fn fail(
        &self,
        state: &mut State,
        error: &Error,
        asked: &Asked,
        out: &mut Vec<Detached>,
    ) -> Outcome {
        let Self { core, flight, .. } = self;
        let name = self.name.borrowed();
        let address = &*flight.address;
        let now = core.clock.now();
        if error.kind().is_of_the_secret() {
            out.extend(core.store.take(address));
        } else if let Some(slot) = core.store.at(address) {
            // Not at once again, or every read of a hot name would be one during an outage.
            let left = slot.life.expires.since(now);
            slot.refresh_again(now + (left / 4).max(Slot::REFRESH_AGAIN));
        }
        if !Negatives::holds(error) {
            return Outcome::Failed(error.clone());
        }
        // A signal may be about a secret that is not there yet, too.
        let wide = core.store.signals.latest(name.path(), address);
        let unsettled = state.settling.trusted_for(address, None, now, wide);
        let negatives = &mut state.negatives;
        Outcome::Said(negatives.put(&flight.address, error, asked, now, unsettled))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let Self { core, flight, .. } = self;
        let unlanded = core.lock().end(flight);
        let error = match core.is_closed() {
            true => closed_error(),
            false => lost(),
        };
        if unlanded {
            core.keeper.failed(&flight.address, &error, || false);
        }
        // Also when it left the table and something panicked on the way to its end; else it has ended.
        flight.end(Outcome::Failed(error));
    }
}
