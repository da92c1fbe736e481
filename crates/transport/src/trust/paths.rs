//! The path of a file where authorities are wanted, in each of the types that a path has.

use std::path::{Path, PathBuf};

use secret_resolver::Error;

use super::{Trust, misconfigured};

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<&Path> for Trust {
    type Error = Error;

    fn try_from(path: &Path) -> Result<Self, Error> {
        Self::from_file(path)
    }
}

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<PathBuf> for Trust {
    type Error = Error;

    fn try_from(path: PathBuf) -> Result<Self, Error> {
        Self::from_file(path)
    }
}

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<&PathBuf> for Trust {
    type Error = Error;

    fn try_from(path: &PathBuf) -> Result<Self, Error> {
        Self::from_file(path)
    }
}

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<&String> for Trust {
    type Error = Error;

    fn try_from(path: &String) -> Result<Self, Error> {
        Self::try_from(path.as_str())
    }
}

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<&str> for Trust {
    type Error = Error;

    fn try_from(path: &str) -> Result<Self, Error> {
        if path.trim_start().starts_with("-----BEGIN") {
            return Err(misconfigured(
                "this is PEM text where the path of a file is wanted; read it by Trust::from_pem",
            ));
        }
        Self::from_file(path)
    }
}

/// The path of a file, as [`Trust::from_file`] reads it.
impl TryFrom<String> for Trust {
    type Error = Error;

    fn try_from(path: String) -> Result<Self, Error> {
        Self::try_from(path.as_str())
    }
}
