//! A path before every name: a caller that chooses names stays below it.
//!
//! It works on parsed names: no segment of one is `..`, empty or hidden, so a longer path never
//! leads out of a shorter one. It does not replace the store's access control (a policy for each
//! tenant), which decides by the identity of this process.

use std::borrow::Cow;
use std::sync::Arc;

use crate::address::{Address, Located};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::name::{NameRef, SecretName};
use crate::resolver::{
    ExcessFuture, Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture,
};
use crate::rules::{is_below, prefix_of};
use crate::secret::Record;
use crate::status::IdentityStatus;

/// A path that is put before every name: in the scope `tenants/42`, `db#password` is
/// `tenants/42/db#password`.
#[derive(Clone, Debug)]
pub(crate) struct Scope(Arc<str>);

/// Puts the path of a scope before every name.
///
/// # Order
/// Outermost, around the whole stack: the cache, policies by prefix and the audit then see the full
/// name. Below a cache that scopes share, `db` of one tenant would be answered from the entry of
/// another.
///
/// # Errors
/// A name that gets longer than [`SecretName::MAX_LEN`] with the path is
/// [`ErrorKind::InvalidName`]. An error that names the secret names it as the caller did: the path
/// may be private, and the caller never wrote it. So it has no detail either; that is in the log.
///
/// # Cost
/// Each call puts a full name together, which allocates, even for a cached secret.
///
/// # Cancel safety
/// It holds nothing: dropping a future drops what it asked for.
#[derive(Clone, Debug)]
pub(crate) struct Scoped<R> {
    inner: R,
    scope: Scope,
    /// Where `inner` keeps what has a name in the scope.
    addresses: Arc<[Address<'static>]>,
}

impl Scope {
    /// # Errors
    /// [`ErrorKind::InvalidName`] when `path` is not the path of a name, as a prefix elsewhere. The error does
    /// not quote it.
    pub(crate) fn new(path: &str) -> Result<Self, Error> {
        Ok(Self(Arc::from(prefix_of(path)?.path())))
    }

    /// The scope `path` within this one.
    pub(crate) fn within(&self, path: &str) -> Result<Self, Error> {
        let inner = Self::new(path)?;
        Self::new(&self.text(&inner.0)).map_err(|_| too_long())
    }

    pub(crate) fn full(&self, name: NameRef<'_>) -> Result<SecretName, Error> {
        SecretName::parse(&self.text(name.as_str())).map_err(|_| too_long().with_name(name))
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }

