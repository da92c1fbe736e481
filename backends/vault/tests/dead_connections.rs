//! Connections that a network has dropped without a word: a get finds them dead, and is answered anyway.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::*;
use secret_resolver::{Clock, Resolver};
use secret_resolver_transport::Origin;
use secret_resolver_vault::{VaultBackend, VaultTarget};

/// Hands bytes between its own port and a server's, until the connections so far are dropped silently.
struct Network {
    port: u16,
    dropped: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Network {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let network = Self {
            port: listener.local_addr().unwrap().port(),
            dropped: Arc::default(),
            accepted: Arc::default(),
        };
        let (dropped, accepted) = (Arc::clone(&network.dropped), Arc::clone(&network.accepted));
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (back, there) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), (back, there)] {
                    let dropped = Arc::clone(&dropped);
                    thread::spawn(move || {
                        hand_on(from, to, || number < dropped.load(Ordering::SeqCst))
                    });
                }
            }
        });
        network
    }

    /// From now on nothing of the connections so far arrives, and nothing reports it.
    fn drop_connections(&self) {
        let accepted = self.accepted.load(Ordering::SeqCst);
        self.dropped.store(accepted, Ordering::SeqCst);
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, is_dropped: impl Fn() -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !is_dropped() && to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn kept_connections_that_died_silently_cost_a_get_time_and_no_answer() {
    let fake = Fake::start();
    let network = Network::before(fake.server.port());
    let origin = Origin::parse(&format!("https://127.0.0.1:{}", network.port)).unwrap();
    let target = VaultTarget::new(origin, fake.trust(), role());
    let backend = VaultBackend::builder(target).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        // Two at once, so that two connections are kept.
        let warm = resolver.get_many(&["a", "b", "c", "d"]).await;
        assert!(warm.iter().all(Result::is_ok));
        network.drop_connections();
        let began = resolver.clock().now();
        assert_eq!(text(resolver.get("e").await), "v");
        // One attempt, of half of a fetch's four seconds, finds out; the older ones go with it.
        let took = resolver.clock().now().since(began);
        assert!(took < 3 * SECOND, "{took:?}");
    });
}
