//! Two futures, and whichever is ready first; and a turn for everybody else.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// The first answer of two; `first` wins when both are ready, so that an answer which came in time
/// is not lost to a timer that is due.
///
/// # Cancel safety
/// Dropping it drops both.
pub(crate) async fn race<T, F, S>(first: F, second: S) -> T
where
    F: Future<Output = T>,
    S: Future<Output = T>,
{
    let mut first = pin!(first);
    let mut second = pin!(second);
    poll_fn(move |cx| match first.as_mut().poll(cx) {
        Poll::Pending => second.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// Lets the caller's executor go round once.
pub(crate) async fn turn() {
    let mut gone_round = false;
    poll_fn(|cx| {
        if gone_round {
            return Poll::Ready(());
        }
        gone_round = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
