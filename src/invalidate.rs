//! What a rotation signal calls: from its return on, the old value is answered to nobody.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::address::Address;
use crate::audit;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::fork::{self, Process};
use crate::layers::Scope;
use crate::name::{NameRef, SecretName};
use crate::rules::prefix_of;
use crate::secret::Version;
use crate::seldom::Seldom;

/// Drops cached values and fences the fetches in flight. Cheap to clone; does not keep the
/// resolver alive.
///
/// # Security
/// After a call has returned, no `get` answers a value whose fetch began before it; a `get` that
/// waits already is given the next fetch's answer. A signal may come before the store's own commit:
/// for a settle time (2 s by default) an answer that is not known to be new is trusted for a moment
/// only: a quarter of a second, or as long as the signal is past.
///
/// ```
/// use secret_resolver::{Error, Resolver};
///
/// fn on_rotation(resolver: &Resolver) -> Result<usize, Error> {
///     resolver.invalidator().invalidate("prod/db#password")
/// }
/// ```
#[derive(Clone)]
pub struct Invalidator {
    caches: Arc<[Weak<dyn Invalidates>]>,
    process: Process,
    /// The path before every name, for a caller that may not leave it.
    scope: Option<Scope>,
    /// Which warnings about forgotten versions are logged.
    forgotten: Arc<Seldom>,
}

/// What can be invalidated. All of it takes effect before the call returns.
/// Each call answers how many values were dropped.
pub(crate) trait Invalidates: Send + Sync + 'static {
    fn invalidate(&self, name: NameRef<'_>) -> usize;
    fn invalidate_address(&self, address: &Address<'_>) -> usize;
    fn invalidate_below(&self, prefix: NameRef<'_>) -> usize;
    fn invalidate_all(&self) -> usize;
    fn raise(&self, name: NameRef<'_>, floor: &Version);
    fn forget_version(&self, name: NameRef<'_>);
    fn now(&self) -> Moment;
}

impl Invalidator {
    /// Of all of these at once: the caches of one stack, the primary's first.
    pub(crate) fn new(caches: impl IntoIterator<Item = Weak<dyn Invalidates>>) -> Self {
        Self {
            caches: caches.into_iter().collect(),
            process: Process::current(),
            scope: None,
            forgotten: Arc::default(),
        }
    }

    /// The same for names below the path of a scope.
    pub(crate) fn within(self, scope: Option<Scope>) -> Self {
        Self { scope, ..self }
    }

    /// Invalidates the whole record that `name` is part of, under every name that it has. Answers how
    /// many values were dropped: none where nothing was cached, which is not a failure.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] when the name breaks the grammar; [`ErrorKind::Refused`] in a forked
    /// child.
    pub fn invalidate(&self, name: &str) -> Result<usize, Error> {
        let name = self.full(NameRef::parse(name)?)?;
        let dropped = self.each(|cache| cache.invalidate(name.borrowed()))?;
        audit::invalidated(&name, "name");
        Ok(dropped)
    }

    /// Invalidates as [`invalidate`](Self::invalidate) does and refuses versions of the primary
    /// below `lowest`, for signals that say which version was written. A lower one that stays for
    /// ten seconds is taken for a record that was created again, as always.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub fn invalidate_below_version(&self, name: &str, lowest: &Version) -> Result<usize, Error> {
        let full = self.full(NameRef::parse(name)?)?;
        // The floor first: a fetch that the invalidation starts must find it. Only of the primary,
        // which is the first: versions of another store mean something else.
        let primary = self.caches.first().filter(|_| self.process.is_this());
        if let Some(primary) = primary.and_then(Weak::upgrade) {
            primary.raise(full.borrowed(), lowest);
        }
        self.invalidate(name)
    }

    /// Invalidates the record at an address, for signals that speak in the store's own ids. Where
    /// names are routed, at every store: which one has sent the signal is not known.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] in a forked child, and for the invalidator of a scope: addresses are of
    /// the whole store.
    pub fn invalidate_address(&self, address: &Address<'_>) -> Result<usize, Error> {
        if self.scope.is_some() {
            return Err(Error::new(
                ErrorKind::Refused,
                "addresses are of the whole store, not of a scope; ask the invalidator of the whole resolver",
            ));
        }
        let dropped = self.each(|cache| cache.invalidate_address(address))?;
        audit::invalidated(&address.as_str(), "address");
        Ok(dropped)
    }

    /// Invalidates every record that has a name, or an address in its store, at or below the path
    /// `prefix`, whether it was asked for or not. Nothing else is touched.
    ///
    /// A record that is known by several names is invalidated for all of them. Where a backend folds
    /// names (letter case) and none of those below `prefix` was asked for yet, the other spellings
    /// keep their value until one is. At most 16 names of one record are known, while a value is held.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] when `prefix` is not a path; [`ErrorKind::Refused`] in a forked child.
    pub fn invalidate_prefix(&self, prefix: &str) -> Result<usize, Error> {
        self.below(&self.full(prefix_of(prefix)?)?)
    }

    /// Invalidates everything, or everything in the scope.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] in a forked child, which is answered nothing.
    pub fn invalidate_all(&self) -> Result<usize, Error> {
        if let Some(scope) = &self.scope {
            return self.below(&SecretName::parse(scope.path())?);
        }
        let dropped = self.each(Invalidates::invalidate_all)?;
        audit::invalidated(&"everything", "all");
        Ok(dropped)
    }

    fn below(&self, prefix: &SecretName) -> Result<usize, Error> {
        let dropped = self.each(|cache| cache.invalidate_below(prefix.borrowed()))?;
        audit::invalidated(&prefix, "prefix");
        Ok(dropped)
    }

    /// Forgets which versions of a record were seen, after a restore on purpose: the next answer
    /// is accepted whatever its version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] when the name breaks the grammar; [`ErrorKind::Refused`] in a forked
    /// child.
    pub fn forget_version(&self, name: &str) -> Result<(), Error> {
        let name = self.full(NameRef::parse(name)?)?;
        self.each(|cache| {
            cache.forget_version(name.borrowed());
            0
        })?;
        if let Some(cache) = self.caches.first().and_then(Weak::upgrade) {
            audit::forgot_versions(&name, self.forgotten.warns(cache.now()));
        }
        Ok(())
    }

    /// The name in full: with the path of the scope, if there is one.
    fn full(&self, name: NameRef<'_>) -> Result<SecretName, Error> {
        match &self.scope {
            Some(scope) => scope.full(name),
            None => Ok(name.to_owned()),
        }
    }

    /// Acts on each cache, and adds up the values that were dropped.
    fn each(&self, act: impl Fn(&dyn Invalidates) -> usize) -> Result<usize, Error> {
        // In a forked child nothing is answered, and a lock may be held for ever.
        if !self.process.is_this() {
            return Err(fork::refused());
        }
        // The primary's, which is first, comes last: see `Fallback::resolve_many`.
        let caches = self.caches.iter().rev().filter_map(Weak::upgrade);
        Ok(caches.map(|cache| act(&*cache)).sum())
    }
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator").finish_non_exhaustive()
    }
}
