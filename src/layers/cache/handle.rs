//! A handle on one secret: always its current version, without a lock and without waiting.
//!
//! A job on the driver keeps the handle's link pointing at the slot of the current value: it
//! fetches after an invalidation and refreshes ahead of the expiry. The slot decides what a read
//! is answered, so a handle obeys expiry and the fence as a `get` does.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use secrecy::ExposeSecret;
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::layers::cache::flights::{Flights, Joined};
use crate::layers::cache::index::Link;
use crate::layers::cache::store::Store;
use crate::name::SecretName;
use crate::race::race;
use crate::resolver::SecretResolver;
use crate::secret::{Record, Secret};

/// The current version of one secret, kept current in the background; from
/// [`Resolver::handle`](crate::Resolver::handle). A clone shares it.
///
/// For code that reads a secret very often or is not async: it costs no look-up and never waits.
/// It obeys expiry and invalidation like a `get`, but asks neither stale values nor a fallback.
///
/// ```
/// use secret_resolver::{Resolver, testing::MockBackend};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = MockBackend::new().with_value("prod/db#password", "first");
/// let resolver = Resolver::builder(backend.clone()).build()?;
/// let mut handle = resolver.handle("prod/db#password").await?;
/// assert_eq!(handle.secret()?.expose_str()?, "first");
///
/// backend.set("prod/db#password", "second");
/// resolver.invalidator().invalidate("prod/db#password")?;
/// handle.changed().await?;
/// assert_eq!(handle.secret()?.expose_str()?, "second");
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct SecretHandle {
    cell: Arc<Cell>,
    changes: watch::Receiver<u64>,
}

struct Cell {
    clock: Arc<dyn Clock>,
    store: Arc<Store>,
    name: SecretName,
    address: Box<str>,
    field: Option<Box<str>>,
    link: ArcSwapOption<Link>,
    error: ArcSwapOption<Error>,
    changes: watch::Sender<u64>,
    /// What tells one value from the next: a keyed hash of the last one, 0 before the first.
    print: AtomicU64,
    keys: RandomState,
    /// Ends the job when the last handle goes.
    _alive: oneshot::Sender<()>,
}

impl SecretHandle {
    /// The current secret. Never waits, and takes no lock but in the moment of a refresh and while
    /// there is no value.
    ///
    /// # Errors
    /// Why there is none now: the last fetch's error, or [`ErrorKind::Unavailable`] while the next
    /// fetch is under way.
    pub fn secret(&self) -> Result<Secret, Error> {
        let link = self.cell.link.load();
        if let Some(link) = link.as_deref()
            && let Some(hit) = link.read(&*self.cell.clock)
        {
            return hit.record.into_secret();
        }
        self.cell.latest()
    }

    /// Waits until the secret has another value than when it was last waited for, or than when the
    /// handle was made. A refresh that brings the same value is no change.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the resolver was shut down or dropped.
    ///
    /// # Cancel safety
    /// May be dropped at any time; no change is lost.
    pub async fn changed(&mut self) -> Result<(), Error> {
        // What was closed stays so, also for those who have heard of it.
        if *self.changes.borrow() == CLOSED {
            return Err(super::flights::closed_error());
        }
        let changed = self.changes.changed().await;
        match changed {
            Ok(()) if *self.changes.borrow() != CLOSED => Ok(()),
            _ => Err(super::flights::closed_error()),
        }
    }
}

/// The count of changes that says that there will be no more.
const CLOSED: u64 = u64::MAX;

/// How long a failed fetch is waited for before the next.
const AGAIN: Duration = Duration::from_secs(1);

impl<R: SecretResolver> Flights<R> {
    /// A handle on `name`, and the job that keeps it current, for the driver.
    pub(super) fn handle(
        self: &Arc<Self>,
        name: SecretName,
    ) -> Result<
        (
            SecretHandle,
            impl Future<Output = ()> + Send + 'static + use<R>,
        ),
        Error,
    > {
        let (alive, dropped) = oneshot::channel();
        let located = self.inner.locate(name.as_ref());
        // Released with the cell: a value that was evicted could not be read, nor would the job hear
        // of it.
        self.store.retain(located.address().as_str())?;
        let cell = Arc::new(Cell {
            clock: Arc::clone(&self.clock),
            store: Arc::clone(&self.store),
            name: name.clone(),
            address: Box::from(located.address().as_str()),
            field: located.field().map(Box::from),
            link: ArcSwapOption::empty(),
            error: ArcSwapOption::empty(),
            changes: watch::Sender::new(0),
            print: AtomicU64::new(0),
            keys: RandomState::new(),
            _alive: alive,
        });
        let changes = cell.changes.subscribe();
        let job = keep(Arc::clone(self), Arc::downgrade(&cell), name, dropped);
        Ok((SecretHandle { cell, changes }, job))
    }

