//! The one trait: everything that can answer a secret is a [`SecretResolver`].
//!
//! A backend, a cache around a backend, a fallback, a mock and the assembled
//! [`Resolver`](crate::Resolver) all implement it, so layers compose and a test can stand in for
//! any of them. What a request carries is in `request`, what comes back in `future`, the helpers
//! that applications call in `ext`.

mod excess;
mod ext;
mod future;
mod request;
mod require;
mod shutdown;

pub use excess::{Excess, ExcessFuture};
pub use ext::SecretResolverExt;
pub(crate) use ext::{field_of, named, required};
pub(crate) use future::join_all;
pub use future::{ResolveFuture, ResolveManyFuture};
pub use request::{Batch, Request};
pub(crate) use request::{Held, Holder, OwnedRequest, Tried};
pub use require::{RequireError, Required};
pub use shutdown::{ShutdownFuture, ShutdownReport};

use std::fmt;
use std::sync::Arc;

use crate::address::{Address, Located};
use crate::clock::Moment;
use crate::name::NameRef;
use crate::status::IdentityStatus;

/// Something that answers secrets.
///
/// # Contract
/// - `resolve` answers the record at the name's address **with the name's field selected**
///   ([`Record::select`](crate::Record::select)). A record without that field is still an answer:
///   the error comes when the field is taken out.
/// - What is answered is a version that the request accepts: [`Request::admit`] is the last step.
/// - Errors have the kind that [`ErrorKind`](crate::ErrorKind) documents. Nothing panics, and no
///   error, log line or `Debug` text holds a secret.
/// - `locate` is pure: no I/O, and the same answer at every call for the life of the resolver. The
///   other methods that are not async answer at once, too: they run on the threads of callers.
/// - Clones share state. A future may be dropped at any await and leaves the resolver usable; one
///   caller's departure does not fail another.
/// - A resolver that keeps time reads it from the [`Clock`](crate::Clock) that it was given.
/// - The future may rely on a tokio runtime with its I/O and time drivers: the assembled
///   [`Resolver`](crate::Resolver) polls it on its own runtime.
/// - A ready answer of a layer is good at the moment of the call; a caller that polls late asks again, as
///   the helpers of [`SecretResolverExt`] do.
///
/// ```
/// use secret_resolver::backend::{Request, ResolveFuture};
/// use secret_resolver::{
///     Error, ErrorKind, Record, SecretBuf, SecretResolver, SecretResolverExt,
/// };
///
/// #[derive(Debug)]
/// struct Fixed;
///
/// impl SecretResolver for Fixed {
///     fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
///         ResolveFuture::ready(match request.name().as_str() {
///             "prod/token" => SecretBuf::from_slice(b"t0k3n")
///                 .and_then(|value| request.admit(Record::single("fixed", value))),
///             _ => Err(Error::new(ErrorKind::NotFound, "only prod/token is here")),
///         })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(Fixed.get("prod/token").await?.expose_str()?, "t0k3n");
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub trait SecretResolver: fmt::Debug + Send + Sync + 'static {
    /// The record at the address of the request's name, with the name's field selected.
    ///
    /// # Errors
    /// As the kinds of [`ErrorKind`](crate::ErrorKind) say.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time.
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a>;

    /// One answer for each request, in their order; each fails alone.
    ///
    /// Provided: single reads, concurrently. No common version of several records is promised.
    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        ResolveManyFuture::new(join_all(
            requests.iter().map(|&request| self.resolve(request)),
        ))
    }

    /// What the name means to the store: where the record is, and which field of it is meant.
    ///
    /// Provided: the path and the field of the name.
    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        Located::by_path(name)
    }

    /// A store keeps records at its own id `own`, as its signals say it. These are the addresses under
    /// which they are known here. A router has one for each of its stores.
    ///
    /// Provided: `own` itself.
    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        vec![own.clone()]
    }

    /// The addresses at and below which this resolver keeps what has a name at or below the path
    /// `prefix`, by whole segments; and those to which an alias leads. A signal for the prefix also
    /// concerns them, whether their names were asked for or not.
    ///
    /// Provided: the address of `prefix` itself.
    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        vec![self.locate(prefix).address().clone()]
    }

    /// How many requests like this one the store reads in one: then those that arrive while another is under way are put
    /// together ([`Request::batch`]), and what guards the store sees one request. Asked before each read: it is pure, and
    /// answers at once.
    ///
    /// Provided: 1, each alone.
    fn at_once(&self, request: &Request<'_>) -> usize {
        let _ = request;
        1
    }

    /// Whether it answers from its own memory. Such a resolver cannot be a store of a
    /// [`Resolver`](crate::Resolver): an invalidation would not reach what it remembers.
    ///
    /// Provided: no.
    fn remembers(&self) -> bool {
        false
    }

    /// How many interchangeable endpoints the store is asked at. A layer that knows which of them
    /// fail directs an attempt with [`Request::at_endpoint`]; a backend with several honours it.
    ///
    /// Provided: one.
    fn endpoints(&self) -> usize {
        1
    }

    /// The origins of the endpoints, in their order, for status and logs.
    ///
    /// Provided: not known.
    fn origins(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether requests are spread over the endpoints. Otherwise the first that answers is asked, in their
    /// order, and the others stand by.
    ///
    /// Provided: no.
    fn spreads(&self) -> bool {
        false
    }

    /// A number that changes when the resolver asks its store under a new login. What the store
    /// has refused to one identity it may grant to the next, so a cache forgets refusals with it.
    ///
    /// Provided: always the same.
    fn identity(&self) -> u64 {
        0
    }

    /// When the login ends under which the store is asked now, on the resolver's clock; for
    /// readiness probes.
    ///
    /// Provided: there is none, or its end is not known.
    fn login_ends(&self) -> Option<Moment> {
        None
    }

    /// The identity that proves to the store who asks, where something else gives it and changes it, such as a SPIFFE agent; for
    /// readiness probes.
    ///
    /// Provided: there is none.
    fn identity_status(&self) -> Option<IdentityStatus> {
        None
    }

    /// What the identity under which the store is asked may do there beyond reading `names`: change them, see others, anything.
    /// [`Resolver::require`](crate::Resolver::require) asks it, for everything that was required so far. To ask changes nothing.
    ///
    /// Provided: the store cannot say.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve), where the store does not answer.
    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        let _ = names;
        ExcessFuture::ready(Ok(vec![Excess::Unknown]))
    }

    /// Refuses new requests, ends those in flight, wipes what is held and revokes at the store
    /// what was issued for this resolver (tokens, leases), until `deadline` on its clock.
    ///
    /// Provided: nothing is held, so there is nothing to do. A layer ends its own part first, then
    /// passes on.
    ///
    /// # Cancel safety
    /// New requests are refused and held values wiped once it was polled; dropping it only ends
    /// the wait for revocations.
    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        let _ = deadline;
        ShutdownFuture::ready(ShutdownReport::default())
    }
}

/// Forwards every method of the trait to what a pointer points to.
macro_rules! forward {
    ($($pointer:ident),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<R: SecretResolver + ?Sized> SecretResolver for $pointer<R> {
            fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
                (**self).resolve(request)
            }

            fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
                (**self).resolve_many(requests)
            }

            fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
                (**self).locate(name)
            }

            fn at_once(&self, request: &Request<'_>) -> usize {
                (**self).at_once(request)
            }

            fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
                (**self).addresses(own)
            }

            fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
                (**self).below(prefix)
            }

            fn remembers(&self) -> bool {
                (**self).remembers()
            }

            fn endpoints(&self) -> usize {
                (**self).endpoints()
            }

            fn origins(&self) -> Vec<String> {
                (**self).origins()
            }

            fn spreads(&self) -> bool {
                (**self).spreads()
            }

            fn identity(&self) -> u64 {
                (**self).identity()
            }

            fn login_ends(&self) -> Option<Moment> {
                (**self).login_ends()
            }

            fn identity_status(&self) -> Option<IdentityStatus> {
                (**self).identity_status()
            }

            fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
                (**self).excess(names)
            }

            fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
                (**self).shutdown(deadline)
            }
        }
    )*};
}

forward!(Arc, Box);
