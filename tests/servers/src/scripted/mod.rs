//! An HTTPS/1.1 server on loopback that answers every request as the test says, including answers that no honest server gives.
//! It owns the connections and the record of what was asked; the requests' reading and the answers' writing are in `wire.rs`.
//!
//! It never stands in for a real store: what a real one answers is tested against a real one. It uses threads and blocking sockets,
//! so that a test's paused or single-threaded runtime cannot hold it up.

mod wire;

use std::fmt;
use std::io::BufReader;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

pub use self::wire::{ENDLESS_LIMIT, Reply, RequestHead};
use self::wire::{Then, read_request, write_reply};
use crate::{Error, ServerCert, TestCa};

/// A running server. Dropping it closes its port and all of its connections.
///
/// # Example
/// ```
/// use test_servers::{Reply, ScriptedHttps, TestCa, Validity};
/// let ca = TestCa::new(Validity::CURRENT)?;
/// let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT)?;
/// let server = ScriptedHttps::start(&certificate, |request| match request.target.as_str() {
///     "/v1/secret/data/db" => Reply::json(200, r#"{"data":{"data":{"password":"x"}}}"#),
///     _ => Reply::json(404, r#"{"errors":[]}"#),
/// })?;
/// assert!(server.origin().starts_with("https://127.0.0.1:"));
/// assert_eq!(server.requests().len(), 0);
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct ScriptedHttps {
    port: u16,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&RequestHead) -> Reply + Send + Sync;

impl ScriptedHttps {
    /// Starts a server on a free port of 127.0.0.1 that asks `script` for each answer. The script runs on its connection's own
    /// thread; while it blocks, that connection alone waits.
    ///
    /// # Errors
    /// The port cannot be opened, or the certificate is not one that can be served.
    pub fn start(
        certificate: &ServerCert,
        script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::start_with(tls_config(certificate, None)?, script)
    }

    /// As [`ScriptedHttps::start`], and asks each client for a certificate of `clients`; one without it is refused.
    ///
    /// # Errors
    /// As [`ScriptedHttps::start`].
    pub fn start_demanding(
        certificate: &ServerCert,
        clients: &TestCa,
        script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::start_demanding_of(certificate, clients.pem(), script)
    }

    /// As [`ScriptedHttps::start_demanding`], of the authorities in this PEM text.
    ///
    /// # Errors
    /// As there.
    pub fn start_demanding_of(
        certificate: &ServerCert,
        authorities: &str,
        script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::start_with(tls_config(certificate, Some(authorities))?, script)
    }

    fn start_with(
        tls: ServerConfig,
        script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let tls = Arc::new(tls);
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).map_err(Error::during("opening a port"))?;
        let port = listener
            .local_addr()
            .map_err(Error::during("opening a port"))?
            .port();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &tls, &script, &shared)
        });
        Ok(Self { port, shared })
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The port it listens on, on 127.0.0.1 only.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far, in the order in which they were read to their end.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestHead> {
        self.shared.lock().requests.clone()
    }

    /// How many TCP connections were accepted, including those whose TLS handshake failed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many of them are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let state = self.shared.lock();
        state.connections.len() - state.closed
    }

    /// Waits until at least `count` requests have been read; `false` when that has not happened within `limit`.
    #[must_use]
    pub fn wait_for_requests(&self, count: usize, limit: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, limit, |state| state.requests.len() < count);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .requests
            .len()
            >= count
    }

    /// Closes the connections that are open now and keeps serving new ones: what a pooled connection meets after its server restarted.
    pub fn drop_connections(&self) {
        self.shared.lock().close_connections();
    }
}

impl Drop for ScriptedHttps {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        state.close_connections();
        drop(state);
        self.shared.changed.notify_all();
        // The accepting thread sees the flag at its next connection: this one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl fmt::Debug for ScriptedHttps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedHttps")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: Vec<RequestHead>,
    connections: Vec<TcpStream>,
    /// How many of the connections have ended.
    closed: usize,
    stopped: bool,
}

impl Shared {
    /// A script that panicked leaves nothing half-changed here: it never runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `pause`, or until the server is dropped: then `false`.
    fn pause(&self, pause: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), pause, |state| !state.stopped);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }
}

impl State {
    fn close_connections(&self) {
        for connection in &self.connections {
            // It fails when the peer has closed it before.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn tls_config(certificate: &ServerCert, clients: Option<&str>) -> Result<ServerConfig, Error> {
    // Named rather than taken from the process default, which only the code under test may use or ignore.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let demands = match clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
                let authority = authority.map_err(Error::during("reading the clients' CA"))?;
                roots
                    .add(authority)
                    .map_err(Error::during("taking the clients' CA"))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(Error::during("demanding client certificates"))?
        }
    };
    let key = provider.key_provider.load_private_key(certificate.key());
    let key = key.map_err(Error::during("reading a server's key"))?;
    // Nothing here checks that the two belong together: a test may want that they do not.
    let both = CertifiedKey::new(certificate.chain(), key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::during("choosing TLS versions"))?
        .with_client_cert_verifier(demands)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(both)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn accept(
    listener: &TcpListener,
    tls: &Arc<ServerConfig>,
    script: &Arc<Script>,
    shared: &Arc<Shared>,
) {
    for stream in listener.incoming() {
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        // A connection that was lost before it could be accepted does not count.
        let Ok(stream) = stream else { continue };
        let Ok(kept) = stream.try_clone() else {
            continue;
        };
        state.connections.push(kept);
        drop(state);
        let (tls, script, shared) = (Arc::clone(tls), Arc::clone(script), Arc::clone(shared));
        std::thread::spawn(move || serve(&stream, tls, &*script, &shared));
    }
}

fn serve(stream: &TcpStream, tls: Arc<ServerConfig>, script: &Script, shared: &Shared) {
    // Every way in which a connection can fail is the peer's leaving; the test sees its side of it.
    let _ = stream.set_nodelay(true);
    let _ = converse(stream, tls, script, shared);
    // The state keeps a handle on this socket, so that only this closes it.
    let _ = stream.shutdown(Shutdown::Both);
    shared.lock().closed += 1;
    shared.changed.notify_all();
}

fn converse(
    stream: &TcpStream,
    tls: Arc<ServerConfig>,
    script: &Script,
    shared: &Shared,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut peer = BufReader::new(StreamOwned::new(connection, stream.try_clone()?));
    while let Some(mut request) = read_request(&mut peer)? {
        let shown = peer.get_ref().conn.peer_certificates();
        request.client = shown.and_then(|chain| Some(chain.first()?.to_vec()));
        shared.lock().requests.push(request.clone());
        shared.changed.notify_all();
        let asked_to_close = request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        match write_reply(script(&request), &mut peer, &|pause| shared.pause(pause))? {
            Then::Continue if !asked_to_close => {}
            Then::Continue | Then::Close => {
                // A clean end of TLS: what is missing from the answer is then the answer's fault alone.
                peer.get_mut().conn.send_close_notify();
                return peer.get_mut().conn.complete_io(&mut &*stream).map(drop);
            }
            Then::Abort => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
