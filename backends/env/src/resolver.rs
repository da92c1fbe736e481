//! Answers names from variables.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use secret_resolver::backend::{ExcessFuture, Located, NameRef, Request, ResolveFuture, is_below};
use secret_resolver::{Address, Error, ErrorKind, Record, SecretBuf, SecretName, SecretResolver};
use zeroize::Zeroize;

use crate::config::EnvBuilder;
use crate::source::EnvSource;
use crate::variable;

/// Answers names from environment variables that were named beforehand.
///
/// Each read asks the source again, so a cache above it decides how old a value may be. A record
/// has one field and no version. A variable that is set but empty is not found: an empty password
/// is a mistake in the setup, not a secret.
///
/// # Security
/// The value also stands in the environment block of the process, which nothing here can wipe.
///
/// ```
/// use secret_resolver::{ErrorKind, SecretResolverExt};
/// use secret_resolver_env::EnvBackend;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = EnvBackend::builder().with_prefix("NO_SUCH_APP").build()?;
/// let error = backend.get("prod/token").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
pub struct EnvBackend {
    /// The prefix of the rule; without one only listed names are answered.
    rule: Option<String>,
    listed: HashMap<SecretName, String>,
    source: Arc<dyn EnvSource>,
}

impl EnvBackend {
    /// Starts a backend that reads the environment of this process.
    #[must_use]
    pub fn builder() -> EnvBuilder {
        EnvBuilder::new()
    }

    pub(crate) fn new(
        rule: Option<String>,
        listed: HashMap<SecretName, String>,
        source: Arc<dyn EnvSource>,
    ) -> Self {
        Self {
            rule,
            listed,
            source,
        }
    }

    /// The variable that `name` may be read from.
    fn variable(&self, name: NameRef<'_>) -> Option<String> {
        if let Some(variable) = self.listed.get(&name.to_owned()) {
            return Some(variable.clone());
        }
        let prefix = self.rule.as_deref()?;
        variable::variable(Some(prefix), name)
    }

    fn read(&self, request: Request<'_>) -> Result<Record, Error> {
        let not_found = |what| Error::new(ErrorKind::NotFound, what).with_backend("env");
        let Some(variable) = self.variable(request.name()) else {
            return Err(not_found(
                "the name is not one that the env backend was given, or has no variable",
            ));
        };
        let Some(value) = self.source.read(&variable) else {
            return Err(not_found("the variable is not set").with_detail(variable));
        };
        let mut value = value.into_encoded_bytes();
        let held = SecretBuf::from_slice(&value);
        value.zeroize();
        let held = held?;
        if held.is_empty() {
            return Err(not_found("the variable is set but empty").with_detail(variable));
        }
        request.admit(Record::single("env", held))
    }
}

impl SecretResolver for EnvBackend {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::ready(self.read(request))
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        match self.variable(name) {
            Some(variable) => Located::new(variable, None),
            // It is not answered. No variable's name has a '!', so it shares no address with a name that is answered:
            // otherwise a cache could answer it with that name's value or absence.
            None => Located::new(format!("!{name}"), None),
        }
    }

    /// Names that are listed have variables of their own; by the rule, those below `prefix` share theirs with
    /// others, and only that of `prefix` itself is known.
    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let path = prefix.path();
        let listed = self.listed.iter();
        let listed = listed.filter(|(name, _)| is_below(name.path(), path));
        let listed = listed.map(|(_, variable)| Address::from(variable.as_str()));
        let own = self.variable(prefix).map(Address::from);
        // Names without a variable.
        let none = Address::from(format!("!{path}"));
        listed.chain(own).chain([none]).collect()
    }

    /// No identity stands behind a variable.
    fn excess<'a>(&'a self, _: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::ready(Ok(Vec::new()))
    }
}

impl fmt::Debug for EnvBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the source: it may be an application's own, with values in its Debug text.
        f.debug_struct("EnvBackend")
            .field("rule", &self.rule)
            .field("listed", &self.listed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
