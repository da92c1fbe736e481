//! The first of two futures.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// What `wanted` answers; `None` when `end` is ready first. `wanted` is polled first, so that an
/// answer that is there is never lost to a deadline that passed meanwhile.
///
/// # Cancel safety
/// Drops both futures.
pub(crate) async fn first<T>(
    wanted: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    let (mut wanted, mut end) = (pin!(wanted), pin!(end));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = wanted.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        end.as_mut().poll(cx).map(|()| None)
    })
    .await
}
