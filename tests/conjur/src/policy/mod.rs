//! Policies: as much of their language as tests need, read and carried out. A policy is carried out as a whole or not at all.

mod load;
mod yaml;

pub(crate) use self::load::{Mode, load};

/// Why a policy was not loaded.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be read.
    Text { line: usize, message: String },
    /// It refers to something that is not there.
    Missing {
        account: String,
        kind: String,
        id: String,
    },
}

impl Failure {
    fn text(line: usize, message: impl Into<String>) -> Self {
        Self::Text {
            line,
            message: message.into(),
        }
    }
}
