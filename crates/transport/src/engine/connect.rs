//! From an origin to an open, verified connection: name resolution, TCP, TLS.
//!
//! There is no proxy here and no way to name one.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::header::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secret_resolver::backend::first;
use secret_resolver::{Clock, Error, ErrorKind, Moment};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;

use crate::engine::Connection;
use crate::error::{misconfigured, of_connect, unavailable};
use crate::identity::Stamp;
use crate::origin::Origin;

/// How TLS is spoken on a connection, and what that is made of.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) stamp: Stamp,
}

/// An allowed origin and what is derived from it once.
pub(crate) struct Target {
    pub(crate) host_header: HeaderValue,
    server_name: ServerName<'static>,
    /// A permit for each connection that is used as a rule, and for each further one.
    places: Semaphore,
    further: Semaphore,
    /// How many requests wait for one of the first.
    waiting: AtomicUsize,
    /// The address of the last connection.
    good: Mutex<Option<SocketAddr>>,
}

/// How long a request waits for one of the connections that are used as a rule.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many connections may be open for each that is used as a rule: enough that the limits on requests above,
/// one for each prefix that has its own, are what bounds them. Requests of one that hang keep out no other.
const FURTHER: usize = 64;

/// How long an address is tried alone before the next is tried beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

impl Target {
    /// A place with this many connections at a time as a rule.
    pub(crate) fn new(origin: &Origin, connections: usize) -> Result<Self, Error> {
        let unusable = || {
            misconfigured("an origin's host can stand in no certificate")
                .with_detail(origin.to_string())
        };
        Ok(Self {
            host_header: HeaderValue::try_from(origin.authority()).map_err(|_| unusable())?,
            server_name: ServerName::try_from(origin.host().to_owned()).map_err(|_| unusable())?,
            places: Semaphore::new(connections),
            further: Semaphore::new(connections * (FURTHER - 1)),
            waiting: AtomicUsize::new(0),
            good: Mutex::new(None),
        })
    }

    /// A place among the connections; first come, first served.
    ///
    /// A store that is near has its answers long before a quarter of a second, so a few connections serve a
    /// burst. Where they are all in use for longer, the store is far away, or slow, or some requests hang:
    /// then further ones are opened, so that the waiters are not held up by those before them. A connection that is
    /// `kept` meanwhile is taken at once.
    pub(crate) async fn place(
        &self,
        deadline: Moment,
        clock: &dyn Clock,
        kept: impl Future<Output = Option<Connection>>,
    ) -> Result<(SemaphorePermit<'_>, Option<Connection>), Error> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok((place, None));
        }
        // What is kept while others wait is theirs: without it they would open another.
        if self.waiting.load(Ordering::Acquire) == 0
            && let Ok(place) = self.further.try_acquire()
            && let Some(connection) = kept.await
        {
            return Ok((place, Some(connection)));
        }
        let soon = deadline.min(clock.now() + PATIENCE);
        let place = async { self.places.acquire().await.ok() };
        let waits = Waits::new(&self.waiting);
        if let Some(place) = first(place, clock.sleep_until(soon)).await.flatten() {
            return Ok((place, None));
        }
        drop(waits);
        let place = async { self.further.acquire().await.ok() };
        let place = first(place, clock.sleep_until(deadline)).await.flatten();
        place.map(|place| (place, None)).ok_or_else(|| {
            let what = "all connections to the origin were in use for too long; ask less at once, or allow more connections";
            Error::new(ErrorKind::Overloaded, what).held_back()
        })
    }

    /// How many of the places that are used as a rule are free.
    pub(crate) fn free_places(&self) -> usize {
        self.places.available_permits()
    }
}

