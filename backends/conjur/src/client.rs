//! Requests to the store: which path, with which headers. Which endpoint is asked is the transport's. It judges no answer, except that
//! a follower's 405 lets the next request go elsewhere.

use secret_resolver::{Error, SecretBuf, Version};
use secret_resolver_transport::{Endpoints, Method, Reply, Request, percent_encode};

use crate::{error, wire};

#[derive(Debug)]
pub(crate) struct Client {
    endpoints: Endpoints,
    /// `/api`, or nothing.
    base: &'static str,
    account: String,
    batches: Batches,
}

/// How many variables are read in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batches {
    /// By a list of ids in the query, answered as a whole or not at all.
    List,
    /// By a list of ids in the body, each answered for itself: Conjur Cloud and its Edge.
    Saas,
}

/// How many ids the service takes at once (WIRE).
const MOST_AT_SAAS: usize = 250;

/// The media type that the service wants (WIRE).
const SAAS: &str = "application/x.secretsmgr.v2beta+json";

/// The longest path and query of a batch: proxies take 8 KiB for the whole line, and Conjur itself 10,240 bytes.
const LONGEST_BATCH: usize = 6 << 10;

impl Client {
    pub(crate) fn new(
        endpoints: Endpoints,
        base: &'static str,
        account: String,
        batches: Batches,
    ) -> Self {
        Self {
            endpoints,
            base,
            account,
            batches,
        }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) fn is_saas(&self) -> bool {
        self.batches == Batches::Saas
    }

    /// What stands before a variable's own id in its full one.
    pub(crate) fn start_of_full_id(&self) -> String {
        format!("{}:variable:", self.account)
    }

    /// A variable as batches name it: by its full id, or by its own.
    pub(crate) fn id_in_batch(&self, id: &str) -> String {
        match self.batches {
            Batches::List => format!("{}{id}", self.start_of_full_id()),
            Batches::Saas => id.to_owned(),
        }
    }

    pub(crate) fn path_of_secret(&self, id: &str) -> String {
        let account = percent_encode(&self.account, b"");
        format!(
            "{}/secrets/{account}/variable/{}",
            self.base,
            percent_encode(id, b"")
        )
    }

    /// In one version.
    pub(crate) fn path_of_version(&self, id: &str, version: u64) -> String {
        format!("{}?version={version}", self.path_of_secret(id))
    }

    pub(crate) fn path_of_metadata(&self, id: &str) -> String {
        let account = percent_encode(&self.account, b"");
        format!(
            "{}/resources/{account}/variable/{}",
            self.base,
            percent_encode(id, b"")
        )
    }

    /// Asks whether the identity may do this to that.
    pub(crate) fn path_of_check(&self, kind: &str, id: &str, privilege: &str) -> String {
        let account = percent_encode(&self.account, b"");
        format!(
            "{}/resources/{account}/{kind}/{}?check=true&privilege={privilege}",
            self.base,
            percent_encode(id, b"")
        )
    }

    /// Asks how many variables the identity sees.
    pub(crate) fn path_of_count(&self) -> String {
        let account = percent_encode(&self.account, b"");
        format!("{}/resources/{account}?kind=variable&count=true", self.base)
    }

    /// Of ids, each once; those of a list are full and have no comma.
    pub(crate) fn path_of_batch(&self, ids: &[String]) -> String {
        if self.is_saas() {
            return format!("{}/secrets/values", self.base);
        }
        let ids: Vec<_> = ids.iter().map(|id| percent_encode(id, b"")).collect();
        format!("{}{}", self.start_of_batch(), ids.join(","))
    }

    fn start_of_batch(&self) -> String {
        format!("{}/secrets?variable_ids=", self.base)
    }

    /// How many variables with ids as this one are read in one request.
    pub(crate) fn at_once(&self, id: &str) -> usize {
        match self.batches {
            Batches::Saas => MOST_AT_SAAS,
            // A comma parts ids.
            Batches::List if id.contains(',') => 1,
            Batches::List => {
                let each = percent_encode(&self.id_in_batch(id), b"").len() + 1;
                (LONGEST_BATCH - self.start_of_batch().len()) / each
            }
        }
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
        if self.is_saas() {
            let body = wire::ids(ids)?;
            let request = || {
                let request = Request::new(Method::Post, &path)?.with_header("Accept", SAAS)?;
                let request = request.with_secret_header("Authorization", token.expose())?;
                Ok(request.with_body("application/json", SecretBuf::from_slice(&body)?))
            };
            return self.send(endpoint, request).await;
        }
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
