//! Whether this thread still has its thread-local values.
//!
//! A thread drops them as it ends, one by one, and an application may drop or ask a resolver in the
//! destructor of one. What stands on others that are gone by then would panic there, which aborts the
//! process. So it asks first: the index of a cache (papaya) and a wait for a flight (tokio).

use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind};
use crate::foreign::foreign;

/// What is dropped before the thread-local values that we stand on.
struct Whole(bool);

thread_local! {
    static WHOLE: Whole = Whole::touching();
}

impl Whole {
    /// Uses what we stand on first: the values of a thread end in the reverse order of their first use.
    #[cold]
    fn touching() -> Self {
        let runtime = Handle::try_current().err();
        let runtime = !runtime.is_some_and(|error| error.is_thread_local_destroyed());
        // It panics where only the application's own use of it came before.
        let index = foreign(|| papaya::HashMap::<u8, u8>::new().pin().is_empty());
        Self(runtime && index.is_some())
    }
}

impl Drop for Whole {
    // A value without a destructor is never gone.
    fn drop(&mut self) {}
}

/// Whether it has. Asking costs two loads.
#[inline]
pub(crate) fn is_whole() -> bool {
    WHOLE.try_with(|whole| whole.0).unwrap_or(false)
}

/// Why nothing is waited for.
#[cold]
pub(crate) fn refused() -> Error {
    Error::new(
        ErrorKind::Refused,
        "the thread is ending, and cannot wait in the destructor of a thread-local; get the secret before",
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc;

    use super::*;

    struct Looks(mpsc::Sender<bool>);

    impl Drop for Looks {
        fn drop(&mut self) {
            let _ = self.0.send(is_whole());
        }
    }

    thread_local! {
        static LAST: RefCell<Option<Looks>> = const { RefCell::new(None) };
    }

    #[test]
    fn a_thread_is_whole_until_it_drops_its_values() {
        let (seen, sees) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            LAST.with(|last| *last.borrow_mut() = Some(Looks(seen)));
            is_whole()
        });
        assert!(thread.join().unwrap());
        assert_eq!(sees.recv(), Ok(false));
    }
}
