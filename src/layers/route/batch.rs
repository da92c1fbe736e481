//! Splitting, joining and rewriting requests: what the layers around a batch share.
//!
//! A batch goes out in pieces and comes back in order; a resolver that answers too few or too many
//! breaks its contract, and must not give one name another's value for it.

use std::collections::BTreeMap;
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

/// Splits a batch into the shares of those that `owner` names, each by its number, asks all of them
/// at once, and answers in the order of the batch.
///
/// # Cancel safety
/// As that of `ask`.
pub(in crate::layers) async fn shared_out<'a, 'p, O: Copy>(
    requests: &'p [Request<'a>],
    owner: impl Fn(&Request<'a>) -> (usize, O),
    ask: impl Fn(O, Vec<Request<'a>>) -> Part<'p, Vec<Result<Record, Error>>>,
) -> Vec<Result<Record, Error>> {
    // For each owner, where its requests stand in the batch, and the requests.
    let mut shares: BTreeMap<usize, (O, Vec<usize>, Vec<Request<'a>>)> = BTreeMap::new();
    for (position, request) in requests.iter().enumerate() {
        let (number, owner) = owner(request);
        let empty = || (owner, Vec::new(), Vec::new());
        let (_, positions, share) = shares.entry(number).or_insert_with(empty);
        positions.push(position);
        share.push(*request);
    }
    let (places, parts): (Vec<_>, Vec<_>) = shares
        .into_values()
        .map(|(owner, positions, share)| (positions, ask(owner, share)))
        .unzip();
    let mut answers: Vec<(usize, _)> = Vec::with_capacity(requests.len());
    for (positions, part) in places.into_iter().zip(join(parts).await) {
        let part = exactly(positions.len(), part);
        answers.extend(positions.into_iter().zip(part));
    }
    // Each position is there once.
    answers.sort_by_key(|&(position, _)| position);
    answers.into_iter().map(|(_, answer)| answer).collect()
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
