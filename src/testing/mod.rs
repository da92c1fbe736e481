//! For tests, of applications and of backends: a scripted backend, a manual clock, and the laws
//! that every resolver keeps. Feature `testing`; never in a production build.

#[cfg(target_os = "linux")]
mod canary;
mod clock;
pub mod conformance;
mod mock;

#[cfg(target_os = "linux")]
pub use canary::Canary;
pub use clock::ManualClock;
pub use mock::{Gate, MockBackend, Reply};
