//! Names of secrets: parsed once, then trusted.
//!
//! The grammar is deliberately narrow, so that one name means the same in every store and holds
//! nothing that hides or reorders what a reader of a log sees. It does not compare looks: letters of
//! two scripts, or composed and decomposed ones, are different names. It knows nothing of any
//! store: mapping a name to an id is a backend's work.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// A portable name, `path/of/segments#field`; the field is optional.
///
/// UTF-8, at most [`SecretName::MAX_LEN`] bytes. The first `#` splits; the field is one segment.
/// No segment is empty, `.` or `..`; no character is a control, format, line- or
/// paragraph-separator character (Unicode Cc, Cf, Zl, Zp) or a backslash.
///
/// ```
/// use secret_resolver::SecretName;
///
/// let name: SecretName = "prod/db#password".parse()?;
/// assert_eq!(name.path(), "prod/db");
/// assert_eq!(name.field(), Some("password"));
/// assert!("prod/../db".parse::<SecretName>().is_err());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName {
    text: Arc<str>,
    // Where the `#` stands; 0 for none, which no valid name has at its start.
    split: u16,
}

/// A parsed name that borrows its text: what a request carries.
///
/// ```
/// use secret_resolver::backend::NameRef;
///
/// let name = NameRef::parse("prod/token")?;
/// assert_eq!((name.path(), name.field()), ("prod/token", None));
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameRef<'a> {
    text: &'a str,
    split: u16,
}

/// The path in the text of a name.
pub(crate) fn path_of(name: &str) -> &str {
    name.split_once('#').map_or(name, |(path, _)| path)
}

/// A name as text that is checked when the program is compiled.
///
/// ```
/// const PASSWORD: &str = secret_resolver::secret_name!("prod/db#password");
/// assert_eq!(PASSWORD, "prod/db#password");
/// ```
///
/// ```compile_fail
/// const WRONG: &str = secret_resolver::secret_name!("prod//db");
/// ```
#[macro_export]
macro_rules! secret_name {
    ($text:expr) => {
        const { $crate::SecretName::checked($text) }
    };
}

impl SecretName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 512;

    /// Parses `text`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`]: which rule is broken, and at which byte; never the text, which
    /// may be a secret that was pasted by mistake.
    pub fn parse(text: &str) -> Result<Self, Error> {
        NameRef::parse(text).map(NameRef::to_owned)
    }

    /// For [`secret_name!`](crate::secret_name), which calls it where constants are evaluated.
    #[doc(hidden)]
    #[must_use]
    #[allow(clippy::panic, reason = "it ends the compilation, not the program")]
    pub const fn checked(text: &'static str) -> &'static str {
        match check(text) {
            Ok(_) => text,
            Err(broken) => panic!("{}", broken.rule),
        }
    }

    /// The name as a request carries it.
    #[must_use]
    pub fn borrowed(&self) -> NameRef<'_> {
        NameRef {
            text: &self.text,
            split: self.split,
        }
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `#`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.borrowed().path()
    }

    /// The part behind the `#`, if there is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.borrowed().field()
    }
}

impl<'a> NameRef<'a> {
    /// Parses `text` without copying it.
    ///
    /// # Errors
    /// As [`SecretName::parse`].
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        match check(text) {
            Ok(split) => Ok(Self { text, split }),
            Err(Broken { rule, at }) => {
                Err(Error::new(ErrorKind::InvalidName, rule).with_detail(format!("at byte {at}")))
            }
        }
    }

    /// An owned name, which can be kept.
    #[must_use]
    pub fn to_owned(self) -> SecretName {
        SecretName {
            text: Arc::from(self.text),
            split: self.split,
        }
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The part before the `#`.
    #[must_use]
    pub fn path(self) -> &'a str {
        match self.split {
            0 => self.text,
            split => &self.text[..usize::from(split)],
        }
    }

    /// The part behind the `#`, if there is one.
    #[must_use]
    pub fn field(self) -> Option<&'a str> {
        match self.split {
            0 => None,
            split => Some(&self.text[usize::from(split) + 1..]),
        }
    }
}

struct Broken {
    rule: &'static str,
    at: usize,
}

const fn broken(rule: &'static str, at: usize) -> Result<u16, Broken> {
    Err(Broken { rule, at })
}