    /// Joins or starts the flight for `name` and waits for its end. For jobs on the driver.
    async fn fly_or_join(self: &Arc<Self>, name: &SecretName, refresh: bool) -> Result<(), Error> {
        let located = self.inner.locate(name.as_ref());
        let started = refresh
            .then(|| self.start_refresh(&located, name.as_ref()))
            .flatten();
        // Without a value to refresh, or with a flight under way, it is a fetch like any other.
        let joined = started.map_or_else(
            || self.join(&located, name.as_ref(), false),
            Joined::Started,
        );
        let mut waiter = match joined {
            Joined::Held(_) => return Ok(()),
            Joined::Refused(error) => return Err(error),
            Joined::Other(waiter) => waiter,
            Joined::Started(flight) => {
                let waiter = flight.waiter();
                // Not part of this job: the flight may be awaited by others when the job ends.
                tokio::spawn(Arc::clone(self).fly(flight, name.clone()));
                waiter
            }
        };
        match waiter.outcome().await {
            Some(super::flight::Outcome::Failed(error, _)) => Err(error),
            Some(_) => Ok(()),
            None => Err(super::flights::lost()),
        }
    }

    /// The link to what is held for `name` now.
    fn link_now(&self, name: &SecretName) -> Option<Link> {
        let located = self.inner.locate(name.as_ref());
        let slot = self.slot(located.address().as_str())?;
        Some(Link::new(slot, located.field()))
    }
}

/// Keeps a handle current until it is dropped or the cache is closed.
async fn keep<R: SecretResolver>(
    flights: Arc<Flights<R>>,
    cell: Weak<Cell>,
    name: SecretName,
    dropped: oneshot::Receiver<()>,
) {
    // Also when the driver drops this job before it has run again.
    let _closing = Closing(Weak::clone(&cell));
    let work = async {
        let mut signals = flights.signals();
        let mut refresh = false;
        loop {
            // Marked as seen before the fetch: a signal during it is looked at after it.
            signals.mark_unchanged();
            let fetched = flights.fly_or_join(&name, refresh).await;
            let link = flights.link_now(&name);
            let now = flights.clock.now();
            let live = link.as_ref().filter(|link| link.expires() > now);
            let wake = match (&fetched, live) {
                (Ok(()), Some(link)) if link.refresh() > now => link.refresh(),
                // It has just failed, or an unsettled value is all there is.
                (_, Some(link)) => (now + AGAIN).min(link.expires()),
                (_, None) => now + AGAIN,
            };
            refresh = live.is_some();
            let Some(cell) = cell.upgrade() else {
                return;
            };
            cell.publish(link, fetched.err());
            drop(cell);
            let due = flights.clock.sleep_until(wake);
            let due = async {
                due.await;
                true
            };
            let signal = async {
                let _ = signals.changed().await;
                false
            };
            // A signal says that something was invalidated, perhaps another name: what is still
            // held is as good as before, and only a fetch that is due is made.
            refresh = race(due, signal).await && refresh;
        }
    };
    let ended = async {
        let _ = race(async { dropped.await.is_ok() }, async {
            flights.closed().await;
            true
        })
        .await;
    };
    race(ended, work).await;
}

/// Tells the handles that there will be no more, when their job ends or is dropped.
struct Closing(Weak<Cell>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(cell) = self.0.upgrade() {
            cell.link.store(None);
            cell.error
                .store(Some(Arc::new(super::flights::closed_error())));
            cell.changes.send_replace(CLOSED);
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.store.release(&self.address);
    }
}

impl Cell {
    fn publish(&self, link: Option<Link>, error: Option<Error>) {
        let now = self.clock.now();
        let record = link.as_ref().and_then(|link| link.peek(now));
        self.link.store(link.map(Arc::new));
        self.error.store(error.map(Arc::new));
        let Some(Ok(secret)) = record.map(Record::into_secret) else {
            return;
        };
        // A keyed hash, not the value: that one is gone by the time the next comes. A change that
        // it misses would need two values with the same 64 bits under a key that nobody knows.
        let mut hasher = self.keys.build_hasher();
        hasher.write(secret.expose_secret());
        // Pushes the value's last bytes out of the hasher, which is not wiped.
        hasher.write(&[0; 8]);
        let print = hasher.finish().max(1);
        if self.print.swap(print, Ordering::Relaxed) != print {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// What has landed since the job last looked, or why there is nothing: a refresh that replaces a
    /// value ends the old one's slot a moment before the job hears of the new one.
    #[cold]
    fn latest(&self) -> Result<Secret, Error> {
        let field = self.field.as_deref();
        self.store.link(self.name.as_ref(), &self.address, field);
        let slot = self.store.at(&self.address);
        let link = slot.map(|slot| Link::new(slot, self.field.as_deref()));
        match link.and_then(|link| link.read(&*self.clock)) {
            Some(hit) => hit.record.into_secret(),
            None => Err(self.why_not()),
        }
    }

    fn why_not(&self) -> Error {
        let error = self.error.load_full();
        error.map_or_else(
            || {
                Error::new(
                    ErrorKind::Unavailable,
                    "the secret has no current value; its next fetch is under way",
                )
            },
            |error| (*error).clone(),
        )
    }
}

impl fmt::Debug for SecretHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretHandle").finish_non_exhaustive()
    }
}

/// For [`Link`] to tell when the job has to act.
impl Link {
    fn expires(&self) -> Moment {
        self.slot().life.expires
    }

    fn refresh(&self) -> Moment {
        self.slot().life.refresh
    }
}
