//! The layers that stand between an application and a backend. Each is a resolver around another;
//! `stack/assemble.rs` puts them in order.

/// The methods of the trait that a layer only passes on, for those around one resolver.
macro_rules! pass_on {
    // A layer that remembers no answer, unless the one inside does.
    ($this:ident => $inner:expr) => {
        pass_on!($this => $inner, remembers: $inner.remembers());
    };
    ($this:ident => $inner:expr, remembers: $remembers:expr) => {
        fn remembers(&$this) -> bool {
            $remembers
        }

        fn identity(&$this) -> u64 {
            $inner.identity()
        }

        fn locate<'a>(
            &'a $this,
            name: crate::name::NameRef<'a>,
        ) -> crate::address::Located<'a> {
            $inner.locate(name)
        }

        fn addresses<'a>(
            &'a $this,
            own: &'a crate::address::Address<'a>,
        ) -> Vec<crate::address::Address<'a>> {
            $inner.addresses(own)
        }

        fn below<'a>(
            &'a $this,
            prefix: crate::name::NameRef<'a>,
        ) -> Vec<crate::address::Address<'a>> {
            $inner.below(prefix)
        }

        fn at_once(&$this, request: &crate::resolver::Request<'_>) -> usize {
            $inner.at_once(request)
        }

        fn endpoints(&$this) -> usize {
            $inner.endpoints()
        }

        fn origins(&$this) -> Vec<String> {
            $inner.origins()
        }

        fn spreads(&$this) -> bool {
            $inner.spreads()
        }

        fn excess<'a>(
            &'a $this,
            names: &'a [crate::name::NameRef<'a>],
        ) -> crate::resolver::ExcessFuture<'a> {
            $inner.excess(names)
        }

        fn login_ends(&$this) -> Option<crate::clock::Moment> {
            $inner.login_ends()
        }

        fn identity_status(&$this) -> Option<crate::status::IdentityStatus> {
            $inner.identity_status()
        }
    };
}

pub(crate) use pass_on;

/// `resolve_many` of a layer that stands below the cache, where no batch comes: each request alone,
/// all at once.
macro_rules! each_alone {
    ($this:ident) => {
        fn resolve_many<'a>(
            &'a $this,
            requests: &'a [crate::resolver::Request<'a>],
        ) -> crate::resolver::ResolveManyFuture<'a> {
            let each = requests.iter().map(|&request| $this.resolve(request));
            crate::resolver::ResolveManyFuture::new(crate::resolver::join_all(each))
        }
    };
}

mod attempt;
mod batch;
mod breaker;
pub(crate) mod cache;
pub(crate) mod deadline;
mod fallback;
mod gather;
mod lanes;
mod limit;
mod own_thread;
mod retry;
mod route;
mod scoped;

pub(crate) use attempt::Attempt;
pub(crate) use breaker::{Breaker, BreakerMonitor};
pub use breaker::{BreakerConfig, BreakerState};
pub use cache::SecretHandle;
pub(crate) use cache::{Cache, CacheConfig, closed_error};
pub(crate) use deadline::Deadline;
pub(crate) use fallback::Fallback;
pub(crate) use gather::Gather;
pub(crate) use lanes::Lanes;
pub(crate) use limit::Limit;
pub use limit::LimitConfig;
pub(crate) use own_thread::OwnThread;
pub(crate) use retry::Retry;
pub use retry::RetryConfig;
pub(crate) use route::Route;
pub(crate) use scoped::{Scope, Scoped};

#[cfg(test)]
mod tests;
