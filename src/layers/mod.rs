//! The layers that stand between an application and a backend. Each is a resolver around another.
//!
//! [`crate::Resolver`] puts them in order; use them alone only to build an order of your own.

pub(crate) mod cache;
pub(crate) mod deadline;
mod fallback;

pub use cache::{Cache, CacheConfig, SecretHandle};
pub use deadline::Deadline;
pub(crate) use fallback::Fallback;
