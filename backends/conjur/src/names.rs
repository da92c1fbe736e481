//! What a name means to this backend: the id of a variable, or a field of several that are one record. Pure and for ever the same.
//!
//! `prod/db#password` and `prod/db/password` are the variable `prod/db/password`: one address, so the layers above hold one entry. So
//! it is in a record, whose address is its path.

use std::borrow::Cow;
use std::collections::HashMap;

use secret_resolver::backend::{Located, NameRef, is_below};
use secret_resolver::{Address, Error};

use crate::error;
use crate::resolver::DYNAMIC;

#[derive(Debug)]
pub(crate) struct Names {
    prefix: Option<Box<str>>,
    /// By the id that the rule gives, without the prefix.
    aliases: HashMap<Box<str>, Box<str>>,
    /// By the path of their names.
    paths: HashMap<Box<str>, Box<str>>,
    /// By their address: the path, behind the prefix.
    records: HashMap<Box<str>, Joined>,
    /// The record and the field of a variable, by its id.
    fields: HashMap<Box<str>, (Box<str>, Box<str>)>,
}

/// Several variables that are one record.
#[derive(Debug)]
pub(crate) struct Joined(Vec<(Box<str>, Box<str>)>);

/// A record as it was configured: path and fields.
pub(crate) type Given = (String, Vec<String>);

impl Joined {
    /// Its fields, and the ids of their variables.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(field, id)| (&**field, &**id))
    }
}

impl Names {
    pub(crate) fn new(
        prefix: Option<String>,
        given: Vec<(String, String)>,
        records: Vec<Given>,
    ) -> Result<Self, Error> {
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
        let mut names = Self {
            prefix,
            aliases,
            paths: HashMap::new(),
            records: HashMap::new(),
            fields: HashMap::new(),
        };
        for (path, fields) in records {
            names.join(&path, &fields)?;
        }
        // A path means its record, and nothing else.
        let leads = |id: &str| names.records.contains_key(id);
        let is_taken = names.aliases.values().any(|id| leads(id))
            || names.aliases.keys().any(|id| names.paths.contains_key(id))
            || names.fields.keys().any(|id| leads(id));
        match is_taken {
            true => Err(error::misconfigured(
                "the path of a record is also that of a variable: of an alias, of where one leads, or of another record's field",
            )),
            false => Ok(names),
        }
    }

    fn join(&mut self, path: &str, fields: &[String]) -> Result<(), Error> {
        let path = checked(path, "record")?;
        let mut joined: Vec<(Box<str>, Box<str>)> = Vec::new();
        for field in fields {
            let text = format!("{path}#{field}");
            let name = NameRef::parse(&text)
                .ok()
                .filter(|name| name.field() == Some(field));
            let name = name.ok_or_else(|| {
                error::misconfigured("a field of a record is not one that a name can have")
            })?;
            let variable = self.variable(by_rule(name));
            if variable.starts_with(DYNAMIC) {
                return Err(error::misconfigured(
                    "a dynamic secret is made at each read, so it is of no moment with others",
                ));
            }
            joined.push((Box::from(&**field), variable.into_boxed_str()));
        }
        if joined.is_empty() {
            return Err(error::misconfigured("a record has no field"));
        }
        let address = self.with_prefix((*path).to_owned()).into_boxed_str();
        for (field, id) in &joined {
            let place = (address.clone(), field.clone());
            if self.fields.insert(id.clone(), place).is_some() {
                return Err(error::misconfigured("a variable is in records twice"));
            }
        }
        let known = self.records.insert(address.clone(), Joined(joined));
        self.paths.insert(path, address);
        match known {
            Some(_) => Err(error::misconfigured("a path is that of two records")),
            None => Ok(()),
        }
    }

    /// Where the name's variable is, which has one value without a field; or the record that it is a field of.
    pub(crate) fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let id = by_rule(name);
        if let Some(address) = self.paths.get(&*id) {
            return Located::new(&**address, None);
        }
        let id = self.variable(id);
        match self.fields.get(&*id) {
            Some((address, field)) => Located::new(&**address, Some(Cow::Borrowed(&**field))),
            None => Located::new(id, None),
        }
    }

    /// The variables at an address, where it is that of a record.
    pub(crate) fn joined(&self, address: &str) -> Option<&Joined> {
        self.records.get(address)
    }

    /// The id of a variable, by its alias or else by the rule.
    fn variable(&self, id: String) -> String {
        match self.aliases.get(&*id) {
            Some(id) => id.to_string(),
            None => self.with_prefix(id),
        }
    }

    /// A variable by its own id, and the record that it is in.
    pub(crate) fn addresses<'a>(&'a self, own: Address<'a>) -> Vec<Address<'a>> {
        let record = self.fields.get(own.as_str());
        let record = record.map(|(address, _)| Address::from(&**address));
        std::iter::once(own).chain(record).collect()
    }

    /// Where what has a name at or below the path `prefix` is kept: below that path of the store, where the aliases below it lead,
    /// and the records that have a variable there.
    pub(crate) fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let path = prefix.path();
        let led = self.aliases.iter().filter(|(id, _)| is_below(id, path));
        let led = led.map(|(_, id)| Cow::Borrowed(&**id));
        let plain = Cow::Owned(self.with_prefix(path.to_owned()));
        let ids: Vec<_> = std::iter::once(plain).chain(led).collect();
        let has = |id: &str| ids.iter().any(|place| is_below(id, place));
        let of_records = self.fields.iter().filter(|(id, _)| has(id));
        let of_records: Vec<_> = of_records
            .map(|(_, (address, _))| Address::from(&**address))
            .collect();
        ids.into_iter()
            .map(Address::from)
            .chain(of_records)
            .collect()
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
        Names::new(
            prefix.map(str::to_owned),
            given.iter().map(owned).collect(),
            Vec::new(),
        )
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
