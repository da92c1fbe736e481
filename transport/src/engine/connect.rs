//! From an origin to an open, verified connection: name resolution, TCP, TLS.
//!
//! There is no proxy here and no way to name one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secret_resolver::{Clock, Error, Moment};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::engine::Connection;
use crate::error::{misconfigured, of_connect, unavailable};
use crate::origin::Origin;
use crate::race::before;

/// An allowed origin and what is derived from it once.
pub(crate) struct Target {
    pub(crate) host_header: HeaderValue,
    server_name: ServerName<'static>,
}

impl Target {
    pub(crate) fn new(origin: &Origin) -> Result<Self, Error> {
        let unusable = || {
            misconfigured("an origin's host can stand in no certificate")
                .with_detail(origin.to_string())
        };
        Ok(Self {
            host_header: HeaderValue::try_from(origin.authority()).map_err(|_| unusable())?,
            server_name: ServerName::try_from(origin.host().to_owned()).map_err(|_| unusable())?,
        })
    }
}

/// Opens a connection before `deadline`.
///
/// # Cancel safety
/// Dropping it closes what was opened. A name resolution that has begun runs to its end on a
/// thread of the runtime: the system's resolver cannot be interrupted.
pub(crate) async fn connect(
    origin: &Origin,
    target: &Target,
    tls: &Arc<ClientConfig>,
    deadline: Moment,
    clock: &dyn Clock,
) -> Result<Connection, Error> {
    let open = async {
        let stream = dial(&resolve(origin).await?, deadline, clock).await?;
        // Small requests, each of which waits for its answer: nothing to gather.
        stream
            .set_nodelay(true)
            .map_err(|error| of_connect(&error))?;
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(target.server_name.clone(), stream)
            .await
            .map_err(|error| of_connect(&error))?;
        Connection::open(stream).await
    };
    let late = || Err(unavailable("connect failed: no TLS connection in time"));
    before(deadline, clock, open).await.unwrap_or_else(late)
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = origin.host().parse::<IpAddr>() {
        return Ok(vec![(address, origin.port()).into()]);
    }
    match lookup_host((origin.host(), origin.port())).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(_) => Err(unavailable(
            "connect failed: the host name cannot be resolved",
        )),
    }
}

/// Tries one address after the other, each for its share of the time that is left, so that one
/// that swallows packets leaves some for the next.
async fn dial(
    addresses: &[SocketAddr],
    deadline: Moment,
    clock: &dyn Clock,
) -> Result<TcpStream, Error> {
    let mut last = unavailable("connect failed: the host name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let now = clock.now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.since(now) / left;
        last = match before(now + share, clock, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => of_connect(&error),
            None => unavailable("connect failed: no answer from the host"),
        };
    }
    Err(last)
}