/// A request that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
    tls: &Tls,
    deadline: Moment,
    clock: &dyn Clock,
) -> Result<Connection, Error> {
    let open = async { target.any_of(resolve(origin).await?, tls, clock).await };
    let late = || Err(unavailable("connect failed: no TLS connection in time"));
    first(open, clock.sleep_until(deadline))
        .await
        .unwrap_or_else(late)
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

impl Target {
    /// A verified connection to the first of these addresses that gives one (RFC 8305): each next address
    /// is tried when the one before has failed, or has taken a quarter of a second, TLS included. So one
    /// that swallows packets, or accepts and says nothing, holds up no other.
    async fn any_of(
        &self,
        addresses: Vec<SocketAddr>,
        tls: &Tls,
        clock: &dyn Clock,
    ) -> Result<Connection, Error> {
        let mut waiting = self.in_order(addresses).into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut failed = None;
        loop {
            match waiting.next() {
                Some(address) => {
                    attempts.push(async move { (address, self.open(address, tls).await) });
                }
                None if attempts.is_empty() => {
                    let nowhere = || unavailable("connect failed: the host name has no address");
                    return Err(failed.unwrap_or_else(nowhere));
                }
                None => {}
            }
            let next = attempts.next();
            let ended = match waiting.as_slice() {
                [] => next.await,
                _ => first(next, clock.sleep_until(clock.now() + HEAD_START))
                    .await
                    .flatten(),
            };
            match ended {
                Some((address, Ok(connection))) => {
                    *self.good() = Some(address);
                    return Ok(connection);
                }
                // A wrong certificate is reported rather than an address that is away.
                Some((_, Err(error))) if failed.is_none() || error.kind() == ErrorKind::Refused => {
                    failed = Some(error);
                }
                _ => {}
            }
        }
    }

    async fn open(&self, address: SocketAddr, tls: &Tls) -> Result<Connection, Error> {
        let of_connect = |error| of_connect(&error);
        let stream = TcpStream::connect(address).await.map_err(of_connect)?;
        // Small requests, each of which waits for its answer: nothing to gather.
        stream.set_nodelay(true).map_err(of_connect)?;
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let stream = connector.connect(self.server_name.clone(), stream).await;
        Connection::open(stream.map_err(of_connect)?, tls.stamp).await
    }

    /// The address that was good the last time first, then the two families in turn.
    fn in_order(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let good = *self.good();
        let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (like, unlike): (Vec<_>, Vec<_>) = addresses
            .into_iter()
            .partition(|one| one.is_ipv6() == first);
        let mut order = Vec::with_capacity(like.len() + unlike.len());
        let mut unlike = unlike.into_iter();
        for address in like {
            order.push(address);
            order.extend(unlike.next());
        }
        order.extend(unlike);
        // Stable: the others keep their order.
        order.sort_by_key(|address| good != Some(*address));
        order
    }

    fn good(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use secret_resolver::backend::SystemClock;
    use test_servers::{Reply, ScriptedHttps, TestCa, Validity};

    use super::*;
    use crate::{Trust, tls};

    /// A listener that accepts, in its backlog, and says nothing.
    fn silent() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn closed() -> SocketAddr {
        silent().1
    }

    #[tokio::test]
    async fn an_address_that_is_away_silent_or_false_holds_up_no_other() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
        let good = ScriptedHttps::start(&certificate, |_| Reply::status(200)).unwrap();
        let other = TestCa::new(Validity::CURRENT).unwrap();
        let certificate = other.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
        let wrong = ScriptedHttps::start(&certificate, |_| Reply::status(200)).unwrap();
        let at = |server: &ScriptedHttps| SocketAddr::from(([127, 0, 0, 1], server.port()));
        let config = Tls {
            config: Arc::new(tls::config(Trust::from_pem(ca.pem().as_bytes()).unwrap()).unwrap()),
            stamp: Stamp::default(),
        };
        let origin = Origin::parse(&good.origin()).unwrap();
        let clock = SystemClock::shared().unwrap();
        let (_listener, silent) = silent();
        for bad in [
            vec![silent],
            vec![closed()],
            vec![at(&wrong)],
            vec![silent, closed(), at(&wrong), silent],
        ] {
            let target = Target::new(&origin, 8).unwrap();
            let addresses = [bad.clone(), vec![at(&good)]].concat();
            let begun = clock.now();
            target
                .any_of(addresses.clone(), &config, &clock)
                .await
                .unwrap();
            assert!(clock.now().since(begun) < HEAD_START * 5, "{bad:?}");
            // From then on it is the first.
            assert_eq!(target.in_order(addresses)[0], at(&good));
            let refused = target
                .any_of(vec![closed(), at(&wrong), closed()], &config, &clock)
                .await;
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::Refused);
        }
        let target = Target::new(&origin, 8).unwrap();
        let nowhere = target.any_of(Vec::new(), &config, &clock).await;
        assert_eq!(nowhere.err().unwrap().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_families_take_turns() {
        let target = Target::new(&Origin::parse("https://localhost:1").unwrap(), 8).unwrap();
        let six = |last: u16| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 1));
        let four = |last: u8| SocketAddr::from(([127, 0, 0, last], 1));
        let order = target.in_order(vec![six(1), six(2), six(3), four(1), four(2)]);
        assert_eq!(order, [six(1), four(1), six(2), four(2), six(3)]);
        *target.good() = Some(four(2));
        let order = target.in_order(vec![six(1), four(1), four(2)]);
        assert_eq!(order, [four(2), six(1), four(1)]);
    }
}