    fn text(&self, below: &str) -> String {
        format!("{}/{below}", self.0)
    }
}

impl<R: SecretResolver> Scoped<R> {
    /// Around `inner`, with the scope's path before every name.
    pub(crate) fn new(inner: R, scope: Scope) -> Self {
        let path = SecretName::parse(scope.path());
        let below = path.map(|path| {
            let addresses = inner.below(path.borrowed()).into_iter();
            addresses.map(Address::into_owned).collect()
        });
        Self {
            // The path was checked, so it is one.
            addresses: below.unwrap_or_default(),
            inner,
            scope,
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The full name, if the store keeps it where nothing but the scope's own is. Where it folds names, as
    /// the environment does, a name outside could mean the same secret.
    pub(crate) fn full(&self, name: NameRef<'_>) -> Result<SecretName, Error> {
        let full = self.scope.full(name)?;
        let located = self.inner.locate(full.borrowed());
        let address = located.address();
        let mut own = self.addresses.iter();
        let inside = own.any(|own| is_below(address.as_str(), own.as_str()));
        match inside || address.is_lost() {
            true => Ok(full),
            false => Err(folds().with_name(name)),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Scoped<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let full = match self.full(request.name()) {
            Ok(full) => full,
            Err(error) => return ResolveFuture::ready(Err(error)),
        };
        ResolveFuture::new(async move {
            let asked = within(request, full.borrowed());
            let answer = self.inner.resolve(asked).await;
            answer.map_err(|error| as_asked(error, request.name()))
        })
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        ResolveManyFuture::new(async move {
            let full: Vec<_> = requests
                .iter()
                .map(|request| self.full(request.name()))
                .collect();
            let asked: Vec<_> = requests
                .iter()
                .zip(&full)
                .filter_map(|(request, full)| {
                    Some(within(*request, full.as_ref().ok()?.borrowed()))
                })
                .collect();
            let mut answers = exactly(asked.len(), self.inner.resolve_many(&asked).await);
            let answer = |(request, full): (&Request<'_>, Result<SecretName, Error>)| {
                // There are as many answers as full names, so `None` does not come.
                full.and_then(|_| answers.next().unwrap_or_else(|| Err(too_long())))
                    .map_err(|error| as_asked(error, request.name()))
            };
            requests.iter().zip(full).map(answer).collect()
        })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        match self.scope.full(name) {
            Ok(full) => {
                let inner = self.inner.locate(full.borrowed());
                let field = inner.field().map(|field| Cow::Owned(field.to_owned()));
                Located::new(inner.address().clone().into_owned(), field)
            }
            // Nothing is ever answered for it; its address also stays below the path.
            Err(_) => {
                let field = name.field().map(Cow::Borrowed);
                Located::new(self.scope.text(name.path()), field)
            }
        }
    }

    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        self.inner.addresses(own)
    }

    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let Ok(full) = self.scope.full(prefix) else {
            return Vec::new();
        };
        let addresses = self.inner.below(full.borrowed()).into_iter();
        addresses.map(Address::into_owned).collect()
    }

    /// Of no use to what stands above a whole resolver.
    fn at_once(&self, _: &Request<'_>) -> usize {
        1
    }

    fn remembers(&self) -> bool {
        self.inner.remembers()
    }

    fn endpoints(&self) -> usize {
        self.inner.endpoints()
    }

    fn origins(&self) -> Vec<String> {
        self.inner.origins()
    }

    fn spreads(&self) -> bool {
        self.inner.spreads()
    }

    fn identity(&self) -> u64 {
        self.inner.identity()
    }

    fn login_ends(&self) -> Option<Moment> {
        self.inner.login_ends()
    }

    fn identity_status(&self) -> Option<IdentityStatus> {
        self.inner.identity_status()
    }

    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::new(async move {
            let full = names.iter().map(|&name| self.full(name));
            let full: Vec<_> = full.collect::<Result<_, Error>>()?;
            let full: Vec<_> = full.iter().map(SecretName::borrowed).collect();
            let answer = self.inner.excess(&full).await;
            answer.map_err(Error::without_detail)
        })
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner.shutdown(deadline)
    }
}

/// The request for the full name. The store is the same, and so are its endpoints.
fn within<'a>(request: Request<'a>, full: NameRef<'a>) -> Request<'a> {
    let asked = request.renamed(full).elsewhere(request.tried());
    match request.endpoint() {
        Some(endpoint) => asked.at_endpoint(endpoint),
        None => asked,
    }
}

/// Exactly `number` answers: what is missing is an error, what is too many is dropped. A resolver
/// that answers too few must not give one name another's value for it.
fn exactly(
    number: usize,
    answers: Vec<Result<Record, Error>>,
) -> impl Iterator<Item = Result<Record, Error>> {
    let missing = std::iter::repeat_with(|| {
        Err(Error::new(
            ErrorKind::Malformed,
            "the resolver answered fewer requests than it was asked",
        ))
    });
    answers.into_iter().chain(missing).take(number)
}

/// The error, with the caller's own spelling of the name in place of the full one, and without the
/// detail, which may show the path: a backend shows there where it asked.
pub(crate) fn as_asked(error: Error, name: NameRef<'_>) -> Error {
    match error.name() {
        Some(_) => error.with_name(name),
        None => error,
    }
    .without_detail()
}

fn folds() -> Error {
    Error::new(
        ErrorKind::Misconfigured,
        "the store can mean this secret by names outside of the scope, too; list its names (env: with_names), or ask for it without a scope",
    )
}

/// Both parts were valid names, so their length is the only rule that the whole can break.
fn too_long() -> Error {
    Error::new(
        ErrorKind::InvalidName,
        "with the path of the scope the name has more than 512 bytes",
    )
}

#[cfg(test)]
mod tests;
