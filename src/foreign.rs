//! Code that is not ours: wakers, callbacks, subscribers. Nothing that it does ends a thread of ours.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Calls code that is not ours; `None` when it panicked. What is known of the panic is what its hook has written.
///
/// ```
/// use secret_resolver::backend::foreign;
///
/// let callback: fn() -> u8 = || panic!("of the application's own making");
/// assert_eq!(foreign(callback), None);
/// ```
pub fn foreign<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => Some(answer),
        Err(payload) => {
            // Not dropped: the drop is foreign code, too, and may panic again where nothing catches it.
            std::mem::forget(payload);
            None
        }
    }
}

/// Awaits a future that is not ours; `None` when it panicked.
///
/// # Cancel safety
/// Dropping it drops the future.
///
/// ```
/// use secret_resolver::backend::contained;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let credential = async { panic!("of the application's own making") };
/// assert_eq!(contained::<()>(credential).await, None);
/// # });
/// ```
pub async fn contained<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match foreign(|| future.as_mut().poll(cx)) {
        Some(poll) => poll.map(Some),
        None => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("of the test's own making");
        }
    }

    #[test]
    fn a_panic_of_foreign_code_stays_its_own_even_when_its_payload_panics_in_its_drop() {
        assert_eq!(foreign(|| 7), Some(7));
        let ended = catch_unwind(|| foreign(|| std::panic::panic_any(PanicsWhenDropped)));
        assert!(ended.is_ok_and(|answer| answer.is_none()));
    }
}
