//! What may be read, decided when the backend is built.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, ErrorKind, SecretName};

use crate::resolver::EnvBackend;
use crate::source::{EnvSource, ProcessEnv};
use crate::variable;

/// Builds an [`EnvBackend`]; from [`EnvBackend::builder`].
pub struct EnvBuilder {
    prefix: Option<String>,
    names: Vec<String>,
    aliases: Vec<(String, String)>,
    source: Arc<dyn EnvSource>,
}

impl EnvBuilder {
    pub(crate) fn new() -> Self {
        Self {
            prefix: None,
            names: Vec::new(),
            aliases: Vec::new(),
            source: Arc::new(ProcessEnv),
        }
    }

    /// Only variables that start with `prefix` and a `_` are read, except by an alias. No default.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Only these names, and aliases, are answered. Default: with a prefix all names are.
    #[must_use]
    pub fn with_names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        self
    }

    /// Reads `name` from exactly this variable, whatever the rule says. The prefix does not apply.
    #[must_use]
    pub fn with_alias(mut self, name: impl Into<String>, variable: impl Into<String>) -> Self {
        self.aliases.push((name.into(), variable.into()));
        self
    }

    /// Reads from `source` instead of the environment of this process.
    #[must_use]
    pub fn with_source(mut self, source: impl EnvSource) -> Self {
        self.source = Arc::new(source);
        self
    }

    /// The backend. Reads nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] without a prefix and without names, for a prefix or variable
    /// that cannot be one, and for two names that share a variable; [`ErrorKind::InvalidName`] for
    /// a name that is not valid.
    pub fn build(self) -> Result<EnvBackend, Error> {
        let Self {
            prefix,
            names,
            aliases,
            source,
        } = self;
        if prefix.is_none() && names.is_empty() && aliases.is_empty() {
            return Err(misconfigured(
                "the env backend needs a prefix or a list of names: it never reads just any variable",
            ));
        }
        if let Some(prefix) = &prefix {
            variable::check(prefix)?;
        }
        let mut listed = HashMap::new();
        for name in &names {
            let name = SecretName::parse(name)?;
            let Some(variable) = variable::variable(prefix.as_deref(), name.borrowed()) else {
                return Err(misconfigured(
                    "a name outside ASCII has no variable: give it an alias",
                )
                .with_name(name.borrowed()));
            };
            variable::check(&variable)?;
            add(&mut listed, name, variable)?;
        }
        for (name, variable) in aliases {
            variable::check(&variable)?;
            add(&mut listed, SecretName::parse(&name)?, variable)?;
        }
        // With a prefix and no names, the rule answers every name that no alias does.
        let rule = prefix.filter(|_| names.is_empty());
        Ok(EnvBackend::new(rule, listed, source))
    }
}

impl fmt::Debug for EnvBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvBuilder")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Two listed names for one variable are two secrets that a service would take for different.
fn add(
    listed: &mut HashMap<SecretName, String>,
    name: SecretName,
    variable: String,
) -> Result<(), Error> {
    let shared = listed
        .iter()
        .any(|(other, held)| *held == variable && *other != name);
    if shared || listed.get(&name).is_some_and(|held| *held != variable) {
        return Err(misconfigured(
            "two names share a variable, or one name has two: give one of them another alias",
        )
        .with_name(name.borrowed()));
    }
    listed.insert(name, variable);
    Ok(())
}

fn misconfigured(what: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, what).with_backend("env")
}
