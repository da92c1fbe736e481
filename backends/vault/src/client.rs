//! Requests to the store: which endpoint, with which headers. Judges no answer.
//!
//! One exchange goes to one endpoint. After one that failed the next exchange goes to the next
//! endpoint. A redirect, by which a standby says that it cannot answer, is tried at the others at once
//! where nothing has chosen the endpoint. Where something has, it is that endpoint's error: the core asks
//! the next, and passes over the one that redirects before long. A token goes to these endpoints and
//! to nothing else: the transport follows no redirect and knows no other origin.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secret_resolver::{Error, ErrorKind, SecretBuf};
use secret_resolver_transport as transport;
use secret_resolver_transport::{Method, Origin, Response};

use crate::error;
use crate::leader::Leader;

#[derive(Debug)]
pub(crate) struct Client {
    http: transport::Client,
    // Never empty: the target is made with one.
    endpoints: Box<[Origin]>,
    current: AtomicUsize,
    leader: Leader,
    namespace: Option<Box<str>>,
}

/// A request, apart from where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// Absolute and percent-encoded.
    pub(crate) target: &'a str,
    pub(crate) token: Option<&'a SecretBuf>,
    /// JSON.
    pub(crate) body: Option<&'a SecretBuf>,
    /// The endpoint to ask; `None` to begin with the one in use, which has not failed since the client turned to it.
    pub(crate) endpoint: Option<usize>,
    /// Whether only the leader's answer is good enough, where it can be asked for.
    pub(crate) of_leader: bool,
    /// The client certificate that it may be sent with, by its number; any, if none is named.
    pub(crate) certificate: Option<u64>,
}

impl<'a> Ask<'a> {
    /// Without a token or a body, to any endpoint.
    pub(crate) fn new(method: Method, target: &'a str) -> Self {
        Self {
            method,
            target,
            token: None,
            body: None,
            endpoint: None,
            of_leader: false,
            certificate: None,
        }
    }
}

/// An answer, and the endpoint that gave it.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    response: Response,
    origin: &'a Origin,
    endpoint: usize,
}

impl Client {
    pub(crate) fn new(
        http: transport::Client,
        endpoints: Box<[Origin]>,
        namespace: Option<Box<str>>,
    ) -> Self {
        Self {
            http,
            endpoints,
            current: AtomicUsize::new(0),
            leader: Leader::default(),
            namespace,
        }
    }

    /// One exchange, and where no endpoint was chosen one more at each other while they redirect. An answer of
    /// any status but a redirect is a reply.
    ///
    /// # Cancel safety
    /// Dropping it ends the exchange; the store may have acted on the request.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Reply<'_>, Error> {
        let mut redirect = None;
        let first = ask
            .endpoint
            .unwrap_or_else(|| self.current.load(Ordering::Relaxed));
        for turn in 0..self.endpoints.len() {
            let number = first.wrapping_add(turn) % self.endpoints.len();
            let Some(origin) = self.endpoints.get(number) else {
                break;
            };
            let sent = self.http.send(origin, self.request(ask)?).await;
            match sent {
                Ok(response) => {
                    self.leader.learn(&response);
                    // 412 and 5xx: this endpoint cannot answer now, another may.
                    if response.status() == 412 || response.status() >= 500 {
                        self.leave(number);
                    }
                    return Ok(Reply {
                        response,
                        origin,
                        endpoint: number,
                    });
                }
                Err(error)
                    if error
                        .status()
                        .is_some_and(|status| (300..400).contains(&status)) =>
                {
                    self.leave(number);
                    if ask.endpoint.is_some() && self.endpoints.len() > 1 {
                        return Err(error::redirected(error, origin));
                    }
                    redirect = Some(error);
                }
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
                        self.leave(number);
                    }
                    return Err(error::ours(error));
                }
            }
        }
        let nowhere = || error::misconfigured("the target has no endpoint");
        Err(redirect.map_or_else(nowhere, error::ours))
    }

    pub(crate) fn origins(&self) -> Vec<String> {
        self.endpoints.iter().map(Origin::to_string).collect()
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// The endpoint that an exchange without a direction goes to.
    pub(crate) fn endpoint(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The number of the client certificate that is shown; 0 for none.
    pub(crate) fn certificate(&self) -> u64 {
        self.http.certificate()
    }

    /// Looks whether there is another by now.
    pub(crate) async fn look_again(&self) {
        self.http.look_again().await;
    }

    /// Lets the next exchange go to a different endpoint from the one that gave this answer, for a
    /// reason that is in its content.
    pub(crate) fn leave_after(&self, reply: &Reply<'_>) {
        self.leave(reply.endpoint);
    }

    /// Moves on from this endpoint, unless another exchange has done so before.
    fn leave(&self, number: usize) {
        let next = (number + 1) % self.endpoints.len().max(1);
        let _ = self
            .current
            .compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn request(&self, ask: Ask<'_>) -> Result<transport::Request, Error> {
        let mut request = transport::Request::new(ask.method, ask.target)?;
        // An OpenBao or Vault Agent in front may be set to demand it, as a guard against forged
        // requests of a browser.
        request = request.with_header("X-Vault-Request", "true")?;
        if let Some(namespace) = &self.namespace {
            request = request.with_header("X-Vault-Namespace", namespace)?;
        }
        if let Some(token) = ask.token {
            request = request.with_secret_header("X-Vault-Token", token.expose())?;
        }
        if let Some(number) = ask.certificate {
            request = request.with_certificate(number);
        }
        if ask.of_leader {
            request = self.leader.only(request)?;
        }
        if let Some(body) = ask.body {
            // A copy for each endpoint that is tried; each is wiped.
            request = request.with_body("application/json", SecretBuf::from_slice(body.expose())?);
        }
        Ok(request)
    }
}

impl Reply<'_> {
    pub(crate) fn status(&self) -> u16 {
        self.response.status()
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.response.body()
    }

    pub(crate) fn endpoint(&self) -> usize {
        self.endpoint
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.response.retry_after()
    }

    /// What was asked for, and where: the origin and the path.
    pub(crate) fn place(&self, target: &str) -> String {
        format!("{}{target}", self.origin)
    }
}
