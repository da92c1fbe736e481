//! Splitting, joining and rewriting requests: what the layers around a batch share.
//!
//! A batch goes out in pieces and comes back in order; a resolver that answers too few or too many
//! breaks its contract, and must not give one name another's value for it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::error::{Error, ErrorKind};
use crate::resolver::Request;
use crate::secret::Record;

/// A future of one part of a batch.
pub(in crate::layers) type Part<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Exactly `number` answers: what is missing is an error, what is too much is dropped.
pub(in crate::layers) fn exactly(
    number: usize,
    answers: Vec<Result<Record, Error>>,
) -> impl Iterator<Item = Result<Record, Error>> {
    let missing = std::iter::repeat_with(|| {
        Err(Error::new(
            ErrorKind::Malformed,
            "the resolver answered fewer requests than it was asked",
        ))
    });
    answers.into_iter().chain(missing).take(number)
}

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

/// The earliest deadline among `requests`: a batch lives as long as its most hurried part.
pub(in crate::layers) fn earliest_deadline(requests: &[Request<'_>]) -> Option<crate::Moment> {
    requests.iter().filter_map(Request::deadline).min()
}
