//! The only way in for secret bytes: a buffer of fixed capacity that is wiped when it is dropped.
//!
//! It never grows in place, because a reallocation leaves a copy behind. It does not lock its
//! memory: that is for the arena, which takes its place without a change to this interface.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::error::{Error, ErrorKind};

/// Secret bytes, and room for more up to a fixed capacity. Wiped on drop, the spare room too.
///
/// ```
/// use secret_resolver::SecretBuf;
///
/// let mut buf = SecretBuf::with_capacity(8)?;
/// buf.push(b"hunter")?;
/// buf.push(b"2")?;
/// assert_eq!(buf.expose(), b"hunter2");
/// assert!(buf.push(b"too much").is_err());
/// assert_eq!(format!("{buf:?}"), "SecretBuf([redacted])");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub struct SecretBuf {
    bytes: Box<[u8]>,
    len: usize,
}

impl SecretBuf {
    /// An empty buffer with room for exactly `capacity` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] when there is no memory for it.
    pub fn with_capacity(capacity: usize) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(capacity).map_err(|_| {
            Error::new(
                ErrorKind::Overloaded,
                "no memory for a secret of this size; raise the process's memory limit",
            )
        })?;
        bytes.resize(capacity, 0);
        Ok(Self {
            // The vector holds nothing secret yet, so it may be copied if its capacity differs.
            bytes: bytes.into_boxed_slice(),
            len: 0,
        })
    }

    /// A copy of `bytes`; the caller wipes the original.
    ///
    /// # Errors
    /// As [`SecretBuf::with_capacity`].
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let mut buf = Self::with_capacity(bytes.len())?;
        buf.push(bytes)?;
        Ok(buf)
    }

    /// Appends `bytes`, or appends nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] when they do not fit into the capacity.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let Some(target) = room.get_mut(..bytes.len()) else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "the value is larger than the room made for it",
            ));
        };
        target.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// The bytes written so far.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// How many bytes were written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Wipes the bytes and starts again, with the same room.
    pub fn clear(&mut self) {
        self.bytes.zeroize();
        self.len = 0;
    }
}

impl Drop for SecretBuf {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl PartialEq for SecretBuf {
    /// Whether the bytes are equal, in time that depends on their length alone.
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for SecretBuf {}

impl fmt::Debug for SecretBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBuf([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_says_that_it_shows_nothing() {
        let buf = SecretBuf::from_slice(b"hunter2").unwrap();
        assert_eq!(format!("{buf:?}"), "SecretBuf([redacted])");
    }
}
