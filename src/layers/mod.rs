//! The layers that stand between an application and a backend. Each is a resolver around another.
//!
//! [`crate::Resolver`] puts them in order; use them alone only to build an order of your own.

mod batch;
mod breaker;
pub(crate) mod cache;
pub(crate) mod deadline;
mod fallback;
mod limit;
mod retry;
mod route;
mod scoped;

pub use breaker::{Breaker, BreakerConfig, BreakerMonitor, BreakerState, BreakerStatus};
pub use cache::{Cache, CacheConfig, SecretHandle};
pub use deadline::Deadline;
pub(crate) use fallback::Fallback;
pub use limit::{Limit, LimitConfig};
pub use retry::{Retry, RetryConfig};
pub use route::{Route, RouteBuilder};
pub use scoped::Scoped;
