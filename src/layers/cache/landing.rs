//! A flight's way: it fetches, and lands what may be held. What that is, `judge` decides.

use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::clock::Moment;
use crate::error::Error;
use crate::layers::cache::core::{Core, REFRESH_AGAIN, State, closed_error, lost};
use crate::layers::cache::flight::{Flight, Outcome};
use crate::layers::cache::negative::Negatives;
use crate::layers::cache::slot::{Detached, Slot};
use crate::name::{NameRef, SecretName};
use crate::resolver::{Held, Holder, Request, SecretResolver, Tried};
use crate::secret::{Record, Version};
use crate::sync::preempt;

/// A flight that must end, whatever happens to the job that carries it.
pub(super) struct Landing {
    pub(super) core: Arc<Core>,
    pub(super) flight: Arc<Flight>,
}

/// What was known when the store was asked.
pub(super) struct Asked {
    pub(super) epoch: u64,
    pub(super) identity: u64,
    pub(super) began: Moment,
    /// How much time this process lost until then.
    pub(super) lost: Duration,
    /// Whose version was offered for a conditional read.
    pub(super) held: Option<Arc<Slot>>,
}

/// What is to be done next.
pub(super) enum Next {
    /// The flight is over.
    Done,
    /// What was fetched may not be answered: it began before an invalidation, or is too old because
    /// this process stood still.
    Again,
    /// What is held was to stay, but is gone.
    Whole,
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
        let landing = Landing { core: self, flight };
        async move {
            landing.until_landed(name.borrowed()).await;
        }
    }
}

impl Landing {
    async fn until_landed(&self, name: NameRef<'_>) {
        let others = self.core.inner.endpoints().saturating_sub(1);
        let mut other_endpoints = others;
        // One that is behind is asked once, then each other.
        let mut behind = Tried::default();
        let mut rolled_back = None;
        let mut conditional = true;
        loop {
            let (asked, answer) = self.fetch(name, conditional, behind).await;
            // That no other endpoint can be asked takes nothing from what this one has shown.
            let answer = answer.map_err(|error| match &rolled_back {
                Some(refused) if error.kind().permits().stale => Error::clone(refused),
                _ => error,
            });
            match self.land(&asked, answer, name, other_endpoints > 0) {
                Next::Done => return,
                Next::Again => {
                    // What was lower may be right now.
                    (behind, rolled_back) = (Tried::default(), None);
                    other_endpoints = others;
                }
                Next::Whole => conditional = false,
                Next::RolledBack(endpoint, refused) => {
                    other_endpoints -= 1;
                    rolled_back = Some(refused);
                    endpoint
                        .into_iter()
                        .for_each(|endpoint| behind.add(endpoint));
                }
            }
        }
    }

    async fn fetch(
        &self,
        name: NameRef<'_>,
        conditional: bool,
        behind: Tried,
    ) -> (Asked, Result<Record, Error>) {
        let Self { core, flight, .. } = self;
        let epoch = core.epoch();
        let wants_latest = core.wants_latest(&flight.address, name);
        let identity = core.inner.identity();
        preempt();
        let lost = core.clock.lost();
        let began = core.clock.now();
        let mut request = Request::new(name).elsewhere(behind);
        if wants_latest {
            request = request.latest();
        }
        let held = core.store.at(&flight.address).filter(|_| conditional);
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

    fn land(
        &self,
        asked: &Asked,
        answer: Result<Record, Error>,
        name: NameRef<'_>,
        ask_again: bool,
    ) -> Next {
        let Self { core, flight, .. } = self;
        let mut state = core.lock();
        if state.closed {
            // Its drop says so to those that wait.
            return Next::Done;
        }
        let mut out = Vec::new();
        // What an invalidation was about is fenced, an error like a value: the secret may have been
        // created since.
        let fenced = flight.is_fenced(asked.epoch)
            || core.store.was_signalled(asked.epoch, &flight.address, name);
        let landed = match fenced {
            true => Err(Not::Next(Next::Again)),
            false => self.judge(&mut state, asked, answer, name, ask_again, &mut out),
        };
        let landed = match landed {
            Ok(held) => Ok(held),
            Err(Not::Said(error)) => Err(error),
            Err(Not::Next(next @ Next::RolledBack(..))) => return next,
            Err(Not::Next(next)) if flight.awaited_by() > 0 => return next,
            Err(Not::Next(_)) => {
                // No caller waits for another try.
                state.end(flight);
                drop(state);
                self.refresh_later();
                core.keeper.due_now(&flight.address);
                return Next::Done;
            }
        };
        let outcome = match &landed {
            Ok(held) => Outcome::Landed(Arc::clone(&held.slot)),
            Err(error) => self.fail(&mut state, error, asked, name, &mut out),
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
                core.succeeded(core.clock.now());
                core.store.link(name, &core.inner.locate(name));
                preempt();
                let signals = &core.store.signals;
                core.keeper.landed(slot, |name| {
                    signals.concern(slot.epoch, name.borrowed().path(), &flight.address)
                });
                self.flight.end(outcome);
                if held.new_life {
                    audit::created_anew(name);
                }
            }
            Err(error) => {
                core.keeper.failed(&flight.address, error, || {
                    core.was_signalled(&core.lock(), asked.epoch, name, &flight.address)
                });
                self.flight.end(outcome);
            }
        }
        let now = core.clock.now();
        let took = now.since(asked.began);
        let store = core.config.stores.get(name.path());
        store.fetched(name, landed.map(|held| held.told), now, took);
        core.tell_hits();
        Next::Done
    }

    /// Gives back the claim on a refresh that came to nothing.
    fn refresh_later(&self) {
        if let Some(slot) = self.core.store.at(&self.flight.address) {
            slot.refresh_again(self.core.clock.now() + REFRESH_AGAIN);
        }
    }

    /// What an error means for what is held: the store's own word about the secret ends it.
    fn fail(
        &self,
        state: &mut State,
        error: &Error,
        asked: &Asked,
        name: NameRef<'_>,
        out: &mut Vec<Detached>,
    ) -> Outcome {
        let Self { core, flight, .. } = self;
        let address = &*flight.address;
        let now = core.clock.now();
        if error.kind().is_of_the_secret() {
            out.extend(core.store.take(address));
        } else if let Some(slot) = core.store.at(address) {
            // Not at once again, or every read of a hot name would be one during an outage.
            let left = slot.life.expires.since(now);
            slot.refresh_again(now + (left / 4).max(REFRESH_AGAIN));
        }
        if !Negatives::holds(error) {
            return Outcome::Failed(error.clone());
        }
        // A signal may be about a secret that is not there yet, too.
        let wide = core.store.signals.latest(name.path(), address);
        let unsettled = state.settling.trusted_for(address, None, now, wide);
        let word = core.config.negative_ttl;
        let word = unsettled.map_or(word, |trusted| word.min(trusted));
        let negatives = &mut state.negatives;
        Outcome::Said(negatives.put(&flight.address, error, asked, now, word))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        let unlanded = state.end(&self.flight);
        let closed = state.closed;
        drop(state);
        if closed {
            self.flight.end(Outcome::Failed(closed_error()));
            return;
        }
        if unlanded {
            self.refresh_later();
            self.core
                .keeper
                .failed(&self.flight.address, &lost(), || false);
        }
        // Also when it left the table and something panicked on the way to its end; else it has ended.
        self.flight.end(Outcome::Failed(lost()));
    }
}
