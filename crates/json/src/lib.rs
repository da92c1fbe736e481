//! JSON of secrets: values from a body straight into buffers that are wiped, for the backends of secret-resolver.
//!
//! `serde_json` finds where each value begins and ends, borrowed from the body (`RawValue`). [`string`] and [`value`] write it into a
//! [`SecretBuf`](secret_resolver::SecretBuf); [`quote`] goes the other way. [`parse`] drops the parser's error, which quotes what it met;
//! [`Object`] takes an object where a derived struct would take an array, too, and [`Members`] keeps all of one, in order.
//!
//! Its errors name no backend; the backend adds its own name.
//!
//! ```
//! use secret_resolver_json::{Object, parse, string};
//! use serde_json::value::RawValue;
//!
//! #[derive(serde::Deserialize)]
//! struct Login<'a> {
//!     #[serde(borrow)]
//!     token: &'a RawValue,
//! }
//!
//! let body = br#"{"token":"s\u002ex"}"#;
//! let Object(login): Object<Login<'_>> = parse(body, "the answer to a login is not one")?;
//! assert_eq!(string(login.token.get(), 1024)?.expose(), b"s.x");
//! # Ok::<(), secret_resolver::Error>(())
//! ```

mod object;
mod string;

use secret_resolver::{Error, ErrorKind};
use serde::Deserialize;

pub use object::{Members, Object};
pub use string::{quote, quoted_len, string, value};

/// What a body says. `what` says that it is not what it should be.
///
/// # Errors
/// [`ErrorKind::Malformed`]. serde_json's error is dropped: its text quotes what it met.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| Error::new(ErrorKind::Malformed, what))
}

/// What `fuzz/` asserts; part of no ordinary build.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Of JSON strings.
    pub fn json(data: &[u8]) {
        let _ = crate::string::properties::hold(data);
    }
}

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
