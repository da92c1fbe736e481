//! The client. Which origins it may speak to, how long it waits and how much it reads is set on its builder.
//!
//! It follows nothing and interprets no status except a redirect's. Retries, breakers and limits on
//! concurrency are layers above it.

mod builder;

pub use builder::{ClientBuilder, Limits};

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use secret_resolver::backend::first;
use secret_resolver::{Clock, Error, ErrorKind, IdentityStatus, Moment};
use tokio::runtime::Handle;

use crate::engine::{Connection, Pool, Target, Tls, connect};
use crate::error::misconfigured;
use crate::identity::{Identity, Stamp};
use crate::origin::Origin;
use crate::request::Request;
use crate::response::Response;
use crate::tls;
use crate::trust::Trust;

/// The HTTPS client. A clone shares the connections.
///
/// ```
/// # fn main() -> Result<(), secret_resolver::Error> {
/// use std::sync::Arc;
/// use secret_resolver::backend::SystemClock;
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::{Client, Trust};
///
/// # let trust = match Trust::from_file("ca.pem") { Ok(trust) => trust, Err(_) => return Ok(()) };
/// let unlisted = Client::builder(trust, Arc::new(SystemClock::shared()?)).build();
/// assert_eq!(unlisted.unwrap_err().kind(), ErrorKind::Misconfigured);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    tls: Arc<ClientConfig>,
    identity: Arc<Identity>,
    targets: HashMap<Origin, Target>,
    limits: Limits,
    pool: Pool,
    /// Set by the first that waits.
    first_word_until: OnceLock<Moment>,
}

impl Client {
    /// Starts a client that believes `trust` alone and waits by `clock`.
    pub fn builder(trust: Trust, clock: Arc<dyn Clock>) -> ClientBuilder {
        ClientBuilder::new(trust, clock)
    }

    /// The clock that times its requests.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The number of the client certificate that the next connection shows: another for each one, and 0 where there
    /// is none to show. See [`Request::with_certificate`].
    #[must_use]
    pub fn certificate(&self) -> u64 {
        self.0.identity.stamp().certificate
    }

    /// The identity that the client certificate proves, where its source knows it.
    #[must_use]
    pub fn identity_status(&self) -> Option<IdentityStatus> {
        self.0.identity.status()
    }

    /// Looks whether there is another client certificate by now, or other authorities, at most once a second: before a login, whose
    /// credential the certificate may be. It waits half a second at most: a look that takes longer goes on by itself. Where a source asks an
    /// agent that has said nothing yet, its first word is waited for within the same time. Connections do both by themselves, and look less
    /// often. To be polled on a tokio runtime; elsewhere it does nothing.
    ///
    /// # Cancel safety
    /// The look goes on.
    pub async fn look_again(&self) {
        if let Ok(runtime) = Handle::try_current() {
            let clock = &*self.0.clock;
            let until = clock.now() + Inner::FIRST_WORD;
            self.0.identity.look_again(clock, true, &runtime).await;
            self.0.first_word(until).await;
        }
    }

    /// Sends `request` to `origin` and reads the whole answer, whatever its status unless that is
    /// a redirect's.
    ///
    /// To be polled on a tokio runtime with I/O enabled. A read goes over a kept connection where
    /// there is one, and once more over a new one if that turns out to be dead; any other request
    /// is sent once, over a new connection. While all connections are in use it waits for
    /// one of them; see [`ClientBuilder::with_connections`].
    ///
    /// # Errors
    /// Each with the origin as its detail.
    /// - [`ErrorKind::Refused`]: the origin is not on the list (nothing was sent); the server's
    ///   certificate is not from the given authorities, not for this host or not valid now; the
    ///   answer is a redirect (with its status); the client certificate is another than the request is for (nothing
    ///   was sent).
    /// - [`ErrorKind::Unauthenticated`]: the server demands a client certificate, or does not take this one; the
    ///   client certificate is expired, or its source has none, and then nothing was sent.
    /// - [`ErrorKind::Unavailable`]: the name does not resolve, the connection cannot be made in
    ///   time, or it ended before the whole answer had come.
    /// - [`ErrorKind::Timeout`]: the request was sent and the answer's last byte did not come in
    ///   time.
    /// - [`ErrorKind::Malformed`]: what was answered is not TLS or not HTTP/1.1, its head is over
    ///   32 KiB or 100 headers, or its body is over the limit.
    /// - [`ErrorKind::Overloaded`]: all connections to the origin were in use for half of the response timeout
    ///   (nothing was sent); no memory for the body.
    /// - [`ErrorKind::Misconfigured`]: no runtime, or a content type that cannot be written.
    ///
    /// # Cancel safety
    /// Dropping it closes its connection; the server may have acted on the request anyway.
    /// The client stays usable.
    pub async fn send(&self, origin: &Origin, request: Request) -> Result<Response, Error> {
        let answer = match self.0.targets.get(origin) {
            Some(target) => self.0.send(origin, target, request).await,
            None => Err(Error::new(
                ErrorKind::Refused,
                "the origin is not on the client's list",
            )),
        };
        answer.map_err(|error| {
            let detail = match error.detail() {
                Some(detail) => format!("{origin}, {detail}"),
                None => origin.to_string(),
            };
            error.with_detail(detail)
        })
    }
}

