//! One store at several origins: which one is asked. Judges no answer.
//!
//! One exchange goes to one endpoint. After one that failed the next exchange goes to the next endpoint. A redirect is tried at the
//! others at once where nothing has chosen the endpoint: by it an endpoint says that it cannot answer. Where something has, it is that
//! endpoint's error. The endpoints are one trust domain: what goes to one of them may go to each.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secret_resolver::{Error, ErrorKind, SecretBuf};

use crate::error::misconfigured;
use crate::{Client, Origin, Request, Response};

/// A store's endpoints, which a backend asks one at a time.
///
/// ```no_run
/// use secret_resolver_transport::{Client, Endpoints, Method, Origin, Request};
///
/// # async fn example(client: Client, origins: Vec<Origin>) -> Result<(), secret_resolver::Error> {
/// let store = Endpoints::new(client, origins)?;
/// let reply = store.send(None, || Request::new(Method::Get, "/v1/sys/health")).await?;
/// println!("{} answered {}", store.origins()[reply.endpoint()], reply.status());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Endpoints {
    client: Client,
    // Never empty.
    origins: Box<[Origin]>,
    current: AtomicUsize,
}

/// An answer, and the endpoint that has given it.
#[derive(Debug)]
pub struct Reply<'a> {
    response: Response,
    origin: &'a Origin,
    endpoint: usize,
}

impl Endpoints {
    /// As many as are told apart when others are asked.
    pub const MOST: usize = 64;

    /// The endpoints of one store, in the order in which they are asked; `client` has to allow each.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] for none, for more than [`Endpoints::MOST`], and for one that is there twice.
    pub fn new(client: Client, origins: Vec<Origin>) -> Result<Self, Error> {
        if origins.is_empty() || origins.len() > Self::MOST {
            return Err(misconfigured("a store has from 1 to 64 endpoints"));
        }
        let mut before = HashSet::new();
        // It would be asked twice, as if it were two nodes.
        if let Some(twice) = origins.iter().find(|origin| !before.insert(*origin)) {
            return Err(misconfigured("an endpoint is given twice").with_detail(twice.to_string()));
        }
        Ok(Self {
            client,
            origins: origins.into(),
            current: AtomicUsize::new(0),
        })
    }

    /// One exchange, at the endpoint of this number, or at the one in use; where none was chosen one more at each other while
    /// they redirect. `request` is made for each endpoint that is asked.
    ///
    /// # Errors
    /// As [`Client::send`]. A redirect is [`ErrorKind::Refused`], with its status.
    ///
    /// # Cancel safety
    /// Dropping it ends the exchange; the store may have acted on the request.
    pub async fn send(
        &self,
        directed: Option<usize>,
        request: impl Fn() -> Result<Request, Error>,
    ) -> Result<Reply<'_>, Error> {
        let mut redirect = None;
        let first = directed.unwrap_or_else(|| self.current());
        for turn in 0..self.origins.len() {
            let endpoint = first.wrapping_add(turn) % self.origins.len();
            let Some(origin) = self.origins.get(endpoint) else {
                break;
            };
            match self.client.send(origin, request()?).await {
                Ok(response) => {
                    // This endpoint cannot answer now; another may.
                    if response.status() == 412 || response.status() >= 500 {
                        self.leave(endpoint);
                    }
                    return Ok(Reply {
                        response,
                        origin,
                        endpoint,
                    });
                }
                Err(error) if is_redirect(&error) => {
                    self.leave(endpoint);
                    if directed.is_some() {
                        return Err(error);
                    }
                    redirect = Some(error);
                }
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
                        self.leave(endpoint);
                    }
                    return Err(error);
                }
            }
        }
        Err(redirect.unwrap_or_else(|| misconfigured("a store has from 1 to 64 endpoints")))
    }

    /// The origins, in their order.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The client that speaks to them.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The endpoint in use: one that has not failed since it was come to.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Lets the next exchange go to another endpoint than the one that gave this answer, for a reason that its content gave.
    pub fn leave_after(&self, reply: &Reply<'_>) {
        self.leave(reply.endpoint);
    }

    /// Moves on from this endpoint, unless another exchange has done so before.
    fn leave(&self, endpoint: usize) {
        let next = (endpoint + 1) % self.origins.len();
        let _ = self
            .current
            .compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn is_redirect(error: &Error) -> bool {
    error
        .status()
        .is_some_and(|status| (300..400).contains(&status))
}

impl Reply<'_> {
    /// The status code, as [`Response::status`].
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status()
    }

    /// A header, as [`Response::header`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.response.body()
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_body(self) -> SecretBuf {
        self.response.into_body()
    }

    /// The answer without its endpoint.
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The endpoint's number, from 0.
    #[must_use]
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// What `Retry-After` asks for, as [`Response::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.response.retry_after()
    }

    /// What was asked for, and where: the origin and the path, for errors.
    #[must_use]
    pub fn place(&self, target: &str) -> String {
        format!("{}{target}", self.origin)
    }
}
