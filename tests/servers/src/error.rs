//! The one error of this crate: a sentence for a person when a test could not get its server. It has no kinds, because no test
//! decides anything by why its server is missing.

use std::fmt;

/// Why a server could not be started, steered or administered.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// For `map_err`: says what was being done when `source` happened.
    pub(crate) fn during<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self(format!("{doing}: {source}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
