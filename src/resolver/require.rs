//! The answer to `require`: all secrets, or one error that names each that is missing.

use std::fmt;

use crate::error::{Error, Retry};
use crate::name::{AsName, NameRef, SecretName};
use crate::secret::Secret;

/// The secrets that `require` found, in the order of the names.
///
/// Hold it for the start of a service only: values that rotate are read anew by `get`.
#[derive(Debug)]
pub struct Required(Vec<Secret>);

/// Which of the required names do not resolve, and why each does not.
///
/// ```
/// # use secret_resolver::{RequireError, Required};
/// fn explain(error: &RequireError) {
///     for (position, name, why) in error.failures() {
///         eprintln!("{position}: {name:?}: {why}");
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RequireError {
    asked: usize,
    failures: Vec<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    position: usize,
    // A name that did not parse is not kept: it may be a secret, pasted by mistake.
    name: Option<SecretName>,
    error: Error,
}

impl Required {
    /// The secrets, in the order in which the names were given.
    #[must_use]
    pub fn into_secrets(self) -> Vec<Secret> {
        self.0
    }

    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.0
    }

    /// One error for all of `names`.
    pub(crate) fn none(names: &[impl AsName], error: Error) -> RequireError {
        let failure = |(position, name): (usize, Option<NameRef<'_>>)| Failure {
            position,
            name: name.map(NameRef::to_owned),
            error: error.clone(),
        };
        let names = names.iter().map(|name| name.as_name().ok());
        RequireError {
            asked: names.len(),
            failures: names.enumerate().map(failure).collect(),
        }
    }

    pub(crate) fn sort(
        names: Vec<Option<SecretName>>,
        answers: Vec<Result<Secret, Error>>,
    ) -> Result<Self, RequireError> {
        let asked = answers.len();
        let mut found = Vec::with_capacity(asked);
        let mut failures = Vec::new();
        for (position, (name, answer)) in names.into_iter().zip(answers).enumerate() {
            match answer {
                Ok(secret) => found.push(secret),
                Err(error) => failures.push(Failure {
                    position,
                    name,
                    error,
                }),
            }
        }
        if failures.is_empty() {
            Ok(Self(found))
        } else {
            Err(RequireError { asked, failures })
        }
    }
}

impl RequireError {
    /// Position in the list that was given, the name where it is a valid one, and the reason.
    pub fn failures(&self) -> impl Iterator<Item = (usize, Option<&SecretName>, &Error)> {
        let failures = self.failures.iter();
        failures.map(|failure| (failure.position, failure.name.as_ref(), &failure.error))
    }
}

impl RequireError {
    /// Whether every failure is one that may pass by itself; so does what this process has decided on its
    /// own, such as a login that is held back or a credential's file that is missing.
    pub(crate) fn may_pass(&self) -> bool {
        let passes = |error: &Error| {
            error.is_held_back()
                || error.is_our_own_overload()
                || error.kind().permits().retry != Retry::Never
        };
        self.failures.iter().all(|failure| passes(&failure.error))
    }
}

impl fmt::Display for RequireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures.len();
        write!(
            f,
            "{failed} of {} required secrets do not resolve",
            self.asked
        )?;
        for (number, failure) in self.failures.iter().enumerate() {
            let separator = if number == 0 { ": " } else { "; " };
            // The error's own text has the name where there is one.
            write!(f, "{separator}{}", failure.error)?;
            if failure.name.is_none() {
                write!(f, " (name number {})", failure.position + 1)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for RequireError {}
