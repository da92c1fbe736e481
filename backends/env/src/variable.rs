//! Which variable a name stands for.
//!
//! The rule has no escapes, so names that differ only in case or in punctuation share a variable.
//! They share an address, too, and so one cache entry; a list of names is checked for it.

use secret_resolver::backend::NameRef;
use secret_resolver::{Error, ErrorKind};

/// The variable of `name`: letters in upper case, everything else that a name may hold in ASCII as
/// `_`, behind the prefix and a `_`.
///
/// `None` for a name with characters outside ASCII, which no shell takes in a variable's name.
pub(crate) fn variable(prefix: Option<&str>, name: NameRef<'_>) -> Option<String> {
    let name = name.as_str();
    if !name.is_ascii() {
        return None;
    }
    let mut variable = String::with_capacity(prefix.map_or(0, |p| p.len() + 1) + name.len());
    if let Some(prefix) = prefix {
        variable.push_str(prefix);
        variable.push('_');
    }
    variable.extend(name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    }));
    Some(variable)
}

/// Checks what a person gave as the name, or the start, of a variable.
pub(crate) fn check(text: &str) -> Result<(), Error> {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Misconfigured,
        "a variable or its prefix has letters, digits and '_' only, and does not start with a digit",
    )
    .with_backend("env"))
}
