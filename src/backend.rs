//! What the author of a backend needs beside the items on the front page.
//!
//! A backend implements [`SecretResolver`](crate::SecretResolver): it maps names to addresses
//! ([`Located`]) and answers each [`Request`] with a [`Record`](crate::Record) or an
//! [`Error`](crate::Error). Its tests run the laws of the testing kit (feature `testing`). Applications need nothing of this module.

pub use crate::address::Located;
pub use crate::aside::{report, report_aside};
pub use crate::clock::{Sleep, SystemClock};
pub use crate::error::{Permits, Repeat};
pub use crate::file::regular_file;
pub use crate::foreign::{contained, foreign};
pub use crate::fork::Process;
pub use crate::jitter::random_part;
pub use crate::name::NameRef;
pub use crate::race::first;
pub use crate::resolver::{
    Batch, Excess, ExcessFuture, Request, ResolveFuture, ResolveManyFuture, ShutdownFuture,
};
pub use crate::rules::is_below;
pub use crate::secret::RecordBuilder;
pub use crate::seldom::Seldom;
