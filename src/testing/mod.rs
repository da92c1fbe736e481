//! For tests, of applications and of backends: a scripted backend, a manual clock, and the laws
//! that every resolver keeps. Feature `testing`; never in a production build.

mod clock;
pub mod conformance;
mod mock;

pub use clock::ManualClock;
pub use mock::{Gate, MockBackend, Reply};
