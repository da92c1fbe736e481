//! Settings by prefix of a name: the longest prefix that matches decides.

use crate::error::{Error, ErrorKind};
use crate::name::NameRef;

/// One value for all names, and others for the names below some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByPrefix<T> {
    all: T,
    // Longest first, so that the first match is the one that decides.
    prefixes: Vec<(Box<str>, T)>,
}

impl<T> ByPrefix<T> {
    pub(crate) fn new(all: T) -> Self {
        Self {
            all,
            prefixes: Vec::new(),
        }
    }

    pub(crate) fn set_all(&mut self, value: T) {
        self.all = value;
    }

    /// Sets the value for the path `prefix` and all below it; a later one replaces an earlier.
    pub(crate) fn set(&mut self, prefix: &str, value: T) {
        self.prefixes.retain(|(held, _)| **held != *prefix);
        self.prefixes.push((Box::from(prefix), value));
        self.prefixes
            .sort_by_key(|(held, _)| std::cmp::Reverse(held.len()));
    }

    /// The value for a name's path.
    pub(crate) fn get(&self, path: &str) -> &T {
        let mut prefixes = self.prefixes();
        let found = prefixes.find(|(prefix, _)| is_below(path, prefix));
        found.map_or(&self.all, |(_, value)| value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        let below = self.prefixes.iter().map(|(_, value)| value);
        std::iter::once(&self.all).chain(below)
    }

    /// The values that do not hold for all names, with their prefixes.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (&str, &T)> {
        self.prefixes
            .iter()
            .map(|(prefix, value)| (&**prefix, value))
    }

    /// The same prefixes with other values. The one for all names has no prefix.
    pub(crate) fn map<U>(
        self,
        mut change: impl FnMut(Option<&str>, T) -> Result<U, Error>,
    ) -> Result<ByPrefix<U>, Error> {
        let all = change(None, self.all)?;
        let change = |(prefix, value): (Box<str>, T)| {
            let value = change(Some(&prefix), value)?;
            Ok((prefix, value))
        };
        let prefixes = self
            .prefixes
            .into_iter()
            .map(change)
            .collect::<Result<_, Error>>()?;
        Ok(ByPrefix { all, prefixes })
    }

    /// Checks that each prefix is a path that a name can have.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.prefixes.iter().try_for_each(|(prefix, _)| {
            // It stands in the program's own configuration, so it may be shown.
            check_prefix(prefix).map_err(|error| error.with_detail(format!("prefix {prefix:?}")))
        })
    }
}

/// Whether `path` is `prefix` or below it, by whole segments.
#[must_use]
pub fn is_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks that `prefix`, of a setting, is a path that a name can have, without a field.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), Error> {
    match rule_of(prefix) {
        Some(rule) => Err(Error::new(ErrorKind::Misconfigured, rule)),
        None => Ok(()),
    }
}

/// The same for one that a call gives: there it is text like a name.
pub(crate) fn prefix_of(prefix: &str) -> Result<NameRef<'_>, Error> {
    match rule_of(prefix) {
        Some(rule) => Err(Error::new(ErrorKind::InvalidName, rule)),
        None => NameRef::parse(prefix),
    }
}

/// The rule that a prefix breaks.
fn rule_of(prefix: &str) -> Option<&'static str> {
    match NameRef::parse(prefix) {
        Ok(_) if prefix.contains('*') => {
            Some("a prefix has no '*': give the path alone, all names below it are meant")
        }
        Ok(name) if name.field().is_none() => None,
        _ => Some("a prefix is a path like prod/db: no '#', no '/' at its end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_decides() {
        let mut rules = ByPrefix::new(0);
        rules.set("prod", 1);
        rules.set("prod/db", 2);
        for (path, value) in [
            ("prod", 1),
            ("prod/x", 1),
            ("prod/db", 2),
            ("prod/db/x", 2),
            ("prod/dbx", 1),
            ("production", 0),
            ("x/prod", 0),
        ] {
            assert_eq!(*rules.get(path), value, "{path}");
        }
        rules.set("prod", 3);
        assert_eq!(*rules.get("prod/x"), 3);
    }

    #[test]
    fn a_prefix_that_no_name_can_have_is_refused() {
        for prefix in [
            "", "/", "a/", "/a", "a#b", "a//b", "..", "a\n", "prod/*", "*",
        ] {
            let mut rules = ByPrefix::new(());
            rules.set(prefix, ());
            let kind = rules.check().map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::Misconfigured), "{prefix:?}");
        }
    }
}
