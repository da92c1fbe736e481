//! The backend itself: a name to an id, an id to a request, an answer to a record.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use secret_resolver::backend::{
    ExcessFuture, Located, NameRef, Request, ResolveFuture, ShutdownFuture,
};
use secret_resolver::{
    Address, Clock, Error, IdentityStatus, Moment, Record, SecretBuf, SecretResolver, Version,
};
use secret_resolver_session::{Attempt, Session, Token, Verdict};
use secret_resolver_transport::Reply;

use crate::answers::{self, Asked};
use crate::auth::Conjur;
use crate::batch::Bad;
use crate::client::Client;
use crate::config::{ConjurBuilder, ConjurTarget};
use crate::names::Names;
use crate::{error, wire};

/// Variables of one account of Conjur. A clone shares the login and the connections.
///
/// A name is one variable. Names that are asked for at the same time through a [`Resolver`](secret_resolver::Resolver) are read in one
/// request. On its own the backend keeps nothing, retries nothing except what its docs say, and bounds only its exchanges: put it into a
/// `Resolver` for the rest.
///
/// # Errors
/// | the store says | kind |
/// |---|---|
/// | 404 of a variable: none, no value, no such version, or hidden; Conjur does not say which | `NotFound` |
/// | 403 | `Denied` |
/// | 401 or 403 at a login; a credential's file that is missing | `Unauthenticated` |
/// | 404 of an authenticator; 400, 422 | `Misconfigured` |
/// | 429 | `Throttled`, with the store's `Retry-After` |
/// | 5xx, 405 of a follower, 408 and 421 of a proxy, no connection | `Unavailable` |
/// | nothing or not all in time | `Timeout` |
/// | a redirect; a certificate that is not trusted | `Refused` |
/// | a value over the bound | `Overloaded` |
/// | anything else: another program's page, an unknown status | `Malformed` |
///
/// A 401 of a read costs one question about the token, and one login if it is dead.
///
/// # Cancel safety
/// A future may be dropped at any time; a login that it waits for goes on for others.
///
/// ```no_run
/// use secret_resolver::Resolver;
/// use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Credential};
///
/// # async fn example() -> Result<(), secret_resolver::Error> {
/// let auth = Auth::api_key("host/apps/billing", Credential::file("/run/secrets/conjur-key"));
/// let target = ConjurTarget::new("https://conjur.internal", "/etc/app/conjur-ca.pem", "myorg", auth);
/// let resolver = Resolver::builder(ConjurBackend::builder(target).build()?).build()?;
/// let password = resolver.get("prod/db#password").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConjurBackend(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) session: Session<Conjur>,
    pub(crate) names: Names,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether each read says the number of the version.
    pub(crate) with_versions: bool,
    pub(crate) value_limit: usize,
    /// The ids that spoil a batch.
    pub(crate) bad: Bad,
}

/// Below this path a value is made for each read.
pub(crate) const DYNAMIC: &str = "data/dynamic/";

impl ConjurBackend {
    /// Starts a backend for `target`.
    #[must_use]
    pub fn builder(target: ConjurTarget) -> ConjurBuilder {
        ConjurBuilder::new(target)
    }

    /// How many logins were sent since it was built: for metrics and tests.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.0.session.stats().logins
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl SecretResolver for ConjurBackend {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let attempt = self.0.session.attempt(request.deadline());
            let read = pin!(self.0.read(request, &attempt));
            attempt.run(read).await.map_err(error::ours)
        })
    }

    /// As many as fit into a list of 6 KiB. A conditional read, an id with a comma, a dynamic secret and an id that spoiled a batch a
    /// moment ago go alone.
    fn at_once(&self, request: &Request<'_>) -> usize {
        let located = self.0.names.locate(request.name());
        let id = located.address().as_str();
        let alone = self.0.with_versions
            || request.validator().is_some()
            || id.starts_with(DYNAMIC)
            || self.0.names.joined(id).is_some()
            || self.0.bad.has(id, self.0.clock.now());
        match alone {
            true => 1,
            false => self.0.client().at_once(id),
        }
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        self.0.names.locate(name)
    }

    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        // Signals of the store say the account, too.
        let id = own
            .as_str()
            .strip_prefix(&self.0.client().start_of_full_id());
        self.0
            .names
            .addresses(Address::from(id.unwrap_or(own.as_str())))
    }

    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        self.0.names.below(prefix)
    }

    fn endpoints(&self) -> usize {
        self.0.client().endpoints().origins().len()
    }

    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::new(async move {
            let attempt = self.0.session.attempt(None);
            let asked = pin!(self.0.excess(names, &attempt));
            attempt.run(asked).await.map_err(error::ours)
        })
    }

    fn identity(&self) -> u64 {
        self.0.session.identity()
    }

    fn origins(&self) -> Vec<String> {
        let origins = self.0.client().endpoints().origins().iter();
        origins.map(ToString::to_string).collect()
    }

    fn login_ends(&self) -> Option<Moment> {
        self.0.session.ends()
    }

    fn identity_status(&self) -> Option<IdentityStatus> {
        self.0.session.store().identity_status()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(self.0.session.shutdown(deadline))
    }
}

