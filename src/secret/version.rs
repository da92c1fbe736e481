//! Which state of a record a value belongs to.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The version of a record: equal or not everywhere, ordered only within one store and one life
/// of the record (one that is deleted and created again starts again).
///
/// ```
/// use secret_resolver::Version;
///
/// assert!(Version::number(2) > Version::number(1));
/// assert_eq!(Version::tag(b"x").partial_cmp(&Version::number(1)), None);
/// assert_ne!(Version::none(), Version::none());
/// ```
#[derive(Clone, Default)]
pub struct Version(Repr);

#[derive(Clone, Default)]
enum Repr {
    #[default]
    None,
    Number(u64),
    // A tag may be a digest of the value (Conjur's ETag is), so it is kept and shown as a secret.
    Tag(Arc<Zeroizing<Vec<u8>>>),
}

impl Version {
    /// For stores without versions: equal to nothing, itself included.
    #[must_use]
    pub fn none() -> Self {
        Self(Repr::None)
    }

    /// A number that the store raises at each write.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(Repr::Number(number))
    }

    /// An opaque mark that changes with the value. Kept and printed like a secret.
    #[must_use]
    pub fn tag(tag: &[u8]) -> Self {
        Self(Repr::Tag(Arc::new(Zeroizing::new(tag.to_vec()))))
    }

    /// The number, where the store counts.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        match self.0 {
            Repr::Number(number) => Some(number),
            Repr::None | Repr::Tag(_) => None,
        }
    }

    /// The opaque mark, where the store has one: for a conditional read.
    #[must_use]
    pub fn as_tag(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Tag(tag) => Some(tag),
            Repr::None | Repr::Number(_) => None,
        }
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Number(a), Repr::Number(b)) => a == b,
            (Repr::Tag(a), Repr::Tag(b)) => a.ct_eq(b).into(),
            _ => false,
        }
    }
}

impl PartialOrd for Version {
    /// `None` where the two say nothing about which came first.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (&self.0, &other.0) {
            (Repr::Number(a), Repr::Number(b)) => Some(a.cmp(b)),
            _ => (self == other).then_some(Ordering::Equal),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::None => f.write_str("Version(none)"),
            Repr::Number(number) => write!(f, "Version({number})"),
            Repr::Tag(_) => f.write_str("Version([tag])"),
        }
    }
}
