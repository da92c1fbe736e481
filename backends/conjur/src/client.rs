//! Requests to the store: which path, with which headers. Which endpoint is asked is the transport's. It judges no answer, except that
//! a follower's 405 lets the next request go elsewhere.

use secret_resolver::{Error, SecretBuf, Version};
use secret_resolver_transport::{Endpoints, Method, Reply, Request, percent_encode};

use crate::error;

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Endpoints,
    /// `/api`, or nothing.
    base: &'static str,
    account: String,
}

/// The longest path and query of a batch: proxies take 8 KiB for the whole line, and Conjur itself 10,240 bytes.
const LONGEST_BATCH: usize = 6 << 10;

impl Client {
    pub(crate) fn new(endpoints: Endpoints, base: &'static str, account: String) -> Self {
        Self {
            endpoints,
            base,
            account,
        }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The full id of a variable, as batches name it.
    pub(crate) fn full_id(&self, id: &str) -> String {
        format!("{}:variable:{id}", self.account)
    }

    pub(crate) fn path_of_secret(&self, id: &str) -> String {
        let account = percent_encode(&self.account, b"");
        format!(
            "{}/secrets/{account}/variable/{}",
            self.base,
            percent_encode(id, b"")
        )
    }

    pub(crate) fn path_of_metadata(&self, id: &str) -> String {
        let account = percent_encode(&self.account, b"");
        format!(
            "{}/resources/{account}/variable/{}",
            self.base,
            percent_encode(id, b"")
        )
    }

    /// Of full ids without a comma, each once.
    pub(crate) fn path_of_batch(&self, ids: &[String]) -> String {
        let ids: Vec<_> = ids.iter().map(|id| percent_encode(id, b"")).collect();
        format!("{}{}", self.start_of_batch(), ids.join(","))
    }

    fn start_of_batch(&self) -> String {
        format!("{}/secrets?variable_ids=", self.base)
    }

    /// How many variables with ids as long as this one are read in one request.
    pub(crate) fn at_once(&self, id: &str) -> usize {
        let each = percent_encode(&self.full_id(id), b"").len() + 1;
        (LONGEST_BATCH - self.start_of_batch().len()) / each
    }

    /// The path of a login: `authn/…` or another authenticator's, with the login where it has one.
    pub(crate) fn path_of_login(&self, authenticator: &str, login: Option<&str>) -> String {
        let account = percent_encode(&self.account, b"");
        let login = login.map_or(String::new(), |login| {
            format!("/{}", percent_encode(login, b""))
        });
        format!(
            "{}/{authenticator}/{account}{login}/authenticate",
            self.base
        )
    }

    /// A read with a token, at one endpoint.
    pub(crate) async fn read(
        &self,
        path: &str,
        token: &SecretBuf,
        endpoint: Option<usize>,
    ) -> Result<Reply<'_>, Error> {
        self.send(endpoint, || get(path, token)).await
    }

    /// The same, only if the value is not the one with this mark.
    pub(crate) async fn read_unless(
        &self,
        path: &str,
        token: &SecretBuf,
        endpoint: Option<usize>,
        mark: &Version,
    ) -> Result<Reply<'_>, Error> {
        let request = || match mark.as_tag() {
            Some(mark) => get(path, token)?.with_secret_header("If-None-Match", mark),
            None => get(path, token),
        };
        self.send(endpoint, request).await
    }

    /// Many values, in base64 so that each may be any bytes.
    pub(crate) async fn read_batch(
        &self,
        ids: &[String],
        token: &SecretBuf,
        endpoint: Option<usize>,
    ) -> Result<Reply<'_>, Error> {
        let path = self.path_of_batch(ids);
        self.send(endpoint, || Ok(get(&path, token)?.accepting("base64")))
            .await
    }

    /// Whether the store takes the token is what its answer says.
    pub(crate) async fn whoami(
        &self,
        token: &SecretBuf,
        endpoint: Option<usize>,
    ) -> Result<Reply<'_>, Error> {
        let path = format!("{}/whoami", self.base);
        self.send(endpoint, || get(&path, token)).await
    }

    /// A login with this body. The answer is a token in base64, or in JSON.
    pub(crate) async fn log_in(
        &self,
        path: &str,
        body: Option<(&'static str, &SecretBuf)>,
        endpoint: Option<usize>,
    ) -> Result<Reply<'_>, Error> {
        let request = || {
            let request = Request::new(Method::Post, path)?.accepting("base64");
            Ok(match body {
                // A copy for each endpoint that is asked; each is wiped.
                Some((kind, body)) => {
                    request.with_body(kind, SecretBuf::from_slice(body.expose())?)
                }
                None => request,
            })
        };
        self.send(endpoint, request).await
    }

    async fn send(
        &self,
        endpoint: Option<usize>,
        request: impl Fn() -> Result<Request, Error>,
    ) -> Result<Reply<'_>, Error> {
        let sent = self.endpoints.send(endpoint, request).await;
        let reply = sent.map_err(error::ours)?;
        // A follower that does not take the request; the leader, or another, may.
        if reply.status() == 405 {
            self.endpoints.leave_after(&reply);
        }
        Ok(reply)
    }
}

fn get(path: &str, token: &SecretBuf) -> Result<Request, Error> {
    Request::new(Method::Get, path)?.with_secret_header("Authorization", token.expose())
}
