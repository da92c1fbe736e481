//! Requests to the store: with which headers. Which endpoint is asked is the transport's; it judges no answer.
//!
//! A standby that cannot answer redirects. Where nothing has chosen the endpoint, the others are tried at once. Where something has, it is
//! that endpoint's error: the core asks the next, and passes over the one that redirects before long.

use secret_resolver::{Error, SecretBuf};
use secret_resolver_transport::{Endpoints, Method, Reply, Request};

use crate::error;
use crate::inline::Inline;
use crate::leader::Leader;

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Endpoints,
    leader: Leader,
    namespace: Option<Box<str>>,
    /// Where tokens are JWTs, each of which logs in with its request.
    inline: Option<Inline>,
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

impl Client {
    pub(crate) fn new(
        endpoints: Endpoints,
        namespace: Option<Box<str>>,
        inline: Option<Inline>,
    ) -> Self {
        Self {
            endpoints,
            leader: Leader::default(),
            namespace,
            inline,
        }
    }

    /// One exchange, and where no endpoint was chosen one more at each other while they redirect. An answer of
    /// any status but a redirect is a reply.
    ///
    /// # Cancel safety
    /// Dropping it ends the exchange; the store may have acted on the request.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Reply<'_>, Error> {
        let sent = self
            .endpoints
            .send(ask.endpoint, || self.request(ask))
            .await;
        match sent {
            Ok(reply) => {
                self.leader.learn(reply.response());
                Ok(reply)
            }
            Err(error) => {
                let origins = self.endpoints.origins();
                let directed = ask.endpoint.filter(|_| origins.len() > 1);
                let origin = directed.and_then(|endpoint| origins.get(endpoint % origins.len()));
                Err(match origin {
                    Some(origin) => error::redirected(error, origin),
                    None => error::ours(error),
                })
            }
        }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The number of the client certificate that is shown; 0 for none.
    pub(crate) fn certificate(&self) -> u64 {
        self.endpoints.client().certificate()
    }

    /// Looks whether there is another by now.
    pub(crate) async fn look_again(&self) {
        self.endpoints.client().look_again().await;
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request, Error> {
        let mut request = Request::new(ask.method, ask.target)?;
        // An OpenBao or Vault Agent in front may be set to demand it, as a guard against forged
        // requests of a browser.
        request = request.with_header("X-Vault-Request", "true")?;
        if let Some(namespace) = &self.namespace {
            request = request.with_header("X-Vault-Namespace", namespace)?;
        }
        if let Some(token) = ask.token {
            request = match &self.inline {
                Some(inline) => inline.with(request, token)?,
                None => request.with_secret_header("X-Vault-Token", token.expose())?,
            };
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