/// What became of a read with one token.
pub(crate) enum Read<T> {
    Done(T),
    /// The endpoint of this number does not take the token.
    Refused(usize),
}

impl Parts {
    pub(crate) fn client(&self) -> &Client {
        &self.session.store().client
    }

    async fn read(
        &self,
        request: Request<'_>,
        attempt: &Attempt<'_, Conjur>,
    ) -> Result<Record, Error> {
        let located = self.names.locate(request.name());
        let id = located.address().as_str();
        let read = |token: Arc<Token>| async move { self.read_with(&token, request, id).await };
        let record = self.with_token(attempt, request.endpoint(), read).await?;
        request.admit(record.select(located.field()))
    }

    /// What `ask` answers with a token that the store takes. One that it does not take any more is replaced, once.
    pub(crate) async fn with_token<T, F>(
        &self,
        attempt: &Attempt<'_, Conjur>,
        endpoint: Option<usize>,
        ask: impl Fn(Arc<Token>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Read<T>, Error>>,
    {
        let mut again = false;
        loop {
            let token = attempt.token(endpoint).await?;
            let sent = self.session.mark();
            let refused = match ask(Arc::clone(&token)).await? {
                Read::Done(answer) => {
                    token.worked();
                    return Ok(answer);
                }
                Read::Refused(endpoint) => endpoint,
            };
            match self.session.judge(&token, sent, refused, again).await? {
                // The token lives: this endpoint refuses what the store takes.
                Verdict::Denied => {
                    return Err(error::new(
                        secret_resolver::ErrorKind::Unauthenticated,
                        "the store refuses a read with a token that it knows",
                    ));
                }
                Verdict::Replaced => {}
                // Once: a third login would not make a refusal less likely.
                Verdict::Dead => again = true,
            }
        }
    }

    async fn read_with(
        &self,
        token: &Token,
        request: Request<'_>,
        id: &str,
    ) -> Result<Read<Record>, Error> {
        if let Some(joined) = self.names.joined(id) {
            return self.read_joined(token, request, joined).await;
        }
        match request.batch() {
            Some(batch) if !self.with_versions => self.read_batch(token, request, id, batch).await,
            // A dynamic secret is made at each read: it has no versions.
            _ if self.with_versions && !id.starts_with(DYNAMIC) => {
                self.read_version(token, request, id).await
            }
            _ => self.read_one(token, request, id, request.validator()).await,
        }
    }

    /// One variable: in its version, if one is wanted; only if it is not the one with this mark, if there is one.
    pub(crate) async fn read_one(
        &self,
        token: &Token,
        request: Request<'_>,
        id: &str,
        held: Option<Version>,
    ) -> Result<Read<Record>, Error> {
        let wanted = request.version();
        let path = match wanted {
            None => self.client().path_of_secret(id),
            Some(version) => {
                let number = version.as_number().filter(|&number| number > 0);
                let number = number.ok_or_else(error::no_such_version)?;
                self.client().path_of_version(id, number)
            }
        };
        let (endpoint, secret) = (request.endpoint(), token.secret());
        let reply = match &held {
            Some(mark) => {
                self.client()
                    .read_unless(&path, secret, endpoint, mark)
                    .await?
            }
            None => self.client().read(&path, secret, endpoint).await?,
        };
        if answers::is_refusal(&reply) {
            return Ok(Read::Refused(reply.endpoint()));
        }
        match reply.status() {
            200 if answers::is_value(&reply) => {
                self.record(reply, id, wanted.cloned()).map(Read::Done)
            }
            304 if held.is_some() => Ok(Read::Done(Record::unchanged(error::BACKEND))),
            _ => Err(answers::error_of(Asked::Read, &path, &reply)),
        }
    }

    /// One variable with the number of its version: the metadata say the number, and the value is read in that version.
    ///
    /// The metadata prove no right to read, so a value that is held is asked about by a conditional read as well. All go to one endpoint:
    /// another may be behind, and not have the version.
    async fn read_version(
        &self,
        token: &Token,
        request: Request<'_>,
        id: &str,
    ) -> Result<Read<Record>, Error> {
        if request.version().is_some() {
            return self.read_one(token, request, id, None).await;
        }
        let (number, endpoint) = match self.latest(token, request.endpoint(), id).await? {
            Read::Done((number, endpoint)) => (Version::number(number), endpoint),
            Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
        };
        let request = request.at_endpoint(endpoint);
        if request.held().as_ref() == Some(&number) {
            let held = request.validator();
            if let Some(mark) = held {
                let read = self.read_one(token, request, id, Some(mark)).await?;
                match read {
                    Read::Done(record) if record.field_names().next().is_some() => {}
                    unchanged => return Ok(unchanged),
                }
                // Written in between: the number that was read is not that of this value.
            }
        }
        self.read_one(token, request.with_version(&number), id, None)
            .await
    }

    /// The number of a variable's latest version, and the endpoint that says so.
    pub(crate) async fn latest(
        &self,
        token: &Token,
        endpoint: Option<usize>,
        id: &str,
    ) -> Result<Read<(u64, usize)>, Error> {
        let path = self.client().path_of_metadata(id);
        let reply = self.client().read(&path, token.secret(), endpoint).await?;
        if answers::is_refusal(&reply) {
            return Ok(Read::Refused(reply.endpoint()));
        }
        match reply.status() {
            200 => match wire::latest_version(reply.body())? {
                Some(number) => Ok(Read::Done((number, reply.endpoint()))),
                None => Err(error::new(
                    secret_resolver::ErrorKind::NotFound,
                    "the variable has no value",
                )
                .with_detail(reply.place(&path))),
            },
            _ => Err(answers::error_of(Asked::Read, &path, &reply)),
        }
    }

    /// The value, if it is one that Conjur stores, and not larger than one may be.
    pub(crate) fn checked(&self, value: SecretBuf) -> Result<SecretBuf, Error> {
        match value.len() {
            0 => Err(error::malformed(
                "the answer has an empty value, which Conjur does not store; check what is listening there",
            )),
            len if len > self.value_limit => Err(error::value_too_large()),
            _ => Ok(value),
        }
    }

    fn record(
        &self,
        reply: Reply<'_>,
        id: &str,
        version: Option<Version>,
    ) -> Result<Record, Error> {
        let mark = reply
            .header("ETag")
            .map(|mark| Version::tag(mark.as_bytes()));
        self.record_of(reply.into_body(), id, version, mark)
    }

    /// A record of one value. Its version is the number, where one is known, or else the mark.
    pub(crate) fn record_of(
        &self,
        value: SecretBuf,
        id: &str,
        version: Option<Version>,
        mark: Option<Version>,
    ) -> Result<Record, Error> {
        let value = self.checked(value)?;
        let mut record = Record::builder(error::BACKEND);
        if id.starts_with(DYNAMIC) {
            record = record.lease(dynamic_life(value.expose()));
        }
        if let (Some(_), Some(mark)) = (&version, mark.as_ref().and_then(Version::as_tag)) {
            record = record.validator(mark);
        }
        record = record.field("", value);
        record.version(version.or(mark).unwrap_or_default()).build()
    }
}

/// How long a dynamic secret lives, as its JSON says: `ttl`, in seconds. One that does not say it is used for a moment only.
pub(crate) fn dynamic_life(value: &[u8]) -> std::time::Duration {
    #[derive(serde::Deserialize)]
    struct Minted {
        ttl: Option<u64>,
    }
    let minted: Result<secret_resolver_json::Object<Minted>, _> =
        secret_resolver_json::parse(value, "");
    let seconds = minted
        .ok()
        .and_then(|secret_resolver_json::Object(minted)| minted.ttl);
    std::time::Duration::from_secs(seconds.unwrap_or(1))
}

impl fmt::Debug for ConjurBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConjurBackend")
            .field("client", self.0.client())
            .field("names", &self.0.names)
            .field("logins", &self.logins())
            .finish_non_exhaustive()
    }
}
