//! What endpoints share, and what each has alone. The state is behind one lock: an answer is computed from one moment of it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use test_servers::TestCa;

use crate::certificates::ClientCa;
use crate::clock::ServerClock;
use crate::fault::Faults;
use crate::jwt::JwtKeys;
use crate::log::Log;
use crate::net::Port;
use crate::state::State;
use crate::switches::{ClientCertificates, Switches};

/// What all endpoints of one server have in common.
pub(crate) struct Shared {
    pub(crate) account: String,
    pub(crate) names: Vec<String>,
    pub(crate) clock: ServerClock,
    pub(crate) log: Log,
    pub(crate) jwt_keys: JwtKeys,
    pub(crate) client_ca: ClientCa,
    /// Other authorities whose client certificates are taken, in DER.
    pub(crate) client_cas: Mutex<Vec<CertificateDer<'static>>>,
    pub(crate) ca: Mutex<TestCa>,
    state: Mutex<State>,
    switches: Mutex<Switches>,
    endpoints: Mutex<usize>,
}

impl Shared {
    pub(crate) fn new(
        options: &crate::Options,
        ca: TestCa,
        client_ca: ClientCa,
        jwt_keys: JwtKeys,
    ) -> Self {
        Self {
            account: options.account.clone(),
            names: options.names.clone(),
            clock: ServerClock::default(),
            log: Log::default(),
            jwt_keys,
            client_ca,
            client_cas: Mutex::default(),
            ca: Mutex::new(ca),
            state: Mutex::default(),
            switches: Mutex::new(Switches::new(options)),
            endpoints: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn switches(&self) -> MutexGuard<'_, Switches> {
        lock(&self.switches)
    }

    pub(crate) fn next_endpoint(&self) -> usize {
        let mut endpoints = lock(&self.endpoints);
        *endpoints += 1;
        *endpoints - 1
    }
}

/// One address of the server.
pub(crate) struct Endpoint {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    /// It refuses to write.
    pub(crate) follower: bool,
    /// What a follower that lags answers from.
    snapshot: Mutex<Option<Box<State>>>,
    faults: Mutex<Faults>,
    pub(crate) tls: Mutex<Arc<ServerConfig>>,
    pub(crate) client_certificates: Mutex<ClientCertificates>,
    pub(crate) port: Mutex<Port>,
    /// Rings when the port is closed, so that nobody sleeps on for a test that is over.
    pub(crate) closed: Condvar,
}

impl Endpoint {
    pub(crate) fn new(
        shared: Arc<Shared>,
        follower: bool,
        tls: ServerConfig,
        client_certificates: ClientCertificates,
    ) -> Self {
        Self {
            number: shared.next_endpoint(),
            shared,
            follower,
            snapshot: Mutex::default(),
            faults: Mutex::default(),
            tls: Mutex::new(Arc::new(tls)),
            client_certificates: Mutex::new(client_certificates),
            port: Mutex::default(),
            closed: Condvar::new(),
        }
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn port(&self) -> MutexGuard<'_, Port> {
        lock(&self.port)
    }

    /// Asks the state, or the snapshot that this endpoint has fallen behind to.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        match &*lock(&self.snapshot) {
            Some(snapshot) => ask(snapshot),
            None => ask(&self.shared.state()),
        }
    }

    pub(crate) fn set_lagging(&self, lagging: bool) {
        let snapshot = lagging.then(|| Box::new(self.shared.state().clone()));
        *lock(&self.snapshot) = snapshot;
    }
}

/// Nothing here is left half-changed by a panic: what can panic runs outside these locks, or only reads.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
