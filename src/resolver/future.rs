//! The futures of the trait: opaque, dyn-compatible, and without an allocation when ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, ErrorKind};
use crate::resolver::{Request, SecretResolver};
use crate::secret::Record;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer to a [`Request`], now or later.
///
/// ```
/// use secret_resolver::{Error, ErrorKind, ResolveFuture};
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

    /// Whether the answer is there and is no error.
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

/// Awaits all of `futures` concurrently and returns their answers in order.
///
/// Each wake-up polls all that are still pending: for the tens or hundreds of names that a
/// service reads, not for more.
///
/// # Cancel safety
/// Dropping it drops all of the futures.
pub async fn join_all<'a>(
    futures: impl IntoIterator<Item = ResolveFuture<'a>>,
) -> Vec<Result<Record, Error>> {
    let mut waiting: Vec<ResolveFuture<'a>> = futures.into_iter().collect();
    let mut answers: Vec<Option<Result<Record, Error>>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        let mut pending = false;
        for (future, answer) in waiting.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match Pin::new(future).poll(cx) {
                    Poll::Ready(ready) => *answer = Some(ready),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return Poll::Pending;
        }
        let answers = answers.drain(..);
        Poll::Ready(
            answers
                .map(|answer| answer.unwrap_or_else(|| Err(polled_again())))
                .collect(),
        )
    })
    .await
}

/// A future that is polled after its answer was taken is a bug of the caller's; it gets an error
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
