//! What a rotation signal calls: from its return on, the old value is answered to nobody.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::address::Address;
use crate::audit;
use crate::error::Error;
use crate::foreign::foreign;
use crate::fork::{self, Process};
use crate::name::{AsName, NameRef};
use crate::rules::check_prefix;
use crate::secret::Version;

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
/// fn on_rotation(resolver: &Resolver) -> Result<(), Error> {
///     resolver.invalidator().invalidate("prod/db#password")
/// }
/// ```
#[derive(Clone)]
pub struct Invalidator {
    fences: Arc<[Weak<dyn Fence>]>,
    process: Process,
}

/// What can be invalidated. All of it takes effect before the call returns.
pub(crate) trait Fence: Send + Sync + 'static {
    fn invalidate(&self, name: NameRef<'_>);
    fn invalidate_address(&self, address: &Address<'_>);
    fn invalidate_below(&self, prefix: NameRef<'_>);
    fn invalidate_all(&self);
    fn raise(&self, name: NameRef<'_>, floor: &Version);
    fn forget_version(&self, name: NameRef<'_>);
}

impl Invalidator {
    /// Of all of these at once: the caches of one stack, the primary's first.
    pub(crate) fn new(fences: impl IntoIterator<Item = Weak<dyn Fence>>) -> Self {
        Self {
            fences: fences.into_iter().collect(),
            process: Process::current(),
        }
    }

    /// Invalidates the whole record that `name` is part of, under every name that it has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) when the name breaks the grammar;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) in a forked child.
    pub fn invalidate(&self, name: &(impl AsName + ?Sized)) -> Result<(), Error> {
        let name = name.as_name()?;
        self.each(|fence| fence.invalidate(name))?;
        audit::invalidated(&name, "name");
        Ok(())
    }

    /// Invalidates as [`invalidate`](Self::invalidate) does and refuses versions of the primary
    /// below `lowest`, for signals that tell which version was written. A lower one that stays for
    /// ten seconds is taken for a record that was created anew, as always.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) when the name breaks the grammar;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) in a forked child.
    pub fn invalidate_below_version(
        &self,
        name: &(impl AsName + ?Sized),
        lowest: &Version,
    ) -> Result<(), Error> {
        let name = name.as_name()?;
        // The floor first: a fetch that the invalidation starts must find it. Only of the primary,
        // which is the first: versions of another store mean something else.
        let primary = self.fences.first().filter(|_| self.process.is_this());
        if let Some(primary) = primary.and_then(Weak::upgrade) {
            primary.raise(name, lowest);
        }
        self.invalidate(&name)
    }

    /// Invalidates the record at an address, for signals that speak in the store's own ids. Where
    /// names are routed, at every store: which one has sent the signal is not known.
    pub fn invalidate_address(&self, address: &Address<'_>) {
        if self.each(|fence| fence.invalidate_address(address)).is_ok() {
            audit::invalidated(&address.as_str(), "address");
        }
    }

    /// Invalidates every record that has a name, or an address in its store, at or below the path
    /// `prefix`, whether it was asked for or not. Nothing else is touched.
    ///
    /// A record that is known by several names is invalidated for all of them. Where a backend folds
    /// names (letter case) and none of those below `prefix` was asked for yet, the other spellings
    /// keep their value until one is. Of one record 16 names are known, while a value is held.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](crate::ErrorKind::Misconfigured) when `prefix` is no path;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) in a forked child.
    pub fn invalidate_prefix(&self, prefix: &str) -> Result<(), Error> {
        check_prefix(prefix)?;
        let name = NameRef::parse(prefix)?;
        self.each(|fence| fence.invalidate_below(name))?;
        audit::invalidated(&prefix, "prefix");
        Ok(())
    }

    /// Invalidates everything; nothing in a forked child, which is answered nothing.
    pub fn invalidate_all(&self) {
        if self.each(Fence::invalidate_all).is_ok() {
            audit::invalidated(&"everything", "all");
        }
    }

    /// Forgets which versions of a record were seen, after a restore on purpose: the next answer
    /// is accepted whatever its version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) when the name breaks the grammar;
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) in a forked child.
    pub fn forget_version(&self, name: &(impl AsName + ?Sized)) -> Result<(), Error> {
        let name = name.as_name()?;
        self.each(|fence| fence.forget_version(name))?;
        foreign(|| tracing::warn!(%name, "forgot the versions seen"));
        Ok(())
    }

    fn each(&self, act: impl Fn(&dyn Fence)) -> Result<(), Error> {
        // In a forked child nothing is answered, and a lock may be held for ever.
        if !self.process.is_this() {
            return Err(fork::refused());
        }
        // The primary's, which is the first, at last: see `Fallback::resolve_many`.
        for fence in self.fences.iter().rev() {
            if let Some(fence) = fence.upgrade() {
                act(&*fence);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator").finish_non_exhaustive()
    }
}
