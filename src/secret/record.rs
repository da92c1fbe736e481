//! What one read of a store returns: the fields at one address, of one version.
//!
//! A record is fetched, shared, cached and dropped as a whole, so that a user name and its
//! password never come from two versions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::secret::{Answer, Freshness, Secret, SecretBuf, Version};

/// The fields at one address, of one version, with the field that the request named selected.
///
/// Cheap to clone: the fields are shared, only the small [`Answer`] is copied.
///
/// ```
/// use secret_resolver::{ExposeSecret, Record, SecretBuf, Version};
///
/// let record = Record::builder("example")
///     .field("user", SecretBuf::from_slice(b"app")?)
///     .field("password", SecretBuf::from_slice(b"hunter2")?)
///     .version(Version::number(3))
///     .build()?
///     .select(Some("password"));
/// assert_eq!(record.field("user")?.expose_secret(), b"app");
/// assert_eq!(record.into_secret()?.expose_secret(), b"hunter2");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone)]
pub struct Record {
    contents: Arc<Contents>,
    answer: Answer,
    selected: Selected,
    // Small: a record is copied at every hit.
    endpoint: Option<u16>,
}

/// Builds a [`Record`]; from [`Record::builder`].
#[derive(Debug)]
pub struct RecordBuilder {
    backend: &'static str,
    fields: Vec<(Box<str>, SecretBuf)>,
    version: Version,
    validator: Version,
    lease: Option<Duration>,
}

/// What all clones of a record share.
pub(crate) struct Contents {
    fields: Box<[(Box<str>, SecretBuf)]>,
    version: Version,
    /// The store's mark for conditional reads, where the version is not one itself.
    validator: Version,
    lease: Option<Duration>,
    unchanged: bool,
}

/// The field that the request named, looked up once. A missing field is not an error of the record:
/// other waiters for the same record may name a field that is there.
#[derive(Clone, Copy)]
pub(crate) enum Selected {
    Index(u16),
    Missing,
}

impl Record {
    /// Starts a record answered by `backend`.
    #[must_use]
    pub fn builder(backend: &'static str) -> RecordBuilder {
        RecordBuilder {
            backend,
            fields: Vec::new(),
            version: Version::none(),
            validator: Version::none(),
            lease: None,
        }
    }

    /// A record of one unnamed value, selected, without a version.
    #[must_use]
    pub fn single(backend: &'static str, value: SecretBuf) -> Self {
        let builder = Self::builder(backend);
        builder.finish(Box::new([(Box::from(""), value)]))
    }

    /// The answer to a conditional read ([`Request::held`](crate::backend::Request::held)): the record is still
    /// the one that is held, and may still be read. It has no fields.
    #[must_use]
    pub fn unchanged(backend: &'static str) -> Self {
        Self::builder(backend).unchanged()
    }

    /// Whether it only says that the held record is still the current one.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.contents.unchanged
    }

    /// Selects the field that a request names; `None` for the only field there is.
    ///
    /// A backend that stores several fields calls it on every answer, with the field of its own
    /// [`Located`](crate::backend::Located).
    #[must_use]
    pub fn select(mut self, field: Option<&str>) -> Self {
        self.selected = self.contents.find(field);
        self
    }

    /// The selected field.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the record has no such field, or when no field was named and
    /// there is not exactly one.
    #[inline]
    pub fn into_secret(self) -> Result<Secret, Error> {
        match self.selected {
            Selected::Index(_) => Ok(Secret::of(self)),
            Selected::Missing => Err(self.no_such_field()),
        }
    }

    /// Another field of the same version.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such field.
    pub fn field(&self, field: &str) -> Result<Secret, Error> {
        let secret = self.clone().select(Some(field)).into_secret();
        secret.map_err(|error| error.with_detail(format!("field {field:?}")))
    }

    /// The names of the fields, in the store's order. The only field of a store without names has none:
    /// an empty text.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.contents.fields.iter().map(|(name, _)| &**name)
    }

    /// The bytes of a field.
    #[cfg(feature = "serde")]
    pub(crate) fn bytes_of(&self, field: &str) -> Option<&[u8]> {
        let mut fields = self.contents.fields.iter();
        let found = fields.find(|(name, _)| **name == *field);
        found.map(|(_, value)| value.expose())
    }

    /// The version of all its fields.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.contents.version
    }

    /// Where this answer came from and how long it may be used.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.answer
    }

    /// How long the store lets the value live, counted from the request; `None` for no limit.
    #[must_use]
    pub fn lease(&self) -> Option<Duration> {
        self.contents.lease
    }

    /// The bytes of all values together, for bounds on memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.contents
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.capacity())
            .sum()
    }

    /// The same fields with another answer part.
    #[must_use]
    pub fn with_answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// The same record, asked for at `moment`, unless it says that it was asked for earlier.
    pub(crate) fn asked_at(mut self, moment: Moment) -> Self {
        let asked = &mut self.answer.fetched_at;
        *asked = (*asked).min(moment);
        self
    }

    /// The same record, answered by this endpoint of its store.
    pub(crate) fn answered_at(mut self, endpoint: usize) -> Self {
        self.endpoint = u16::try_from(endpoint).ok();
        self
    }

    /// The endpoint that answered, where there is a choice.
    pub(crate) fn endpoint(&self) -> Option<usize> {
        self.endpoint.map(usize::from)
    }

    /// The record with these parts: what a cache keeps of one, put together again.
    pub(crate) fn of(contents: Arc<Contents>, answer: Answer, selected: Selected) -> Self {
        Self {
            contents,
            answer,
            selected,
            endpoint: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn references(&self) -> usize {
        Arc::strong_count(&self.contents)
    }

    pub(crate) fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// The same record with a field selected that [`Contents::find`] has found.
    pub(crate) fn selecting(mut self, selected: Selected) -> Self {
        self.selected = selected;
        self
    }

    /// The bytes of the selected field; none where it is missing.
    pub(crate) fn bytes(&self) -> &[u8] {
        let Selected::Index(index) = self.selected else {
            return &[];
        };
        let field = self.contents.fields.get(usize::from(index));
        field.map_or(&[], |(_, value)| value.expose())
    }

    #[cold]
    fn no_such_field(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            "the record has no such field: name one as path#field",
        )
        .with_backend(self.answer.backend)
    }
}