/// Checks the grammar in one pass and returns where the field's `#` stands, 0 for none.
///
/// Ordinary bytes cost one look-up in a table. It also runs at compile time, so it is all loops.
const fn check(text: &str) -> Result<u16, Broken> {
    let bytes = text.as_bytes();
    if bytes.len() > SecretName::MAX_LEN {
        return broken("a name has at most 512 bytes", SecretName::MAX_LEN);
    }
    let mut split: u16 = 0;
    let mut start = 0;
    let mut at = 0;
    while at < bytes.len() {
        match CLASSES[bytes[at] as usize] {
            Class::Ordinary => {}
            Class::NotAscii => {
                if is_invisible(char_at(bytes, at)) {
                    return broken("a name has no control, format or separator character", at);
                }
            }
            Class::Slash => {
                if split != 0 {
                    return broken("a field is one segment, without '/'", at);
                }
                if let Some(rule) = fault_of_segment(bytes, start, at) {
                    return broken(rule, start);
                }
                start = at + 1;
            }
            Class::Hash => {
                if split != 0 {
                    return broken("a name has one '#' at most", at);
                }
                if let Some(rule) = fault_of_segment(bytes, start, at) {
                    return broken(rule, start);
                }
                start = at + 1;
                // The length was checked above, so the position fits.
                split = at as u16;
            }
            Class::Backslash => return broken("a name has no backslash", at),
            Class::Control => return broken("a name has no control character", at),
        }
        at += 1;
    }
    match fault_of_segment(bytes, start, bytes.len()) {
        Some(rule) => broken(rule, start),
        None => Ok(split),
    }
}

/// The character that begins at `at`; 0x2d, which is visible, within one. The bytes are those of text.
const fn char_at(bytes: &[u8], at: usize) -> u32 {
    let first = bytes[at] as u32;
    match first {
        0xc0..0xe0 => (first & 0x1f) << 6 | rest(bytes, at + 1),
        0xe0..0xf0 => (first & 0x0f) << 12 | rest(bytes, at + 1) << 6 | rest(bytes, at + 2),
        0xf0.. => {
            let high = (first & 0x07) << 18 | rest(bytes, at + 1) << 12;
            high | rest(bytes, at + 2) << 6 | rest(bytes, at + 3)
        }
        _ => 0x2d,
    }
}

/// What a byte within a character adds to it.
const fn rest(bytes: &[u8], at: usize) -> u32 {
    (bytes[at] & 0x3f) as u32
}

/// What a byte of a name is to the grammar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Ordinary,
    Slash,
    Hash,
    Backslash,
    Control,
    NotAscii,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Ordinary; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = match byte {
            0x2f => Class::Slash,
            0x23 => Class::Hash,
            0x5c => Class::Backslash,
            0..0x20 | 0x7f => Class::Control,
            0x80.. => Class::NotAscii,
            _ => Class::Ordinary,
        };
        byte += 1;
    }
    classes
};

/// Which rule the segment from `start` to `end` breaks.
const fn fault_of_segment(bytes: &[u8], start: usize, end: usize) -> Option<&'static str> {
    let dots = match end - start {
        0 => return Some("a name has no empty segment: write path/of/segments#field"),
        1 => bytes[start] == b'.',
        2 => bytes[start] == b'.' && bytes[start + 1] == b'.',
        _ => false,
    };
    match dots {
        true => Some("a name has no '.' or '..' segment"),
        false => None,
    }
}

/// Whether a character beyond ASCII is in Unicode's Cc, Cf, Zl or Zp: what a reader of a log does not
/// see, or what reorders what they see. Cf is that of Unicode 16.0 (`DerivedGeneralCategory.txt`), with
/// the unassigned U+2065 and the tag characters between its ranges.
const fn is_invisible(c: u32) -> bool {
    let control = matches!(c, 0x80..=0x9f);
    let separator = matches!(c, 0x2028 | 0x2029);
    let format = matches!(c,
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
        | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
        | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a
        | 0xe0000..=0xe007f);
    control || separator || format
}

impl AsRef<str> for SecretName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for NameRef<'_> {
    fn as_ref(&self) -> &str {
        self.text
    }
}

impl std::str::FromStr for SecretName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretName({})", self.text)
    }
}

impl fmt::Display for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameRef({})", self.text)
    }
}

#[cfg(feature = "serde")]
mod with_serde;

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
