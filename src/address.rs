//! Where a store keeps what a name means: the address that a backend maps it to.
//!
//! It decides nothing about names; mapping one to an address is a backend's `locate`.

use std::borrow::Cow;

use crate::name::NameRef;

/// Where one store keeps a record: opaque text that only that store's backend can read.
///
/// Two names may share an address; cache entries, fetches, fences and signals work on addresses,
/// so that both spellings of one secret are one entry.
///
/// ```
/// use secret_resolver::Address;
///
/// assert_eq!(Address::from("prod/db").as_str(), "prod/db");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address<'a>(Cow<'a, str>);

/// What a name means to one backend: an address, and the field of the record there.
///
/// No field means the only field of the record.
///
/// ```
/// use secret_resolver::backend::{Located, NameRef};
///
/// let located = Located::by_path(NameRef::parse("prod/db#password")?);
/// assert_eq!(located.address().as_str(), "prod/db");
/// assert_eq!(located.field(), Some("password"));
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    address: Address<'a>,
    field: Option<Cow<'a, str>>,
}

impl<'a> Address<'a> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An owned address, which can be kept.
    #[must_use]
    pub fn into_owned(self) -> Address<'static> {
        Address(Cow::Owned(self.0.into_owned()))
    }
}

impl Address<'_> {
    /// What it ends with where the backend panicked as it was asked. No name has this character.
    const LOST: &'static str = "\0lost";

    /// In place of an address that is not known.
    pub(crate) fn lost(text: &str) -> Self {
        Self(Cow::Owned(format!("{text}{}", Self::LOST)))
    }

    /// Whether the backend panicked as it was asked. A router puts its own number before it.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.ends_with(Self::LOST)
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Address<'a> {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl<'a> Located<'a> {
    /// At `address`; `field` is `None` for the only field there.
    #[must_use]
    pub fn new(address: impl Into<Address<'a>>, field: Option<Cow<'a, str>>) -> Self {
        Self {
            address: address.into(),
            field,
        }
    }

    /// The plain mapping: the name's path is the address, its field the field.
    #[must_use]
    pub fn by_path(name: NameRef<'a>) -> Self {
        Self::new(name.path(), name.field().map(Cow::Borrowed))
    }

    /// In place of what is not known, because the backend panicked as it was asked.
    pub(crate) fn lost(name: NameRef<'_>) -> Self {
        Self::new(Address::lost(name.path()), None)
    }

    /// Where the record is.
    #[must_use]
    pub fn address(&self) -> &Address<'a> {
        &self.address
    }

    /// Which field of it; `None` for its only one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}
