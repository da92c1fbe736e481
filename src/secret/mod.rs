//! The secret that an application holds: one field of a record, cheap to clone, never printed.
//!
//! What a record is stands in `record`, the bytes below it in `buf`. Nothing here decides how
//! long a value may be used: that is the cache's work.

mod answer;
mod buf;
#[cfg(feature = "serde")]
mod deserialize;
mod record;
mod version;

pub use answer::{Answer, Freshness};
pub use buf::SecretBuf;
pub(crate) use record::{Contents, Selected};
pub use record::{Record, RecordBuilder};
pub use version::Version;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::error::{Error, ErrorKind};

/// One field of a [`Record`], as `get` answers it.
///
/// A clone shares the bytes. They are wiped when the last clone and the cache's own reference are
/// gone, never under a reader: so hold a `Secret` for one use, and ask again for the next.
///
/// # Security
/// `Debug` is a fixed mask that hides even the length; there is no `Display`, `Serialize`,
/// `Deref` or `Hash`; equality takes the same time wherever two values of one length differ.
///
/// ```
/// use secret_resolver::{ExposeSecret, Record, SecretBuf};
///
/// let secret = Record::single("example", SecretBuf::from_slice(b"hunter2")?).into_secret()?;
/// assert_eq!(secret.expose_secret(), b"hunter2");
/// assert_eq!(secret.expose_str()?, "hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret([redacted])");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone)]
// With a field selected that is there: `Record::into_secret` has checked it.
pub struct Secret(Record);

impl Secret {
    /// The value as text.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when the value is not UTF-8; use
    /// [`expose_secret`](ExposeSecret::expose_secret) for its bytes.
    pub fn expose_str(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.expose_secret()).map_err(|_| {
            // The foreign error has a position within the value; it is dropped.
            Error::new(
                ErrorKind::Malformed,
                "the value is not UTF-8 text; read its bytes instead",
            )
            .with_backend(self.answer().backend())
        })
    }

    /// The value as text in secrecy's own type, for a library that takes one. It is a copy, which secrecy
    /// wipes when it is dropped; it does not follow rotations.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when the value is not UTF-8.
    pub fn to_secret_string(&self) -> Result<SecretString, Error> {
        // A box of its size: a string that grew would leave parts of the value behind.
        Ok(SecretString::from(Box::<str>::from(self.expose_str()?)))
    }

    /// The version of the record that this value is part of.
    #[must_use]
    pub fn version(&self) -> &Version {
        self.0.version()
    }

    /// Where this answer came from and how long it may be used.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.0.answer()
    }

    /// The record that this value is part of, for its other fields: they are of one version.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.0
    }

    pub(super) fn of(record: Record) -> Self {
        Self(record)
    }
}

impl ExposeSecret<[u8]> for Secret {
    fn expose_secret(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl PartialEq for Secret {
    /// Whether the values are equal, in time that depends on their length alone. Versions and
    /// origins are not compared.
    fn eq(&self, other: &Self) -> bool {
        self.expose_secret().ct_eq(other.expose_secret()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// A keyed hash of bytes that may be a value, or be computed from one.
pub(crate) fn print(keys: &RandomState, bytes: &[u8]) -> u64 {
    let mut hasher = keys.build_hasher();
    hasher.write(bytes);
    // Pushes the last bytes out of the hasher, which is not wiped.
    hasher.write(&[0; 8]);
    hasher.finish()
}

#[cfg(test)]
mod tests;
