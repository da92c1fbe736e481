//! The first of two futures.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// What `wanted` answers; `None` when `end` is ready first. `wanted` is polled first, so that an
/// answer that is there is never lost to a deadline that passed meanwhile.
///
/// # Cancel safety
/// Drops both futures.
pub(crate) fn first<T>(
    wanted: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> impl Future<Output = Option<T>> {
    First { wanted, end }
}

pin_project! {
    // Not an async function, which would have room for each future twice: as its argument, and pinned.
    struct First<W, E> {
        #[pin]
        wanted: W,
        #[pin]
        end: E,
    }
}

impl<W: Future, E: Future<Output = ()>> Future for First<W, E> {
    type Output = Option<W::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.wanted.poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => this.end.poll(cx).map(|()| None),
        }
    }
}
