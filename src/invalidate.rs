//! What a rotation signal calls: from its return on, the old value is answered to nobody.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::name::{AsName, NameRef};

/// Drops cached values and fences the fetches in flight. Cheap to clone; does not keep the
/// resolver alive.
///
/// # Security
/// After a call has returned, no `get` answers a value whose fetch began before it; a `get` that
/// waits already is given the next fetch's answer.
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
    fence: Weak<dyn Fence>,
}

/// What can be invalidated.
pub(crate) trait Fence: Send + Sync + 'static {
    fn invalidate(&self, name: NameRef<'_>);
    fn invalidate_all(&self);
}

impl Invalidator {
    pub(crate) fn new(fence: &Arc<dyn Fence>) -> Self {
        Self {
            fence: Arc::downgrade(fence),
        }
    }

    /// Invalidates the whole record that `name` is part of, under every name that it has.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) when the name breaks the grammar.
    pub fn invalidate(&self, name: &(impl AsName + ?Sized)) -> Result<(), Error> {
        let name = name.as_name()?;
        if let Some(fence) = self.fence.upgrade() {
            fence.invalidate(name);
            tracing::info!(%name, "invalidated");
        }
        Ok(())
    }

    /// Invalidates everything.
    pub fn invalidate_all(&self) {
        if let Some(fence) = self.fence.upgrade() {
            fence.invalidate_all();
            tracing::info!("invalidated everything");
        }
    }
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator").finish_non_exhaustive()
    }
}
