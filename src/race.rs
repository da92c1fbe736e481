//! The first of two futures that is ready; and a turn for all other tasks.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use pin_project_lite::pin_project;

/// The first answer of two; `first` wins when both are ready, so that an answer which came in time
/// is not lost to a timer that is due.
///
/// # Cancel safety
/// Dropping it drops both.
pub(crate) fn race<T>(
    first: impl Future<Output = T>,
    second: impl Future<Output = T>,
) -> impl Future<Output = T> {
    Race { first, second }
}

pin_project! {
    // Not an async function, which would have room for each future twice: as its argument, and pinned.
    struct Race<F, S> {
        #[pin]
        first: F,
        #[pin]
        second: S,
    }
}

impl<T, F: Future<Output = T>, S: Future<Output = T>> Future for Race<F, S> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        match this.first.poll(cx) {
            Poll::Pending => this.second.poll(cx),
            ready => ready,
        }
    }
}

/// What `wanted` answers; `None` when `end` is ready first. `wanted` is polled first, so that an answer
/// that is there is never lost to an end that came meanwhile.
///
/// # Cancel safety
/// Dropping it drops both.
///
/// ```
/// use secret_resolver::backend::first;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(first(async { 7 }, async {}).await, Some(7));
/// assert_eq!(first(std::future::pending::<u8>(), async {}).await, None);
/// # });
/// ```
pub fn first<T>(
    wanted: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> impl Future<Output = Option<T>> {
    race(wanted.map(Some), end.map(|()| None))
}

/// Lets the caller's executor run its other tasks once.
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
