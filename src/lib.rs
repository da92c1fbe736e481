#![doc = include_str!("../README.md")]

mod address;
mod aside;
mod audit;
mod blocking;
mod clock;
mod counter;
mod downgrade;
mod driver;
mod ending;
mod error;
mod file;
mod foreign;
mod fork;
mod harden;
mod in_time;
mod invalidate;
mod jitter;
mod name;
mod policy;
mod race;
mod resolver;
mod rules;
mod secret;
mod seldom;
mod shared;
mod stack;
mod status;
mod sync;
mod threads;

pub mod backend;
mod layers;
#[cfg(feature = "testing")]
pub mod testing;

/// What `fuzz/` asserts; not part of an ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of secret names.
    pub fn name(data: &[u8]) {
        let _ = crate::name::properties::hold(data);
    }
}

pub use address::Address;
pub use clock::{Clock, Moment};
pub use downgrade::Downgrade;
pub use error::{Error, ErrorKind};
pub use harden::{CoreLimit, Harden, Hardened, harden};
pub use invalidate::Invalidator;
pub use layers::{BreakerConfig, BreakerState, LimitConfig, RetryConfig, SecretHandle};
pub use name::SecretName;
pub use resolver::{RequireError, Required, SecretResolver, SecretResolverExt, ShutdownReport};
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::{Answer, Freshness, Record, Secret, SecretBuf, Version};
pub use stack::{Resolver, ResolverBuilder};
pub use status::{EndpointStatus, Failure, IdentityStatus, Status, StoreStatus};
