#![doc = include_str!("../README.md")]

mod address;
mod aside;
mod audit;
mod clock;
mod counter;
mod downgrade;
mod driver;
mod error;
mod foreign;
mod fork;
mod in_time;
mod invalidate;
mod name;
mod policy;
mod race;
mod resolver;
mod rules;
mod secret;
mod stack;
mod status;
mod sync;

pub mod layers;
#[cfg(feature = "testing")]
pub mod testing;

pub use address::{Address, Located};
pub use clock::{Clock, Moment, Sleep, SystemClock};
pub use downgrade::Downgrade;
pub use error::{Error, ErrorKind, Permits, Retry};
pub use invalidate::Invalidator;
pub use layers::SecretHandle;
pub use name::{AsName, NameRef, SecretName};
pub use policy::{Decision, Held, Policy, decide};
pub use resolver::{
    Request, RequireError, Required, ResolveFuture, ResolveManyFuture, SecretResolver,
    SecretResolverExt, ShutdownFuture, ShutdownReport, join_all,
};
pub use secrecy::ExposeSecret;
pub use secret::{Answer, Freshness, Record, RecordBuilder, Secret, SecretBuf, Version};
pub use stack::{Resolver, ResolverBuilder};
pub use status::{MemoryKind, Status};
