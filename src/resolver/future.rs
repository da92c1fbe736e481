//! The futures of the trait: opaque, dyn-compatible, and without an allocation when ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error::{Error, ErrorKind};
use crate::race::turn;
use crate::resolver::{Request, SecretResolver};
use crate::secret::Record;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer to a [`Request`], now or later.
///
/// ```
/// use secret_resolver::backend::ResolveFuture;
/// use secret_resolver::{Error, ErrorKind};
///
/// let refused = || Error::new(ErrorKind::NotFound, "no such secret");
/// assert!(ResolveFuture::ready(Err(refused())).is_ready());
/// assert!(!ResolveFuture::new(async move { Err(refused()) }).is_ready());
/// ```
#[must_use = "a future does nothing until it is awaited"]
pub struct ResolveFuture<'a>(Inner<'a>);

enum Inner<'a> {
    Ready(Option<Result<Record, Error>>),
    /// Asked at the first poll, so that what was cached at the call and is polled late is not
    /// answered after its expiry.
    Lazy(&'a dyn SecretResolver, Request<'a>),
    Pending(BoxFuture<'a, Result<Record, Error>>),
}

/// The answers to several requests, in their order.
#[must_use = "a future does nothing until it is awaited"]
pub struct ResolveManyFuture<'a>(BoxFuture<'a, Vec<Result<Record, Error>>>);

impl<'a> ResolveFuture<'a> {
    /// An answer that is there. Allocates nothing.
    pub fn ready(answer: Result<Record, Error>) -> Self {
        Self(Inner::Ready(Some(answer)))
    }

    /// An answer that is still to come.
    pub fn new(future: impl Future<Output = Result<Record, Error>> + Send + 'a) -> Self {
        Self(Inner::Pending(Box::pin(future)))
    }

    /// Asks `resolver` when it is polled for the first time. Allocates nothing by itself.
    pub fn lazy(resolver: &'a dyn SecretResolver, request: Request<'a>) -> Self {
        Self(Inner::Lazy(resolver, request))
    }

    /// Whether the answer is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.0, Inner::Ready(_))
    }

    /// Whether the answer is there and is not an error.
    #[must_use]
    pub fn is_ready_ok(&self) -> bool {
        matches!(self.0, Inner::Ready(Some(Ok(_))))
    }

    /// Changes the answer: at once if it is there, so that no layer allocates on a hit.
    pub fn map(
        self,
        change: impl FnOnce(Result<Record, Error>) -> Result<Record, Error> + Send + 'a,
    ) -> Self {
        match self.0 {
            Inner::Ready(answer) => Self(Inner::Ready(answer.map(change))),
            later => Self::new(async move { change(Self(later).await) }),
        }
    }
}

impl Future for ResolveFuture<'_> {
    type Output = Result<Record, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Inner::Ready(answer) => {
                    return Poll::Ready(answer.take().unwrap_or_else(|| Err(polled_again())));
                }
                Inner::Lazy(resolver, request) => self.0 = resolver.resolve(*request).0,
                Inner::Pending(future) => return future.as_mut().poll(cx),
            }
        }
    }
}

impl<'a> ResolveManyFuture<'a> {
    /// From any future of the answers.
    pub fn new(future: impl Future<Output = Vec<Result<Record, Error>>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ResolveManyFuture<'_> {
    type Output = Vec<Result<Record, Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// Awaits all of `futures`, this many at once, and returns their answers in order.
///
/// A large batch is taken in bit by bit: of the futures that `futures` yields 256 are under way at
/// once, and after some that were ready others get a turn on the caller's runtime.
///
/// # Cancel safety
/// Dropping it drops all of the futures.
pub(crate) fn join_all<'i, 'a: 'i>(
    futures: impl IntoIterator<Item = ResolveFuture<'a>, IntoIter: Send + 'i>,
) -> impl Future<Output = Vec<Result<Record, Error>>> + Send + 'i {
    // Boxed, because the compiler cannot see that a closure over borrowed requests is general enough.
    joined(Box::new(futures.into_iter()))
}

async fn joined<'i, 'a: 'i>(
    futures: Box<dyn Iterator<Item = ResolveFuture<'a>> + Send + 'i>,
) -> Vec<Result<Record, Error>> {
    /// How many are under way at once. The time of each runs from its begin: more would only wait for a permit.
    const AT_ONCE: usize = 256;
    /// After how many others get a turn.
    const TURN: usize = 64;
    let mut futures = futures.enumerate().fuse();
    let mut answers: Vec<Option<Result<Record, Error>>> = Vec::new();
    let mut under_way = FuturesUnordered::new();
    let mut since_turn = 0;
    loop {
        // What is ready is not put into the crowd: a batch of hits allocates nothing for each.
        let next = match under_way.len() < AT_ONCE {
            true => futures.next(),
            false => None,
        };
        let (at, answer) = match next {
            Some((at, future)) => {
                answers.push(None);
                if future.is_ready() {
                    (at, future.await)
                } else {
                    under_way.push(async move { (at, future.await) });
                    continue;
                }
            }
            None => match under_way.next().await {
                Some(ended) => ended,
                None => break,
            },
        };
        answers[at] = Some(answer);
        since_turn += 1;
        if since_turn >= TURN {
            since_turn = 0;
            turn().await;
        }
    }
    let answers = answers.into_iter();
    // Each has ended.
    let answers = answers.map(|answer| answer.unwrap_or_else(|| Err(polled_again())));
    answers.collect()
}

/// A future that is polled after its answer was taken is a bug of the caller; it gets an error
/// where others would panic.
fn polled_again() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the answer was taken before; ask again instead of polling again",
    )
}

impl fmt::Debug for ResolveFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for ResolveManyFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveManyFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::secret::SecretBuf;

    fn record(value: &[u8]) -> Record {
        Record::single("test", SecretBuf::from_slice(value).unwrap())
    }

    fn closed(_: Result<Record, Error>) -> Result<Record, Error> {
        Err(Error::new(ErrorKind::Closed, "of the test's own making"))
    }

    #[test]
    fn an_answer_is_changed_at_once_where_it_is_there_and_later_where_it_is_not() {
        let there = ResolveFuture::ready(Ok(record(b"value"))).map(closed);
        assert!(there.is_ready() && !there.is_ready_ok());
        let later = ResolveFuture::new(async { Ok(record(b"value")) }).map(closed);
        assert!(!later.is_ready());
        for mut changed in [there, later] {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Err(error)) = Pin::new(&mut changed).poll(&mut cx) else {
                panic!("it is not changed");
            };
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
    }

    #[test]
    fn a_future_shows_nothing_of_its_answer() {
        let one = ResolveFuture::ready(Ok(record(b"hunter2")));
        assert_eq!(format!("{one:?}"), "ResolveFuture { .. }");
        let many = ResolveManyFuture::new(async { vec![Ok(record(b"hunter2"))] });
        assert_eq!(format!("{many:?}"), "ResolveManyFuture { .. }");
    }
}
