//! A future against the clock: the one place where the transport waits for time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use secret_resolver::{Clock, Moment};

/// What `future` gives, or `None` once `deadline` has passed.
///
/// The future is polled first, so that an answer that came in time is never lost to the clock.
///
/// # Cancel safety
/// Dropping it drops `future`, and so does the deadline's passing.
pub(crate) async fn before<T>(
    deadline: Moment,
    clock: &dyn Clock,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut sleep = clock.sleep_until(deadline);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