impl Inner {
    async fn send(
        &self,
        origin: &Origin,
        target: &Target,
        mut request: Request,
    ) -> Result<Response, Error> {
        let runtime = Handle::try_current()
            .map_err(|_| misconfigured("the client is used outside of a tokio runtime"))?;
        let now = self.clock.now();
        let deadline = now + self.limits.response_timeout;
        let latest = now + self.limits.response_timeout / 2;
        let reads = request.is_repeatable();
        // A request on a kept connection does not wait for it, and where nothing but kept ones are used, a change
        // has to be seen, too.
        if reads {
            drop(self.identity.begin_look(now, false, &runtime));
        }
        let kept = async || match reads {
            true => self.pool.take(origin, &runtime).await,
            false => None,
        };
        // Given back last, when the connection is kept or closed.
        let (_place, mut connection) = target.place(latest, &*self.clock, kept()).await?;
        if connection.is_none() {
            connection = kept().await;
        }
        if let Some(kept) = connection {
            let doubt = self.pool.doubt(origin);
            let answer = self
                .exchange(kept, origin, target, &mut request, deadline, &runtime)
                .await;
            match answer.as_ref().map_err(Error::kind) {
                // The server may close a kept connection at any time, even just now.
                Err(ErrorKind::Unavailable) => {}
                Err(ErrorKind::Timeout) => return answer,
                _ => {
                    doubt.answered();
                    return answer;
                }
            }
        }
        self.identity
            .look_again(&*self.clock, false, &runtime)
            .await;
        // A read takes a kept connection, where one is there for it.
        let readers = reads.then_some(&runtime);
        self.pool.keep(origin, readers, || target.free_places());
        // It is large, and rare.
        let connection = || Box::pin(self.connect(origin, target, deadline));
        let seen = self.identity.stamp();
        let new = match connection().await {
            // An authority, or the client certificate, may have been changed a moment ago.
            Err(error)
                if is_refusal(&error)
                    && self.identity.is_new(seen, &*self.clock, &runtime).await =>
            {
                connection().await?
            }
            new => new?,
        };
        let seen = new.stamp;
        let answer = self
            .exchange(new, origin, target, &mut request, deadline, &runtime)
            .await;
        match answer {
            // With TLS 1.3 a server refuses a client certificate after it has got the request.
            Err(error)
                if reads
                    && error.kind() == ErrorKind::Unauthenticated
                    && self.identity.is_new(seen, &*self.clock, &runtime).await =>
            {
                let new = connection().await?;
                self.exchange(new, origin, target, &mut request, deadline, &runtime)
                    .await
            }
            answer => answer,
        }
    }

    async fn connect(
        &self,
        origin: &Origin,
        target: &Target,
        deadline: Moment,
    ) -> Result<Connection, Error> {
        self.first_word(deadline).await;
        let deadline = deadline.min(self.clock.now() + self.limits.connect_timeout);
        for _ in 0..Self::BEGUN_AGAIN {
            // Before the certificate is taken: a change in between is noticed.
            let stamp = self.identity.stamp();
            let tls = self.tls(stamp)?;
            let connection = connect(origin, target, &tls, deadline, &*self.clock);
            match first(connection, self.identity.changed(stamp)).await {
                Some(Ok(connection)) if self.identity.stamp() == stamp => return Ok(connection),
                // Perhaps nobody is believed any more.
                Some(Err(error)) => return Err(self.identity.certificate().err().unwrap_or(error)),
                // What it began with is not to be shown any more: withdrawn, ended, or another by now.
                Some(Ok(_)) | None => {}
            }
        }
        let tls = self.tls(self.identity.stamp())?;
        let connection = connect(origin, target, &tls, deadline, &*self.clock).await?;
        // It may be the one before the last by now, but there is one.
        self.identity.certificate()?;
        Ok(connection)
    }

    /// Waits for the first word of a source that asks an agent, if it has said none.
    async fn first_word(&self, deadline: Moment) {
        let until = || self.clock.now() + Self::FIRST_WORD;
        let until = *self.first_word_until.get_or_init(until);
        let patience = deadline.min(until);
        first(self.identity.begun(), self.clock.sleep_until(patience)).await;
    }

    /// How long the first word of a source that asks an agent is waited for, from the first connection on. What is later has none.
    const FIRST_WORD: Duration = Duration::from_millis(500);

    /// How often a connection is begun again because its certificate has changed meanwhile. More often than that is faster than
    /// connections are made.
    const BEGUN_AGAIN: usize = 4;

    /// What a connection is made with now.
    fn tls(&self, stamp: Stamp) -> Result<Tls, Error> {
        let config = match self.identity.certificate()? {
            None => Arc::clone(&self.tls),
            Some(certificate) => Arc::new(tls::showing(&self.tls, &certificate)?),
        };
        Ok(Tls { config, stamp })
    }

    /// One exchange; the connection is kept only when it went well.
    async fn exchange(
        &self,
        mut connection: Connection,
        origin: &Origin,
        target: &Target,
        request: &mut Request,
        deadline: Moment,
        runtime: &Handle,
    ) -> Result<Response, Error> {
        request.check_certificate(connection.stamp.certificate)?;
        let request = request.for_host(&target.host_header)?;
        let exchange = connection.exchange(request, self.limits.body_limit);
        let late = || {
            let reason = "the request was sent and the whole answer did not come in time";
            Err(Error::new(ErrorKind::Timeout, reason))
        };
        let response = first(exchange, self.clock.sleep_until(deadline))
            .await
            .unwrap_or_else(late)?;
        self.pool.put(origin, connection, runtime).await;
        Ok(response)
    }
}

/// Whether one side does not take the other's certificate, or there is none to show.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Refused | ErrorKind::Unauthenticated
    )
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("origins", &self.0.targets.keys().collect::<Vec<_>>())
            .field("identity", &self.0.identity)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}
