//! Secrets from the environment, for `secret-resolver`: for development, and for platforms that
//! hand secrets over as variables.
//!
//! The environment is ambient: anyone who can set a variable chooses the value, and the value stands
//! in the process's environment block for as long as the process lives, whatever this library
//! wipes. So nothing is read that was not named beforehand: a backend needs a prefix, a list of
//! names, or both. It is never a fallback unless an application names it as one.
//!
//! | name | variable, with the prefix `APP` |
//! |---|---|
//! | `prod/db#password` | `APP_PROD_DB_PASSWORD` |
//! | `prod/token` | `APP_PROD_TOKEN` |
//!
//! The rule folds names: `prod/db`, `prod_db` and `PROD-DB` are one variable. So names that somebody else
//! chooses are not kept apart by it, and a scope (`Resolver::scoped`) refuses to read through it: list the
//! names ([`EnvBuilder::with_names`]), which are checked to have a variable each.
//!
//! ```
//! use secret_resolver::Resolver;
//! use secret_resolver_env::EnvBackend;
//!
//! let backend = EnvBackend::builder().with_prefix("APP").build()?;
//! let resolver = Resolver::builder(backend).build()?;
//! # let _ = resolver;
//! # Ok::<(), secret_resolver::Error>(())
//! ```

mod config;
mod resolver;
mod source;
mod variable;

pub use config::EnvBuilder;
pub use resolver::EnvBackend;
pub use source::{EnvSource, ProcessEnv};

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