impl Contents {
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// The mark that a conditional read is made with; none where the store has none.
    pub(crate) fn validator(&self) -> &Version {
        match self.validator.as_tag() {
            Some(_) => &self.validator,
            None => &self.version,
        }
    }

    /// Where the field is; without a name, the only one there is.
    pub(crate) fn find(&self, field: Option<&str>) -> Selected {
        let fields = &self.fields;
        let position = match field {
            Some(wanted) => fields.iter().position(|(name, _)| **name == *wanted),
            None => (fields.len() == 1).then_some(0),
        };
        position
            .and_then(|index| u16::try_from(index).ok())
            .map_or(Selected::Missing, Selected::Index)
    }
}

impl RecordBuilder {
    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: impl Into<Box<str>>, value: SecretBuf) -> Self {
        self.fields.push((name.into(), value));
        self
    }

    /// Sets the version; without it the record has none.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets the store's mark for conditional reads ([`Request::validator`](crate::backend::Request::validator)), where the version
    /// is a number. It may be a digest of the value: the record's own copy is wiped with it.
    #[must_use]
    pub fn validator(mut self, mark: &[u8]) -> Self {
        self.validator = Version::tag(mark);
        self
    }

    /// Sets how long the store lets the value live, counted from the request: the earliest end of its
    /// own lease and of whatever else it dies with, such as the token that a dynamic secret hangs on.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The record, with its only field selected where it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] when two fields have one name, or when there are more than 65,535.
    pub fn build(mut self) -> Result<Record, Error> {
        let fields = std::mem::take(&mut self.fields).into_boxed_slice();
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        let doubled = names.windows(2).any(|pair| pair[0] == pair[1]);
        if doubled || fields.len() > usize::from(u16::MAX) {
            return Err(Error::new(
                ErrorKind::Malformed,
                "the store's record has one field twice, or too many fields",
            )
            .with_backend(self.backend));
        }
        Ok(self.finish(fields))
    }

    /// "Unchanged", as [`Record::unchanged`], with a new lease of the held record.
    #[must_use]
    pub fn unchanged(self) -> Record {
        let mut record = self.finish(Box::default());
        if let Some(contents) = Arc::get_mut(&mut record.contents) {
            contents.unchanged = true;
        }
        record
    }

    fn finish(self, fields: Box<[(Box<str>, SecretBuf)]>) -> Record {
        let record = Record {
            contents: Arc::new(Contents {
                fields,
                version: self.version,
                validator: self.validator,
                lease: self.lease,
                unchanged: false,
            }),
            answer: Answer {
                backend: self.backend,
                freshness: Freshness::Fresh,
                fetched_at: Moment::NEVER,
                expires_at: Moment::NEVER,
            },
            selected: Selected::Missing,
            endpoint: None,
        };
        record.select(None)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("version", self.version())
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}
