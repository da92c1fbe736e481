//! The one place where the environment is read, injectable so that a test can count reads.

use std::ffi::OsString;
use std::fmt;

/// Where variables are read from.
///
/// ```
/// use std::ffi::OsString;
/// use secret_resolver_env::EnvSource;
///
/// #[derive(Debug)]
/// struct Fixed;
///
/// impl EnvSource for Fixed {
///     fn read(&self, variable: &str) -> Option<OsString> {
///         (variable == "APP_TOKEN").then(|| "t0k3n".into())
///     }
/// }
/// ```
pub trait EnvSource: fmt::Debug + Send + Sync + 'static {
    /// The value of a variable; `None` where it is not set. The backend wipes the answer.
    fn read(&self, variable: &str) -> Option<OsString>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

impl EnvSource for ProcessEnv {
    fn read(&self, variable: &str) -> Option<OsString> {
        std::env::var_os(variable)
    }
}
