//! A future against the clock: the one place where the transport waits for time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use secret_resolver::{Clock, Moment};

/// What `future` gives, or `None` once `deadline` has passed.
///
/// The future is polled first, so that an answer that came in time is never lost to the clock.
///
/// # Cancel safety
/// Dropping it drops `future`, and so does the deadline's passing.
pub(crate) fn before<T>(
    deadline: Moment,
    clock: &dyn Clock,
    future: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    let sleep = clock.sleep_until(deadline);
    Before { future, sleep }
}

pin_project! {
    // Not an async function, which would have room for the future twice: as its argument, and pinned.
    struct Before<F, S> {
        #[pin]
        future: F,
        #[pin]
        sleep: S,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Before<F, S> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => this.sleep.poll(cx).map(|()| None),
        }
    }
}
