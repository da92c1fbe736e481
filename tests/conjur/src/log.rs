//! The record of what was asked, on which connection, and what was answered.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use test_servers::RequestHead;

use crate::ConjurDouble;

/// What a request asks for, by its method and path.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// `GET /`
    Root,
    /// `GET /whoami`
    Whoami,
    /// `GET /authenticators`
    Authenticators,
    /// `GET /authn/{account}/login`
    Login,
    /// `POST /authn/{account}/{login}/authenticate`
    Authenticate,
    /// `PUT /authn/{account}/api_key`
    Rotate,
    /// `POST /authn-jwt/…/authenticate`
    AuthenticateJwt,
    /// `GET /authn-jwt/…/status`
    Status,
    /// `POST /authn-cert/…/authenticate`
    AuthenticateCert,
    /// `GET` or `HEAD /secrets/{account}/variable/{id}`
    Secret,
    /// `POST /secrets/{account}/variable/{id}`
    Write,
    /// `GET /secrets?variable_ids=…`
    Batch,
    /// `POST /secrets/values`
    SaasBatch,
    /// `GET /resources/{account}/{kind}/{id}`
    Resource,
    /// The same with `check=true`
    Check,
    /// `GET /resources/…`, many or their count
    Resources,
    /// `/policies/…`
    Policy,
    /// Everything else.
    Other,
}

/// One request that was read to its end.
#[derive(Clone)]
pub struct Logged {
    /// The number of the endpoint: 0 is the first, then in the order of their making.
    pub endpoint: usize,
    /// The number of the connection, over all endpoints.
    pub connection: u64,
    /// What it asks for.
    pub kind: Kind,
    /// All of it, credentials too.
    pub request: RequestHead,
    /// The status of its answer, once that is computed.
    pub status: Option<u16>,
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged")
            .field("endpoint", &self.endpoint)
            .field("connection", &self.connection)
            .field("kind", &self.kind)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// One TCP connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The endpoint that accepted it.
    pub endpoint: usize,
    /// Its number, as in [`Logged::connection`].
    pub number: u64,
    /// Whether TLS came to an agreement.
    pub established: bool,
    /// Whether TLS went on from an earlier connection.
    pub resumed: bool,
    /// The client's certificate, in DER.
    pub peer_certificate: Option<Vec<u8>>,
    /// Whether it is open still.
    pub open: bool,
}

/// The records, and a way to wait for more of them.
#[derive(Default)]
pub(crate) struct Log {
    records: Mutex<Records>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Records {
    pub(crate) requests: Vec<Logged>,
    /// How many came before those.
    pub(crate) forgotten: usize,
    pub(crate) connections: Vec<Connection>,
}

impl Log {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the records, and wakes everyone that waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Records) -> T) -> T {
        let done = change(&mut self.lock());
        self.changed.notify_all();
        done
    }

    fn wait(&self, limit: Duration, enough: impl Fn(&Records) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit, |records| !enough(records));
        enough(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// The record, of all endpoints that share one state.
impl ConjurDouble {
    /// All requests so far, in the order in which they were read to their end.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        self.shared().log.lock().requests.clone()
    }

    /// How many requests of a kind were read.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let records = self.shared().log.lock();
        records.requests.iter().filter(|it| it.kind == kind).count()
    }

    /// How many requests of a kind this endpoint alone has read.
    #[must_use]
    pub fn count_here(&self, kind: Kind) -> usize {
        let here = self.endpoint().number;
        let records = self.shared().log.lock();
        let asked = |it: &&Logged| it.kind == kind && it.endpoint == here;
        records.requests.iter().filter(asked).count()
    }

    /// Forgets the requests so far; the connections stay.
    pub fn forget_requests(&self) {
        self.shared().log.change(|records| {
            records.forgotten += records.requests.len();
            records.requests.clear();
        });
    }

    /// Waits until at least `count` requests of a kind have been read; `false` when that has not happened within `limit`.
    #[must_use]
    pub fn wait_for(&self, kind: Kind, count: usize, limit: Duration) -> bool {
        self.shared().log.wait(limit, |records| {
            records.requests.iter().filter(|it| it.kind == kind).count() >= count
        })
    }

    /// Waits until at least `count` requests of a kind have an answer, whether or not it was sent by now: an answer that is held or
    /// late is of the moment before this returns. `false` when that has not happened within `limit`.
    #[must_use]
    pub fn wait_for_answers(&self, kind: Kind, count: usize, limit: Duration) -> bool {
        self.shared().log.wait(limit, |records| {
            let answered = |it: &&Logged| it.kind == kind && it.status.is_some();
            records.requests.iter().filter(answered).count() >= count
        })
    }

    /// All connections so far, in the order in which they were accepted.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.shared().log.lock().connections.clone()
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let records = self.shared().log.lock();
        records.connections.iter().filter(|it| it.open).count()
    }

    /// Waits until exactly `count` connections are open; `false` when that has not happened within `limit`.
    #[must_use]
    pub fn wait_for_open_connections(&self, count: usize, limit: Duration) -> bool {
        self.shared().log.wait(limit, |records| {
            records.connections.iter().filter(|it| it.open).count() == count
        })
    }

    /// The certificates that clients have presented, in DER, one for each connection with one.
    #[must_use]
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let records = self.shared().log.lock();
        let certificates = records.connections.iter();
        certificates
            .filter_map(|it| it.peer_certificate.clone())
            .collect()
    }
}
