//! Two futures, and whichever is ready first; and a turn for everybody else.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

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
