//! What the users of a process share while one of them lives: a clock, threads. It holds no settings.
//!
//! Finding it takes no lock: a forked child, in which such a lock may be held for ever, can build a
//! new resolver.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use crate::error::Error;
use crate::fork::Process;

/// Where it is found.
pub(crate) type Place<T> = ArcSwapOption<Weak<T>>;

/// Something that is useful only in the process that made it.
pub(crate) trait OfProcess {
    fn process(&self) -> &Process;
}

/// What stands in `place`, or what `start` makes where there is none of this process.
pub(crate) fn shared<T: OfProcess>(
    place: &Place<T>,
    start: impl Fn() -> Result<T, Error>,
) -> Result<Arc<T>, Error> {
    loop {
        if let Some(shared) = living(place) {
            return Ok(shared);
        }
        let known = place.load_full();
        let new = Arc::new(start()?);
        let there = place.compare_and_swap(&known, Some(Arc::new(Arc::downgrade(&new))));
        // Another caller may have been faster: then that one is taken.
        let unchanged = match (&*there, &known) {
            (Some(there), Some(known)) => Arc::ptr_eq(there, known),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return Ok(new);
        }
    }
}

/// What stands in `place`, if it is of this process and has a user.
pub(crate) fn living<T: OfProcess>(place: &Place<T>) -> Option<Arc<T>> {
    let shared = place.load_full()?.upgrade()?;
    shared.process().is_this().then_some(shared)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Thing(Process);

    impl OfProcess for Thing {
        fn process(&self) -> &Process {
            &self.0
        }
    }

    #[test]
    fn it_is_started_once_for_all_that_use_it_and_again_when_none_does() {
        let place = Place::default();
        let started = Cell::new(0);
        let user = || {
            shared(&place, || {
                started.set(started.get() + 1);
                Ok(Thing(Process::current()))
            })
            .unwrap()
        };
        for time in 1..4 {
            let (one, other) = (user(), user());
            assert!(Arc::ptr_eq(&one, &other));
            assert_eq!(started.get(), time);
        }
    }
}
