//! The resolver and its layers as a [`SecretResolver`]: what they only pass on.

use super::assemble::Stack;
use super::{Resolver, elsewhere};
use crate::clock::Moment;
use crate::layers::pass_on;
use crate::resolver::{
    Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture, ShutdownReport,
};

impl Resolver {
    fn inner(&self) -> &dyn SecretResolver {
        match &self.scope {
            Some(scoped) => scoped,
            None => &*self.stack,
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Resolver {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        // Asked at the first poll: an answer that is polled late is not older than its poll.
        ResolveFuture::lazy(self.inner(), request)
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        self.inner().resolve_many(requests)
    }

    pass_on!(self => self.inner());

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner().shutdown(deadline)
    }
}

/// The layers in the process in which they were built, and in no other, however long a call waits.
#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Stack {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let refused = move || Err(elsewhere(request.name().as_str()));
        if !self.process.is_this() {
            return ResolveFuture::ready(refused());
        }
        let answer = self.layers.resolve(request);
        if answer.is_ready() {
            return answer;
        }
        let here = self.process.here(answer);
        ResolveFuture::new(async move { here.await.unwrap_or_else(refused) })
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        let refused = || {
            let names = requests.iter().map(Request::name);
            names.map(|name| Err(elsewhere(name.as_str()))).collect()
        };
        // Lazy, as a shutdown is: nothing below takes a lock before the first poll.
        let here = self.process.here(self.layers.resolve_many(requests));
        ResolveManyFuture::new(async move { here.await.unwrap_or_else(refused) })
    }

    pass_on!(self => self.layers, remembers: true);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        let refused = || ShutdownReport {
            timed_out: true,
            ..ShutdownReport::default()
        };
        let here = self.process.here(self.layers.shutdown(deadline));
        ShutdownFuture::new(async move { here.await.unwrap_or_else(refused) })
    }
}
