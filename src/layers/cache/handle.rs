//! A handle on one secret: always its current version, without waiting.
//!
//! A handle is a name and the path of a hit, so it obeys expiry and the fence as a `get` does. What
//! keeps its value current is `keeper`, one job for all handles.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::clock::Clock as _;
use crate::ending;
use crate::error::{Error, ErrorKind};
use crate::fork::{self, Process};
use crate::layers::cache::Cache;
use crate::layers::cache::core::{Core, closed_error, no_address};
use crate::layers::deadline::too_late;
use crate::name::{NameRef, SecretName};
use crate::race::first;
use crate::resolver::SecretResolver as _;
use crate::secret::{Record, Secret, print};

/// The current version of one secret, kept current in the background; from
/// [`Resolver::handle`](crate::Resolver::handle). A clone shares the value, not what
/// [`changed`](Self::changed) has seen.
///
/// For code that reads a secret very often or is not async: a read never waits. It obeys expiry and
/// invalidation like a `get`, but asks neither stale values nor a fallback.
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
    place: Arc<Place>,
    news: watch::Receiver<()>,
    /// A keyed hash of the value that was seen last: the next may differ.
    print: Option<u64>,
}

/// A handle's place in the cache, given back when its last clone is dropped.
struct Place {
    cache: Arc<Core>,
    name: SecretName,
    /// The name as it was asked for, without the path of a scope: for errors.
    shown: SecretName,
    address: Box<str>,
    keys: RandomState,
    process: Process,
}

impl SecretHandle {
    /// The current secret. Never waits for a fetch. Takes a lock only while there is no value, once
    /// after a signal for a prefix, and for names of a record beyond its first 16.
    ///
    /// # Errors
    /// Why there is none now: the last fetch's error, or [`ErrorKind::Unavailable`] while the next
    /// fetch is under way; [`current`](Self::current) waits for it. [`ErrorKind::Refused`] in a forked
    /// child.
    pub fn secret(&self) -> Result<Secret, Error> {
        self.now().unwrap_or_else(|| {
            let error = Error::new(
                ErrorKind::Unavailable,
                "the secret has no current value; its next fetch is due or under way",
            );
            Err(error.with_name(self.place.shown.borrowed()))
        })
    }

    /// The answer of now; `None` while a fetch is under way.
    fn now(&self) -> Option<Result<Secret, Error>> {
        let place = &*self.place;
        if !place.process.is_this() {
            return Some(Err(place.refused()));
        }
        let answer = match place.value() {
            Some(record) => record.into_secret(),
            None => Err(place.why_not()?),
        };
        Some(answer.map_err(|error| error.with_name(place.shown.borrowed())))
    }

    /// The current secret; where there is none for the moment, as after an invalidation, waits for the
    /// fetch that is under way.
    ///
    /// # Errors
    /// The error of that fetch; [`ErrorKind::Timeout`] when it has not ended within its budget;
    /// [`ErrorKind::Closed`] when the resolver was shut down or dropped.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn current(&self) -> Result<Secret, Error> {
        if let Some(answer) = self.now() {
            return answer;
        }
        if !ending::is_whole() {
            return Err(ending::refused().with_name(self.place.shown.borrowed()));
        }
        let place = &*self.place;
        let mut news = self.news.clone();
        let come = async move {
            loop {
                news.mark_unchanged();
                if let Some(answer) = self.now() {
                    return answer;
                }
                if place.cache.aside.woken(news.changed()).await.is_err() {
                    return Err(closed_error());
                }
            }
        };
        let Core { clock, config, .. } = &*place.cache;
        let late = clock.sleep_until(clock.now() + config.flight_budget + Duration::from_secs(1));
        match place.process.here(Box::pin(first(come, late))).await {
            Some(answer) => answer.unwrap_or_else(|| Err(too_late())),
            None => Err(place.refused()),
        }
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
        loop {
            // First: a forked child may take no lock.
            if !self.place.process.is_this() {
                return Err(self.place.refused());
            }
            if !ending::is_whole() {
                return Err(ending::refused().with_name(self.place.shown.borrowed()));
            }
            self.news.mark_unchanged();
            if let Ok(secret) = self.secret() {
                let print = self.place.print(&secret);
                if self.print.replace(print) != Some(print) {
                    return Ok(());
                }
            }
            let place = Arc::clone(&self.place);
            let news = place.cache.aside.woken(self.news.changed());
            // In a forked child there is none: the loop refuses.
            if let Some(Err(_)) = place.process.here(Box::pin(news)).await {
                return Err(closed_error());
            }
        }
    }

    /// Notes the value of now, so that the next change is one from it.
    pub(crate) async fn seen(mut self) -> Result<Self, Error> {
        // It waits, for a signal may have come since the value was fetched.
        let secret = self.current().await?;
        self.print = Some(self.place.print(&secret));
        Ok(self)
    }
}

impl Place {
    /// What a `get` of the name would find in memory.
    fn value(&self) -> Option<Record> {
        let hit = self.cache.held(self.name.borrowed())?;
        // When to refresh it is the keeper's to say.
        Some(hit.record)
    }

    /// Why there is nothing; `None` while a fetch is under way.
    fn why_not(&self) -> Option<Error> {
        match self.cache.is_closed() {
            true => Some(closed_error()),
            false => self.cache.keeper.error(&self.address),
        }
    }

    fn refused(&self) -> Error {
        fork::refused().with_name(self.shown.borrowed())
    }

    /// A keyed hash, not the value: that one is gone by the time the next comes. A change that it
    /// misses would need two values with the same 64 bits under a secret key.
    fn print(&self, secret: &Secret) -> u64 {
        print(&self.keys, secret.expose_secret())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.process.is_this() {
            self.cache.keeper.release(&self.address);
            self.cache.store.release(&self.address);
        } else {
            // A lock may be held for ever here: the cache stays as it is.
            std::mem::forget(Arc::clone(&self.cache));
        }
    }
}

impl Cache {
    /// A handle on `name`, kept current on the driver.
    /// Its errors name it as `shown`.
    pub(crate) fn handle(
        &self,
        name: SecretName,
        shown: NameRef<'_>,
    ) -> Result<SecretHandle, Error> {
        let core = &self.core;
        let located = core.inner.locate(name.borrowed());
        if located.address().is_lost() {
            return Err(no_address().with_name(shown));
        }
        let address: Box<str> = Box::from(located.address().as_str());
        // Released with the place: a value that was evicted could not be read.
        core.store.pin(&[(address.clone(), 0)])?;
        let (news, start) = core.keeper.keep(&address, &name);
        if start {
            self.driver.spawn(Arc::clone(core).keep_current());
        }
        let place = Place {
            cache: Arc::clone(core),
            name,
            shown: shown.to_owned(),
            address,
            keys: RandomState::new(),
            process: Process::current(),
        };
        Ok(SecretHandle {
            place: Arc::new(place),
            news,
            print: None,
        })
    }
}

impl fmt::Debug for SecretHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretHandle").finish_non_exhaustive()
    }
}
