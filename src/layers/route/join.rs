//! The futures of several stores, awaited together: for layers around more than one.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future of one store.
pub(in crate::layers) type Part<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Awaits all of `parts` concurrently and returns their outputs in order.
///
/// Each wake-up polls all that are pending: for as many as there are stores, not as there are names.
///
/// # Cancel safety
/// Dropping it drops all of the parts.
pub(in crate::layers) async fn join<T>(mut parts: Vec<Part<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = parts.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (part, done) in parts.iter_mut().zip(&mut done) {
            if done.is_none() {
                match part.as_mut().poll(cx) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    // All are there; none is dropped by `flatten`.
    done.into_iter().flatten().collect()
}
