//! The fields of a record as the application's own struct, by serde. Feature `serde`.
//!
//! No copy of a value is made here: a `Secret` shares the record, text and bytes are borrowed from it.
//! What serde says about a value that does not fit may quote it, so it is dropped.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::{Error, ErrorKind};
use crate::secret::{Record, Secret};

impl Record {
    /// The fields of the record as a struct: each field of the struct is the field of that name. A value
    /// may be a [`Secret`], a [`SecretString`](crate::SecretString), text, `&[u8]`, or a number, `bool` or unit variant that is
    /// written as text. A `Vec<u8>` does not fit: serde reads a list of numbers into it. Behind a
    /// `#[serde(flatten)]` there is text alone. Feature `serde`.
    ///
    /// A `Secret` shares the bytes of the record, and `&str` and `&[u8]` borrow them. Other types copy: a
    /// `SecretString` wipes its copy, a `String` does not. An untagged enum never has a `Secret`: serde hands it
    /// text alone, and tries its next variant. Where that is a `String`, the value stands in one that nothing
    /// wipes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when a field is missing, [`ErrorKind::Malformed`] when one does not fit its
    /// type, or is one too many. The error names the field where it can (one that the struct does not know, with
    /// 64 characters at most): not where the struct itself refuses, nor behind a `flatten`. It quotes nothing of a value.
    ///
    /// ```
    /// use secret_resolver::{Resolver, Secret, testing::MockBackend};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Database {
    ///     user: String,
    ///     password: Secret,
    ///     port: u16,
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let store = MockBackend::new()
    ///     .with_value("prod/db#user", "app")
    ///     .with_value("prod/db#password", "hunter2")
    ///     .with_value("prod/db#port", "5432");
    /// let resolver = Resolver::builder(store).build()?;
    /// let database: Database = resolver.get_record("prod/db").await?.deserialize()?;
    /// assert_eq!((database.user.as_str(), database.port), ("app", 5432));
    /// assert_eq!(database.password.expose_str()?, "hunter2");
    /// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
    /// ```
    pub fn deserialize<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        T::deserialize(Fields(self)).map_err(|fault| fault.into_error(self.answer().backend()))
    }
}

/// A record, as a map of its fields.
struct Fields<'de>(&'de Record);

/// One field.
struct Value<'de> {
    name: &'de str,
    record: &'de Record,
}

