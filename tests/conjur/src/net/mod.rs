//! The network side: the port, the connections, TLS. It turns bytes into requests and answers into bytes; `routes` decides what is
//! answered, and `fault` what goes wrong on the way.

mod converse;
mod http;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use test_servers::Validity;

use self::converse::serve;
use crate::endpoint::{Endpoint, Shared, lock};
use crate::log::Connection;
use crate::{ClientCertificates, Error};

/// A port and the connections that it has accepted.
#[derive(Default)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Counts up when the port is opened and when it is closed: odd while it is open.
    opening: u64,
    streams: Vec<(u64, TcpStream)>,
    accepting: Option<JoinHandle<()>>,
}

impl Port {
    fn is_open(&self) -> bool {
        self.opening % 2 == 1
    }

    pub(crate) fn close_connections(&self) {
        for (_, stream) in &self.streams {
            // It fails when the peer has closed it before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Opens the port, any free one for 0, and accepts connections from now on. Where it is open already it stays so.
pub(crate) fn listen(endpoint: &Arc<Endpoint>, number: u16) -> Result<(), Error> {
    let mut port = endpoint.port();
    if port.is_open() {
        return Ok(());
    }
    let listener =
        TcpListener::bind(("127.0.0.1", number)).map_err(Error::during("opening a port"))?;
    let address = listener.local_addr();
    port.number = address.map_err(Error::during("opening a port"))?.port();
    port.opening += 1;
    let opening = port.opening;
    let accepting = {
        let endpoint = Arc::clone(endpoint);
        std::thread::spawn(move || accept(&listener, &endpoint, opening))
    };
    port.accepting = Some(accepting);
    Ok(())
}

/// Closes the port and its connections, and returns when the port is free.
pub(crate) fn close(endpoint: &Endpoint) {
    let mut port = endpoint.port();
    if !port.is_open() {
        return;
    }
    port.opening += 1;
    port.close_connections();
    let (number, accepting) = (port.number, port.accepting.take());
    drop(port);
    endpoint.closed.notify_all();
    // The accepting thread sees that it is over at its next connection: this one.
    let _ = TcpStream::connect(("127.0.0.1", number));
    if let Some(accepting) = accepting {
        // It ends in a panic only if this crate has a mistake, which it has reported by then.
        let _ = accepting.join();
    }
}

/// Sleeps, or until the port is closed: then `false`.
pub(crate) fn pause(endpoint: &Endpoint, opening: u64, time: Duration) -> bool {
    let waited = endpoint
        .closed
        .wait_timeout_while(endpoint.port(), time, |port| port.opening == opening);
    let (port, _) = waited.unwrap_or_else(PoisonError::into_inner);
    port.opening == opening
}

fn accept(listener: &TcpListener, endpoint: &Arc<Endpoint>, opening: u64) {
    for stream in listener.incoming() {
        let mut port = endpoint.port();
        if port.opening != opening {
            return;
        }
        // A connection that was lost before it could be accepted was never one.
        let Ok(stream) = stream else { continue };
        let Ok(kept) = stream.try_clone() else {
            continue;
        };
        // Decided before it is recorded, as the faults of requests are.
        let swallowed = endpoint.faults().black_hole;
        let number = endpoint.shared.log.change(|records| {
            let number = records.connections.len() as u64;
            records.connections.push(Connection {
                endpoint: endpoint.number,
                number,
                established: false,
                resumed: false,
                peer_certificate: None,
                open: true,
            });
            number
        });
        port.streams.push((number, kept));
        drop(port);
        let endpoint = Arc::clone(endpoint);
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            // Every way in which a connection can fail is the peer's leaving; the test sees its side of it.
            let _ = serve(&endpoint, &stream, number, opening, swallowed);
            // The list has a handle on this socket, so that only this closes it.
            let _ = stream.shutdown(Shutdown::Both);
            endpoint.port().streams.retain(|(kept, _)| *kept != number);
            change_connection(&endpoint.shared, number, |connection| {
                connection.open = false;
            });
        });
    }
}

fn change_connection(shared: &Shared, number: u64, change: impl FnOnce(&mut Connection)) {
    shared.log.change(|records| {
        let found = records
            .connections
            .iter_mut()
            .find(|it| it.number == number);
        found.map(change);
    });
}

/// TLS with a new certificate of the server's authority.
pub(crate) fn tls_config(
    shared: &Shared,
    client_certificates: ClientCertificates,
) -> Result<ServerConfig, Error> {
    let names: Vec<_> = shared.names.iter().map(String::as_str).collect();
    let issued = lock(&shared.ca)
        .issue(&names, Validity::CURRENT)
        .map_err(Error::during("making the server's certificate"))?;
    let chain = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes());
    let chain = vec![chain.map_err(Error::during("reading the server's certificate"))?];
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())
        .map_err(Error::during("reading the server's key"))?;
    // Named rather than taken from the process default, which is the code under test's to leave alone.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::during("choosing TLS versions"))?;
    let builder = if client_certificates == ClientCertificates::Off {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from(shared.client_ca.der());
        for authority in lock(&shared.client_cas).iter().chain([&own]) {
            roots
                .add(authority.clone())
                .map_err(Error::during("trusting the client authority"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let verifier = match client_certificates {
            ClientCertificates::Optional => verifier.allow_unauthenticated(),
            _ => verifier,
        };
        let verifier = verifier.build();
        builder.with_client_cert_verifier(
            verifier.map_err(Error::during("trusting the client authority"))?,
        )
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(Error::during("serving a certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
