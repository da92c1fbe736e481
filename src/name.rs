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
/// use secret_resolver::NameRef;
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

/// What can be given where a name is wanted: text that is parsed at each call, or a name that
/// was parsed before.
pub trait AsName {
    /// The parsed name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] when text breaks the grammar of [`SecretName`].
    fn as_name(&self) -> Result<NameRef<'_>, Error>;

    /// The text, parsed or not.
    fn as_text(&self) -> &str;
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

    /// The name as a request carries it.
    #[must_use]
    pub fn as_ref(&self) -> NameRef<'_> {
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
        self.as_ref().path()
    }

    /// The part behind the `#`, if there is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.as_ref().field()
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

    /// A name of its own, which can be kept.
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

/// Checks the grammar in one pass and returns where the field's `#` stands, 0 for none.
///
/// It runs at every `get` by text, hits included, so ordinary bytes cost one look-up in a table.
fn check(text: &str) -> Result<u16, Broken> {
    let broken = |rule, at| Err(Broken { rule, at });
    if text.len() > SecretName::MAX_LEN {
        return broken("a name has at most 512 bytes", SecretName::MAX_LEN);
    }
    let bytes = text.as_bytes();
    let mut split = 0;
    let mut start = 0;
    let mut ascii = true;
    for (at, &byte) in bytes.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Ordinary => {}
            Class::NotAscii => ascii = false,
            Class::Slash if split != 0 => {
                return broken("a field is one segment, without '/'", at);
            }
            Class::Hash if split != 0 => return broken("a name has one '#' at most", at),
            class @ (Class::Slash | Class::Hash) => {
                check_segment(bytes, start, at)?;
                start = at + 1;
                if class == Class::Hash {
                    split = at;
                }
            }
            Class::Backslash => return broken("a name has no backslash", at),
            Class::Control => return broken("a name has no control character", at),
        }
    }
    check_segment(bytes, start, bytes.len())?;
    if !ascii && let Some((at, _)) = text.char_indices().find(|&(_, c)| is_invisible(c)) {
        return broken("a name has no control, format or separator character", at);
    }
    // The length was checked above, so the position fits.
    Ok(u16::try_from(split).unwrap_or(0))
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

static CLASSES: [Class; 256] = {
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

fn check_segment(bytes: &[u8], start: usize, end: usize) -> Result<(), Broken> {
    let rule = match &bytes[start..end] {
        b"" => "a name has no empty segment: write path/of/segments#field",
        b"." | b".." => "a name has no '.' or '..' segment",
        _ => return Ok(()),
    };
    Err(Broken { rule, at: start })
}

/// Whether `c` is in Unicode's Cc, Cf, Zl or Zp: characters that a reader of a log does not see,
/// or that reorder what they see.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_format(c)
}

/// General category Cf of Unicode 16.0 (`DerivedGeneralCategory.txt`), and the unassigned
/// U+2065 and tag characters between its ranges.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{0600}'..='\u{0605}' | '\u{061C}' | '\u{06DD}' | '\u{070F}'
        | '\u{0890}'..='\u{0891}' | '\u{08E2}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1343F}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E007F}')
}

impl AsName for str {
    fn as_name(&self) -> Result<NameRef<'_>, Error> {
        NameRef::parse(self)
    }

    fn as_text(&self) -> &str {
        self
    }
}

impl AsName for String {
    fn as_name(&self) -> Result<NameRef<'_>, Error> {
        NameRef::parse(self)
    }

    fn as_text(&self) -> &str {
        self
    }
}

impl AsName for SecretName {
    fn as_name(&self) -> Result<NameRef<'_>, Error> {
        Ok(self.as_ref())
    }

    fn as_text(&self) -> &str {
        self.as_str()
    }
}

impl AsName for NameRef<'_> {
    fn as_name(&self) -> Result<NameRef<'_>, Error> {
        Ok(*self)
    }

    fn as_text(&self) -> &str {
        self.text
    }
}

impl<T: AsName + ?Sized> AsName for &T {
    fn as_name(&self) -> Result<NameRef<'_>, Error> {
        T::as_name(self)
    }

    fn as_text(&self) -> &str {
        T::as_text(self)
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

#[cfg(test)]
mod tests;