impl<'de> Deserializer<'de> for Fields<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let record = self.0;
        let fields = record
            .field_names()
            .map(|name| (name, Value { name, record }));
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Value<'de> {
    fn secret(&self) -> Result<Secret, Fault> {
        let secret = self.record.field(self.name);
        secret.map_err(|_| Fault::missing(self.name))
    }

    fn bytes(&self) -> Result<&'de [u8], Fault> {
        self.record
            .bytes_of(self.name)
            .ok_or_else(|| Fault::missing(self.name))
    }

    fn text(&self) -> Result<&'de str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.unfit())
    }

    fn parsed<T: FromStr>(&self) -> Result<T, Fault> {
        self.text()?.trim().parse().map_err(|_| self.unfit())
    }

    fn unfit(&self) -> Fault {
        Fault::Unfit(Some(self.name.to_owned()))
    }

    fn named<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        answer.map_err(|fault| match fault {
            Fault::Unfit(None) => self.unfit(),
            named => named,
        })
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Each number is what its text says.
macro_rules! numbers {
    ($($deserialize:ident $visit:ident),*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.named(visitor.$visit(self.parsed()?))
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text() {
            Ok(text) => self.named(visitor.visit_borrowed_str(text)),
            Err(_) => self.named(visitor.visit_borrowed_bytes(self.bytes()?)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.named(visitor.visit_borrowed_bytes(self.bytes()?))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name != SECRET {
            return visitor.visit_newtype_struct(self);
        }
        let _handed = Handed::put(self.secret()?);
        self.named(visitor.visit_unit())
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let variant = BorrowedStrDeserializer::new(self.text()?);
        self.named(visitor.visit_enum(variant))
    }

    numbers! {
        deserialize_bool visit_bool, deserialize_char visit_char,
        deserialize_i8 visit_i8, deserialize_i16 visit_i16, deserialize_i32 visit_i32,
        deserialize_i64 visit_i64, deserialize_i128 visit_i128,
        deserialize_u8 visit_u8, deserialize_u16 visit_u16, deserialize_u32 visit_u32,
        deserialize_u64 visit_u64, deserialize_u128 visit_u128,
        deserialize_f32 visit_f32, deserialize_f64 visit_f64
    }

    forward_to_deserialize_any! {
        str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// By this name a [`Secret`] asks for itself. No other deserializer knows it.
const SECRET: &str = "$secret_resolver::Secret";

thread_local! {
    /// From the deserializer of a record to the [`Secret`] that asks: serde has no way to hand it over.
    static HANDED: Cell<Option<Secret>> = const { Cell::new(None) };
}

/// Takes back what was handed and not taken. A `Secret` takes it at once; a visitor of another crate, by the same
/// name, may not, or may panic.
struct Handed;

impl Handed {
    fn put(secret: Secret) -> Self {
        // On a thread that has it no more, the `Secret` says that it got none.
        let _ = HANDED.try_with(|handed| handed.set(Some(secret)));
        Self
    }

    fn take() -> Option<Secret> {
        HANDED.try_with(Cell::take).ok().flatten()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        drop(Self::take());
    }
}

/// From a record alone ([`Record::deserialize`]); any other source is an error. Feature `serde`.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Takes;

        impl Visitor<'_> for Takes {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field of a record; a Secret is read from nothing else")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Secret, E> {
                let handed = Handed::take();
                handed.ok_or_else(|| E::custom("a Secret is read from a record alone"))
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, Takes)
    }
}

/// What is wrong, without a word that serde has said about a value.
#[derive(Debug)]
enum Fault {
    Missing(String),
    Unknown(String),
    Unfit(Option<String>),
}

impl Fault {
    /// How many characters of a field's name are quoted that the struct does not know.
    const MOST: usize = 64;

    fn missing(field: &str) -> Self {
        Self::Missing(field.to_owned())
    }

    fn into_error(self, backend: &'static str) -> Error {
        let (kind, what, field) = match self {
            Self::Missing(field) => (ErrorKind::NotFound, "the record lacks a field", Some(field)),
            Self::Unknown(field) => (
                ErrorKind::Malformed,
                "the record has a field that the struct does not know",
                Some(field),
            ),
            Self::Unfit(field) => (
                ErrorKind::Malformed,
                "a value of the record does not fit the type of its field",
                field,
            ),
        };
        let error = Error::new(kind, what).with_backend(backend);
        match field {
            Some(field) => error.with_detail(format!("field {field:?}")),
            None => error,
        }
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Unfit(None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::missing(field)
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        // The store's word, of any length.
        Self::Unknown(field.chars().take(Self::MOST).collect())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record does not fit the struct")
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde::Deserialize as Derive;

    use super::*;
    use crate::SecretString;
    use crate::secret::SecretBuf;

    fn record(fields: &[(&str, &[u8])]) -> Record {
        let add = |builder: crate::backend::RecordBuilder, (name, value): &(&str, &[u8])| {
            builder.field(*name, SecretBuf::from_slice(value).unwrap())
        };
        fields
            .iter()
            .fold(Record::builder("test"), add)
            .build()
            .unwrap()
    }

    #[derive(Derive, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Verify,
        Off,
    }

    #[derive(Derive)]
    struct Database<'a> {
        user: &'a str,
        password: Secret,
        again: SecretString,
        port: u16,
        tls: bool,
        mode: Mode,
        note: Option<String>,
        key: Option<Secret>,
    }

    const FIELDS: [(&str, &[u8]); 7] = [
        ("user", b"app"),
        ("password", b"hunter2"),
        ("again", b"hunter2"),
        ("port", b"5432"),
        ("tls", b"true"),
        ("mode", b"verify"),
        ("key", b"\xff\x00"),
    ];

    #[test]
    fn a_struct_has_its_fields_from_one_record() {
        let record = record(&FIELDS);
        let database: Database<'_> = record.deserialize().unwrap();
        assert_eq!((database.user, database.port), ("app", 5432));
        assert_eq!(database.password.expose_str().unwrap(), "hunter2");
        assert_eq!(database.again.expose_secret(), "hunter2");
        assert_eq!(database.key.unwrap().expose_secret(), b"\xff\x00");
        assert_eq!(
            (database.tls, database.mode, database.note),
            (true, Mode::Verify, None)
        );
        // The secret and the text are the record's own bytes.
        let own = record.bytes_of("password").unwrap().as_ptr();
        assert_eq!(database.password.expose_secret().as_ptr(), own);
        assert_eq!(
            database.user.as_ptr(),
            record.bytes_of("user").unwrap().as_ptr()
        );
    }

    #[test]
    fn what_does_not_fit_is_named_and_not_quoted() {
        for (field, value, kind) in [
            ("port", "hunter2".as_bytes(), ErrorKind::Malformed),
            ("tls", b"hunter2", ErrorKind::Malformed),
            ("mode", b"hunter2", ErrorKind::Malformed),
            ("user", b"hunter2\xff", ErrorKind::Malformed),
            ("again", b"hunter2\xff", ErrorKind::Malformed),
            ("port", b"", ErrorKind::NotFound),
            ("password", b"", ErrorKind::NotFound),
        ] {
            let mut fields = FIELDS.to_vec();
            fields.retain(|(name, _)| *name != field);
            if !value.is_empty() {
                fields.push((field, value));
            }
            let record = record(&fields);
            let Err(error) = record.deserialize::<Database<'_>>() else {
                panic!("{field}");
            };
            assert_eq!(error.kind(), kind, "{field}");
            let said = error.to_string();
            assert!(said.contains(&format!("{field:?}")), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_field_that_the_struct_does_not_know_is_an_error_where_it_says_so() {
        #[derive(Derive, Debug)]
        #[serde(deny_unknown_fields)]
        struct Only {
            #[expect(dead_code, reason = "only its absence matters")]
            user: String,
        }
        let error = record(&FIELDS).deserialize::<Only>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("\"password\""), "{error}");
    }

    #[test]
    fn a_visitor_that_panics_leaves_no_secret_behind() {
        /// Asks by the name of a `Secret`, and does not take it.
        struct Asks;
        impl<'de> Deserialize<'de> for Asks {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_newtype_struct(SECRET, Asks)
            }
        }
        impl Visitor<'_> for Asks {
            type Value = Self;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
                panic!("of the test's own making");
            }
        }
        let record = record(&FIELDS);
        let all = || record.deserialize::<std::collections::BTreeMap<String, Asks>>();
        assert!(crate::foreign::foreign(all).is_none());
        assert!(HANDED.with(Cell::take).is_none());
    }

    #[test]
    fn the_name_of_an_unknown_field_is_quoted_in_part() {
        #[derive(Derive, Debug)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let long = "x".repeat(4000);
        let record = record(&[(&long, b"1")]);
        let error = record.deserialize::<Nothing>().unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }

    #[test]
    fn a_type_of_the_application_around_one_value_is_read_as_that_value() {
        #[derive(Derive, Debug, PartialEq)]
        struct Port(u16);
        #[derive(Derive)]
        struct Key(Secret);
        #[derive(Derive)]
        struct Wrapped {
            port: Port,
            key: Key,
        }
        let record = record(&FIELDS);
        let wrapped: Wrapped = record.deserialize().unwrap();
        assert_eq!(wrapped.port, Port(5432));
        assert_eq!(wrapped.key.0.expose_secret(), b"\xff\x00");
    }

    #[test]
    fn a_secret_is_read_from_a_record_alone() {
        let text: BorrowedStrDeserializer<'_, de::value::Error> =
            BorrowedStrDeserializer::new("hunter2");
        let error = Secret::deserialize(text).unwrap_err().to_string();
        assert!(
            !error.contains("hunter2") || error.contains("a field of a record"),
            "{error}"
        );
        let unit: de::value::UnitDeserializer<de::value::Error> = ().into_deserializer();
        assert!(Secret::deserialize(unit).is_err());
    }
}
