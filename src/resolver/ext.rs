//! The calls that applications make, on everything that is a resolver.

use std::future::Future;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::name::NameRef;
use crate::resolver::{Request, RequireError, Required, SecretResolver};
use crate::secret::{Record, Secret};

/// `get` and its variants, for every resolver: a backend, a mock, an `Arc<dyn SecretResolver>`.
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::{Error, Secret, SecretResolver, SecretResolverExt};
///
/// async fn password(resolver: Arc<dyn SecretResolver>) -> Result<Secret, Error> {
///     resolver.get("prod/db#password").await
/// }
/// ```
pub trait SecretResolverExt: SecretResolver {
    /// The secret of this name, current within its time to live.
    ///
    /// # Errors
    /// As the kinds of [`ErrorKind`](crate::ErrorKind) say. The error names the secret.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time; a fetch that it waits for goes on for others.
    fn get<'a>(&'a self, name: &'a str) -> impl Future<Output = Result<Secret, Error>> + Send + 'a {
        // Nothing is asked before the first poll, so an answer is never older than its poll.
        async move {
            let name = NameRef::parse(name)?;
            let answer = self.resolve(Request::new(name)).await;
            answer
                .and_then(|record| field_of(self, name, record))
                .map_err(|error| named(error, name))
        }
    }

    /// All fields of the record at `path`, of one version.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ErrorKind::InvalidName`] when a field is named.
    ///
    /// # Cancel safety
    /// As [`get`](Self::get).
    fn get_record<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Future<Output = Result<Record, Error>> + Send + 'a {
        async move {
            let name = NameRef::parse(path)?;
            if name.field().is_some() {
                let rule = "a record is named without a field: leave out the '#' and what follows";
                return Err(Error::new(ErrorKind::InvalidName, rule).with_name(name));
            }
            let answer = self.resolve(Request::new(name)).await;
            answer.map_err(|error| named(error, name))
        }
    }

    /// The secrets of these names, in their order; each fails alone.
    ///
    /// Secrets of one record have one version; a common version of several records is not promised.
    ///
    /// # Cancel safety
    /// As [`get`](Self::get).
    fn get_many<'a, N>(
        &'a self,
        names: &'a [N],
    ) -> impl Future<Output = Vec<Result<Secret, Error>>> + Send + 'a
    where
        N: AsRef<str> + Sync,
    {
        many(self, names, None)
    }

    /// Checks that all of these names resolve, as a service does when it starts.
    ///
    /// # Errors
    /// One error that lists every name that does not resolve, and why.
    ///
    /// # Cancel safety
    /// As [`get`](Self::get).
    fn require<'a, N>(
        &'a self,
        names: &'a [N],
    ) -> impl Future<Output = Result<Required, RequireError>> + Send + 'a
    where
        N: AsRef<str> + Sync,
    {
        required(self, names, None)
    }
}

impl<R: SecretResolver + ?Sized> SecretResolverExt for R {}

/// As [`SecretResolverExt::require`], with an end to waiting.
pub(crate) async fn required<R, N>(
    resolver: &R,
    names: &[N],
    deadline: Option<Moment>,
) -> Result<Required, RequireError>
where
    R: SecretResolver + ?Sized,
    N: AsRef<str> + Sync,
{
    let answers = many(resolver, names, deadline).await;
    Required::sort(names, answers)
}

async fn many<R, N>(
    resolver: &R,
    names: &[N],
    deadline: Option<Moment>,
) -> Vec<Result<Secret, Error>>
where
    R: SecretResolver + ?Sized,
    N: AsRef<str> + Sync,
{
    let names: Vec<_> = names
        .iter()
        .map(|name| NameRef::parse(name.as_ref()))
        .collect();
    let requests = names.iter().flatten().map(|&name| {
        let request = Request::new(name);
        deadline.map_or(request, |deadline| request.with_deadline(deadline))
    });
    let valid: Vec<_> = requests.collect();
    let mut answers = resolver.resolve_many(&valid).await.into_iter();
    let mut answer = |name: NameRef<'_>| {
        // A resolver that answers too few breaks its contract; that must not panic here.
        let answer = answers.next().unwrap_or_else(|| Err(no_answer()));
        answer
            .and_then(|record| field_of(resolver, name, record))
            .map_err(|error| named(error, name))
    };
    names
        .into_iter()
        .map(|name| name.and_then(&mut answer))
        .collect()
}

/// The field that the name means. Where the record lacks it the error says which that is: a name without
/// one means the store's default.
pub(crate) fn field_of<R: SecretResolver + ?Sized>(
    resolver: &R,
    name: NameRef<'_>,
    record: Record,
) -> Result<Secret, Error> {
    record.into_secret().map_err(|error| {
        let located = resolver.locate(name);
        match located.field() {
            Some(field) => error.with_detail(format!("field {field:?}")),
            None => error,
        }
    })
}

pub(crate) fn named(error: Error, name: NameRef<'_>) -> Error {
    match error.name() {
        Some(_) => error,
        None => error.with_name(name),
    }
}

fn no_answer() -> Error {
    Error::new(
        ErrorKind::Malformed,
        "the resolver answered fewer requests than it was asked",
    )
}

// The helpers must stay usable on trait objects; this is checked here rather than found out later.
const _: fn(&dyn SecretResolver, Request<'static>) = |resolver, request| {
    drop(resolver.resolve(request));
    drop(resolver.get("a"));
};
