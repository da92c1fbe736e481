//! Connections that are being made when their certificate changes, or before there is one.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::{CertificateSource, ClientCertificate, Origin};
use test_servers::ScriptedHttps;
use tokio::sync::watch;

use crate::certificates::{Demanding, Given};
use crate::support::{PATIENCE, builder, fails, get, real_clock};

/// One that has said nothing yet, until it has a certificate.
#[derive(Clone, Debug)]
struct Starting(Given);

impl CertificateSource for Starting {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.0.subscribe()
    }

    fn is_starting(&self) -> bool {
        self.0.0.borrow().is_err()
    }
}

/// A port before a server's that holds the first connection until its client leaves, and hands on each other.
struct Holding {
    origin: Origin,
    held: std::sync::mpsc::Receiver<()>,
    left: std::sync::mpsc::Receiver<()>,
}

impl Holding {
    fn start(server: &ScriptedHttps) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (holds, held) = channel();
        let (leaves, left) = channel();
        let to = server.port();
        std::thread::spawn(move || {
            let (mut first, _) = listener.accept().unwrap();
            let _ = holds.send(());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut first, &mut std::io::sink());
                let _ = leaves.send(());
            });
            while let Ok((client, _)) = listener.accept() {
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let both = [(&client, &server), (&server, &client)];
                for (from, to) in both.map(|(a, b)| (a.try_clone(), b.try_clone())) {
                    let (mut from, mut to) = (from.unwrap(), to.unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self {
            origin: Origin::parse(&format!("https://127.0.0.1:{port}")).unwrap(),
            held,
            left,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_begun_with_a_certificate_before_the_one_of_now_carries_no_request() {
    for withdrawn in [false, true] {
        let world = Demanding::answering();
        let source = Given::new(&world.issue());
        let holding = Holding::start(&world.server);
        let client = builder(&world.ca, real_clock()).allow(holding.origin.clone());
        let client = client.with_client_certificate(source.clone());
        let client = client.build().unwrap();
        let origin = holding.origin.clone();
        let asked = tokio::spawn(async move { client.send(&origin, get()).await });
        // In its handshake, which the server does not answer.
        holding.held.recv_timeout(PATIENCE).unwrap();
        let next = world.issue();
        match withdrawn {
            true => source.withdraw(),
            false => source.give(&next),
        }
        // It is given up at once.
        holding.left.recv_timeout(PATIENCE / 4).unwrap();
        let answer = asked.await.unwrap();
        if withdrawn {
            fails(answer, ErrorKind::Unauthenticated);
            assert!(world.server.requests().is_empty());
        } else {
            assert_eq!(answer.unwrap().status(), 200);
            assert_eq!(world.last_client(), next.der());
        }
    }
}

#[tokio::test]
async fn certificates_that_change_faster_than_connections_are_made_stop_no_request() {
    let world = Demanding::answering();
    let [one, other] = [(); 2].map(|()| world.issue());
    let source = Given::new(&one);
    let client = world.client(source.clone());
    let changes = tokio::spawn(async move {
        for round in 0..2_000 {
            source.give(if round % 2 == 0 { &other } else { &one });
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    });
    for _ in 0..20 {
        world.get(&client).await;
    }
    changes.abort();
}

#[tokio::test]
async fn the_first_connection_waits_for_the_first_word_of_a_source_within_its_time() {
    let world = Demanding::answering();
    let source = Given::new(&world.issue());
    source.withdraw();
    let client = world.client(Starting(source.clone()));
    let asked = {
        let (client, origin) = (client.clone(), world.origin.clone());
        tokio::spawn(async move { client.send(&origin, get()).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(world.server.connections(), 0);
    let issued = world.issue();
    source.give(&issued);
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    // One that says nothing is waited for no longer than a connection.
    source.withdraw();
    let short = Duration::from_millis(50);
    let client = world.builder(real_clock()).with_connect_timeout(short);
    let client = client.with_client_certificate(Starting(source)).build();
    world
        .fails(&client.unwrap(), ErrorKind::Unauthenticated)
        .await;
}
