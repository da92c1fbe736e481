//! What a name means to this backend: a path below the mount, and a field of the record there.
//!
//! Pure, and always the same. Every spelling of one path has one address, so that the layers
//! above hold one entry for it.

use std::borrow::Cow;
use std::collections::HashMap;

use secret_resolver::backend::{Located, NameRef, is_below};
use secret_resolver::{Address, Error};

use crate::error;
use crate::path::checked_id;

#[derive(Debug)]
pub(crate) struct Names {
    prefix: Option<Box<str>>,
    default_field: Box<str>,
    /// By the path of the name; few names have one path.
    aliases: HashMap<Box<str>, Vec<Alias>>,
}

#[derive(Debug)]
struct Alias {
    field: Box<str>,
    to_path: Box<str>,
    to_field: Box<str>,
}

/// An alias as it was configured: name, path, field.
pub(crate) type Given = (String, String, Option<String>);

impl Names {
    pub(crate) fn new(
        prefix: Option<Box<str>>,
        default_field: Box<str>,
        given: Vec<Given>,
    ) -> Result<Self, Error> {
        let mut names = Self {
            prefix,
            default_field,
            aliases: HashMap::new(),
        };
        for (name, path, field) in given {
            names.add(&name, &path, field)?;
        }
        Ok(names)
    }

    fn add(&mut self, name: &str, path: &str, field: Option<String>) -> Result<(), Error> {
        let name = NameRef::parse(name)
            .map_err(|_| error::misconfigured("an alias's name breaks the grammar of names"))?;
        let field_of_name = Box::from(name.field().unwrap_or(&self.default_field));
        let alias = Alias {
            to_path: checked_id(path)?,
            to_field: field.map_or_else(|| self.default_field.clone(), String::into_boxed_str),
            field: field_of_name,
        };
        let same_path = self.aliases.entry(Box::from(name.path())).or_default();
        if same_path.iter().any(|other| other.field == alias.field) {
            return Err(error::misconfigured("a name has two aliases").with_detail(name.as_str()));
        }
        same_path.push(alias);
        Ok(())
    }

    /// Borrowed from the name or from the table, except where a prefix has to be put before a path.
    pub(crate) fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let field = name.field().unwrap_or(&self.default_field);
        let aliases = self.aliases.get(name.path()).map_or(&[][..], Vec::as_slice);
        if let Some(alias) = aliases.iter().find(|alias| *alias.field == *field) {
            return Located::new(&*alias.to_path, Some(Cow::Borrowed(&*alias.to_field)));
        }
        let field = Some(Cow::Borrowed(field));
        match &self.prefix {
            None => Located::new(name.path(), field),
            Some(prefix) => Located::new(format!("{prefix}/{}", name.path()), field),
        }
    }

    /// Where the records with names at or below the path `prefix` are kept: below that path of the store, and
    /// where the aliases below it lead.
    pub(crate) fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let path = prefix.path();
        let aliases = self.aliases.iter();
        let aliases = aliases.filter(|(name, _)| is_below(name, path));
        let led = aliases.flat_map(|(_, aliases)| aliases.iter());
        let led = led.map(|alias| Address::from(&*alias.to_path));
        let plain = match &self.prefix {
            None => Address::from(path),
            Some(prefix) => Address::from(format!("{prefix}/{path}")),
        };
        std::iter::once(plain).chain(led).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: Option<&str>, given: &[(&str, &str, Option<&str>)]) -> Result<Names, Error> {
        let owned = given.iter().map(|(name, path, field)| {
            (
                (*name).to_owned(),
                (*path).to_owned(),
                field.map(str::to_owned),
            )
        });
        Names::new(prefix.map(Box::from), Box::from("value"), owned.collect())
    }

    fn located(names: &Names, name: &str) -> (String, String) {
        let located = names.locate(NameRef::parse(name).unwrap());
        (
            located.address().as_str().to_owned(),
            located.field().unwrap().to_owned(),
        )
    }

    fn pair(path: &str, field: &str) -> (String, String) {
        (path.to_owned(), field.to_owned())
    }

    #[test]
    fn below_a_path_is_what_stands_there_and_where_its_aliases_lead() {
        let given = [
            ("prod/db#password", "legacy//pw", None),
            ("production/x", "other", None),
            ("stage/x", "third", None),
        ];
        let names = names(Some("team"), &given).unwrap();
        let below = names.below(NameRef::parse("prod").unwrap());
        let below: Vec<_> = below.iter().map(Address::as_str).collect();
        assert_eq!(below, ["team/prod", "legacy//pw"]);
    }

    #[test]
    fn a_name_without_a_field_means_the_default_field() {
        let names = names(None, &[]).unwrap();
        assert_eq!(located(&names, "prod/token"), pair("prod/token", "value"));
        assert_eq!(
            located(&names, "prod/token"),
            located(&names, "prod/token#value")
        );
        assert_eq!(
            located(&names, "prod/db#password"),
            pair("prod/db", "password")
        );
    }

    #[test]
    fn a_prefix_stands_before_every_path_except_an_aliass() {
        let names = names(Some("team/a"), &[("legacy", "a//b", None)]).unwrap();
        assert_eq!(
            located(&names, "db#password"),
            pair("team/a/db", "password")
        );
        assert_eq!(located(&names, "legacy"), pair("a//b", "value"));
    }

    #[test]
    fn an_alias_and_a_name_that_mean_one_path_share_its_address() {
        let names = names(Some("team"), &[("old#pw", "team/db", Some("password"))]).unwrap();
        assert_eq!(located(&names, "old#pw"), located(&names, "db#password"));
        // The alias is for that one field.
        assert_eq!(located(&names, "old#user"), pair("team/old", "user"));
    }

    #[test]
    fn an_alias_is_found_by_both_spellings_of_its_name() {
        let names = names(None, &[("a", "x/", Some(""))]).unwrap();
        assert_eq!(located(&names, "a"), pair("x/", ""));
        assert_eq!(located(&names, "a#value"), pair("x/", ""));
    }

    #[test]
    fn a_wrong_or_doubled_alias_is_misconfigured() {
        for given in [
            &[("a//b", "x", None)][..],
            &[("a", "../x", None)],
            &[("a", "x", None), ("a#value", "y", None)],
        ] {
            assert_eq!(
                names(None, given).unwrap_err().kind(),
                secret_resolver::ErrorKind::Misconfigured
            );
        }
    }

    #[test]
    fn without_a_prefix_nothing_is_copied() {
        let names = names(None, &[]).unwrap();
        let name = String::from("prod/db#password");
        let located = names.locate(NameRef::parse(&name).unwrap());
        assert_eq!(located.address().as_str().as_ptr(), name.as_ptr());
    }
}
