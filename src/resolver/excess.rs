//! What the identity of a store may do there beyond reading what was declared.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Error;

/// One thing that an identity may do beyond reading the names that it was asked about
/// ([`SecretResolver::excess`](crate::SecretResolver::excess)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// The store cannot say what its identity may do.
    Unknown,
    /// It may do anything: it is the store's administrator, or may give itself any right.
    Root,
    /// It may change or delete the secret of the name at this position.
    Write(usize),
    /// It may see or read other secrets than these: so many, where the store says it.
    Others(Option<u64>),
}

/// What [`SecretResolver::excess`](crate::SecretResolver::excess) returns.
#[must_use = "a future does nothing until it is awaited"]
pub struct ExcessFuture<'a>(Pin<Box<dyn Future<Output = Result<Vec<Excess>, Error>> + Send + 'a>>);

impl<'a> ExcessFuture<'a> {
    /// An answer that is there.
    pub fn ready(answer: Result<Vec<Excess>, Error>) -> Self {
        Self::new(std::future::ready(answer))
    }

    /// From any future of an answer.
    pub fn new(future: impl Future<Output = Result<Vec<Excess>, Error>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ExcessFuture<'_> {
    type Output = Result<Vec<Excess>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ExcessFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExcessFuture").finish_non_exhaustive()
    }
}
