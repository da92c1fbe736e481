//! The answer to `require`: all secrets, or one error that names each that is missing.

use std::fmt;

use crate::error::{Error, ErrorKind, Repeat};
use crate::name::SecretName;
use crate::secret::Secret;

/// The secrets that `require` found, in the order of the names.
///
/// Hold it for the start of a service only: a secret that rotates is read again by `get`.
///
/// ```
/// # use secret_resolver::{Resolver, testing::MockBackend};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MockBackend::new().with_value("prod/db#user", "app");
/// let resolver = Resolver::builder(store).build()?;
/// let required = resolver.require(&["prod/db#user"]).await?;
/// assert_eq!(required.get("prod/db#user").unwrap().expose_str()?, "app");
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Required(Vec<(SecretName, Secret)>);

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
    /// Why none is given out, where all of them resolve.
    withheld: Option<Error>,
}

#[derive(Clone, Debug)]
struct Failure {
    position: usize,
    // A name that did not parse is not kept: it may be a secret, pasted by mistake.
    name: Option<SecretName>,
    error: Error,
}

impl Required {
    /// The secret of this name, which is one of those that were required.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        let found = self
            .0
            .iter()
            .find(|(required, _)| required.as_str() == name);
        found.map(|(_, secret)| secret)
    }

    /// The secrets, in the order in which the names were given.
    #[must_use]
    pub fn into_secrets(self) -> Vec<Secret> {
        self.0.into_iter().map(|(_, secret)| secret).collect()
    }

    /// The names and their secrets, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&SecretName, &Secret)> {
        self.0.iter().map(|(name, secret)| (name, secret))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().map(|(name, _)| name)
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter().map(|(_, secret)| secret)
    }

    /// One error for all of `names`, which resolve.
    pub(crate) fn none(names: &[impl AsRef<str>], error: Error) -> RequireError {
        let failure = |(position, name): (usize, &_)| Failure {
            position,
            name: parsed(name),
            error: error.clone(),
        };
        RequireError {
            asked: names.len(),
            failures: names.iter().enumerate().map(failure).collect(),
            withheld: Some(error.clone()),
        }
    }

    pub(crate) fn sort(
        names: &[impl AsRef<str>],
        answers: Vec<Result<Secret, Error>>,
    ) -> Result<Self, RequireError> {
        let asked = answers.len();
        let mut found = Vec::with_capacity(asked);
        let mut failures = Vec::new();
        for (position, (name, answer)) in names.iter().zip(answers).enumerate() {
            let name = parsed(name);
            match (name, answer) {
                (Some(name), Ok(secret)) => found.push((name, secret)),
                (name, Err(error)) => failures.push(Failure {
                    position,
                    name,
                    error,
                }),
                // What is not a name is asked for nowhere.
                (None, Ok(_)) => {}
            }
        }
        if failures.is_empty() {
            Ok(Self(found))
        } else {
            Err(RequireError {
                asked,
                failures,
                withheld: None,
            })
        }
    }
}

fn parsed(name: &impl AsRef<str>) -> Option<SecretName> {
    SecretName::parse(name.as_ref()).ok()
}

impl RequireError {
    /// Position in the list that was given, the name where it is a valid one, and the reason.
    pub fn failures(&self) -> impl Iterator<Item = (usize, Option<&SecretName>, &Error)> {
        let failures = self.failures.iter();
        failures.map(|failure| (failure.position, failure.name.as_ref(), &failure.error))
    }

    /// Whether every failure is one that may pass by itself; so does what this process has decided on its
    /// own, such as a login that is held back or a credential's file that is missing.
    pub(crate) fn may_pass(&self) -> bool {
        let passes = |error: &Error| {
            error.is_held_back()
                || error.is_our_own_overload()
                || error.kind().permits().retry != Repeat::Never
        };
        self.failures.iter().all(|failure| passes(&failure.error))
    }
}

impl From<RequireError> for Error {
    /// All failures as one error, of the kind of the first that does not pass by itself, or else of the
    /// first.
    fn from(error: RequireError) -> Self {
        let lasting = |failure: &&Failure| failure.error.kind().permits().retry == Repeat::Never;
        let mut failures = error.failures.iter();
        let first = failures.clone().next();
        let kind = failures.find(lasting).or(first);
        let kind = kind.map_or(ErrorKind::NotFound, |failure| failure.error.kind());
        let what = match error.withheld {
            Some(_) => "the required secrets resolve, but are withheld",
            None => "not all required secrets resolve",
        };
        Self::new(kind, what).with_detail(error.to_string())
    }
}

impl fmt::Display for RequireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.withheld {
            // One cause, not one for each name.
            let asked = self.asked;
            return write!(
                f,
                "all {asked} required secrets resolve, but are withheld: {error}"
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_worth_another_try_only_where_every_failure_may_pass() {
        use ErrorKind::{Denied, NotFound, Throttled, Unavailable};
        let may_pass = |kinds: &[ErrorKind]| {
            let answers = kinds.iter().map(|&kind| {
                let error = Error::new(kind, "of the test's own making");
                Err::<Secret, _>(error)
            });
            let names: Vec<_> = (0..kinds.len())
                .map(|number| format!("a/{number}"))
                .collect();
            let error = Required::sort(&names, answers.collect()).unwrap_err();
            error.may_pass()
        };
        assert!(may_pass(&[Unavailable]) && may_pass(&[Unavailable, Throttled]));
        assert!(!may_pass(&[Denied]) && !may_pass(&[Denied, NotFound]));
        assert!(!may_pass(&[Unavailable, Denied]) && !may_pass(&[Denied, Unavailable]));
    }
}
