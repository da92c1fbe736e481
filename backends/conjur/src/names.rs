//! What a name means to this backend: the id of a variable. Pure and for ever the same.
//!
//! `prod/db#password` and `prod/db/password` are the variable `prod/db/password`: one address, so the layers above hold one entry.

use std::collections::HashMap;

use secret_resolver::backend::{Located, NameRef};
use secret_resolver::{Address, Error};

use crate::error;

#[derive(Debug)]
pub(crate) struct Names {
    prefix: Option<Box<str>>,
    /// By the id that the rule gives, without the prefix.
    aliases: HashMap<Box<str>, Box<str>>,
}

impl Names {
    pub(crate) fn new(prefix: Option<String>, given: Vec<(String, String)>) -> Result<Self, Error> {
        let prefix = prefix
            .map(|prefix| checked(&prefix, "prefix"))
            .transpose()?;
        let mut aliases = HashMap::new();
        for (name, id) in given {
            let parsed = NameRef::parse(&name)
                .map_err(|_| error::misconfigured("an alias's name breaks the grammar of names"))?;
            if aliases
                .insert(by_rule(parsed).into(), checked_id(&id)?)
                .is_some()
            {
                return Err(error::misconfigured("a name has two aliases").with_detail(name));
            }
        }
        Ok(Self { prefix, aliases })
    }

    /// Where the name's variable is. It has one value, without a field.
    pub(crate) fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let id = by_rule(name);
        match self.aliases.get(&*id) {
            Some(id) => Located::new(&**id, None),
            None => Located::new(self.with_prefix(id), None),
        }
    }

    /// Where what has a name at or below the path `prefix` is kept: below that path of the store, and where the aliases below it lead.
    pub(crate) fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let path = prefix.path();
        let is_below = |id: &str| {
            let rest = id.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let aliases = self.aliases.iter().filter(|(id, _)| is_below(id));
        let led = aliases.map(|(_, id)| Address::from(&**id));
        let plain = Address::from(self.with_prefix(path.to_owned()));
        std::iter::once(plain).chain(led).collect()
    }

    fn with_prefix(&self, id: String) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{id}"),
            None => id,
        }
    }
}

fn by_rule(name: NameRef<'_>) -> String {
    match name.field() {
        Some(field) => format!("{}/{field}", name.path()),
        None => name.path().to_owned(),
    }
}

/// A prefix of one or more segments, without the slashes around it.
fn checked(text: &str, what: &'static str) -> Result<Box<str>, Error> {
    let plain = NameRef::parse(text).is_ok_and(|name| name.field().is_none());
    if !plain || text.contains('*') {
        // The text itself is not shown: what is rejected may be a secret, pasted by mistake.
        return Err(error::misconfigured(
            "a configured path is not one: give segments joined by '/', without '..', '#', '*' or control characters",
        )
        .with_detail(what));
    }
    Ok(Box::from(text))
}

/// An id that follows no grammar of ours, such as `a//b`, `a/` or `a#b`.
fn checked_id(id: &str) -> Result<Box<str>, Error> {
    let bounded = (1..=1024).contains(&id.len());
    // As the only segment of a path these would be a way up.
    if !bounded || matches!(id, "." | "..") || id.chars().any(char::is_control) {
        return Err(error::misconfigured(
            "an alias's id is empty, longer than 1,024 bytes, '.' or '..', or has a control character",
        ));
    }
    Ok(Box::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: Option<&str>, given: &[(&str, &str)]) -> Result<Names, Error> {
        let owned = |(name, id): &(&str, &str)| ((*name).to_owned(), (*id).to_owned());
        Names::new(prefix.map(str::to_owned), given.iter().map(owned).collect())
    }

    fn id(names: &Names, name: &str) -> String {
        let located = names.locate(NameRef::parse(name).unwrap());
        assert_eq!(located.field(), None);
        located.address().as_str().to_owned()
    }

    #[test]
    fn a_field_is_the_last_segment_of_an_id() {
        let names = names(None, &[]).unwrap();
        assert_eq!(id(&names, "prod/db#password"), "prod/db/password");
        assert_eq!(id(&names, "prod/db/password"), "prod/db/password");
        assert_eq!(id(&names, "prod/token"), "prod/token");
    }

    #[test]
    fn a_prefix_stands_before_every_id_except_an_aliass() {
        let given = [("legacy#pw", "odd//id/"), ("top", "a#b")];
        let names = names(Some("team/a"), &given).unwrap();
        assert_eq!(id(&names, "db#password"), "team/a/db/password");
        // Both spellings of a name have its alias.
        assert_eq!(id(&names, "legacy#pw"), "odd//id/");
        assert_eq!(id(&names, "legacy/pw"), "odd//id/");
        assert_eq!(id(&names, "legacy#user"), "team/a/legacy/user");
        assert_eq!(id(&names, "top"), "a#b");
    }

    #[test]
    fn below_a_path_are_its_ids_and_where_its_aliases_lead() {
        let given = [
            ("prod/db#password", "legacy//pw"),
            ("production/x", "other"),
        ];
        let names = names(Some("team"), &given).unwrap();
        let below = names.below(NameRef::parse("prod").unwrap());
        let below: Vec<_> = below.iter().map(Address::as_str).collect();
        assert_eq!(below, ["team/prod", "legacy//pw"]);
    }

    #[test]
    fn a_wrong_or_doubled_alias_or_prefix_of_conjur_is_misconfigured() {
        let kind = |names: Result<Names, Error>| names.unwrap_err().kind();
        for given in [
            &[("a//b", "x")][..],
            &[("a", "")],
            &[("a", "..")],
            &[("a", "x\n")],
            &[("a#b", "x"), ("a/b", "y")],
        ] {
            assert_eq!(
                kind(names(None, given)),
                secret_resolver::ErrorKind::Misconfigured
            );
        }
        for prefix in ["", "/a", "a/", "a/../b", "a#b", "a/*"] {
            let refused = kind(names(Some(prefix), &[]));
            assert_eq!(
                refused,
                secret_resolver::ErrorKind::Misconfigured,
                "{prefix}"
            );
        }
    }
}
