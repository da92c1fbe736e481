//! The certificate that the client shows: on which connections, from when, and what becomes of the others.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind};
use secret_resolver_transport::{
    CertificateFiles, CertificateSource, Client, ClientBuilder, ClientCertificate, Method, Origin,
    Trust,
};
use test_servers::{Reply, RequestHead, ScriptedHttps, ServerCert, TestCa, Validity};
use tokio::sync::watch;

use crate::support::{PATIENCE, builder, fails, get, real_clock, request};

/// A server that takes the clients of one authority alone.
pub(crate) struct Demanding {
    pub(crate) ca: TestCa,
    pub(crate) clients: TestCa,
    pub(crate) server: ScriptedHttps,
    pub(crate) origin: Origin,
}

impl Demanding {
    pub(crate) fn new(script: impl Fn(&RequestHead) -> Reply + Send + Sync + 'static) -> Self {
        let [ca, clients] = [(); 2].map(|()| TestCa::new(Validity::CURRENT).unwrap());
        let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
        let server = ScriptedHttps::start_demanding(&certificate, &clients, script).unwrap();
        let origin = Origin::parse(&server.origin()).unwrap();
        Self {
            ca,
            clients,
            server,
            origin,
        }
    }

    pub(crate) fn answering() -> Self {
        Self::new(|_| Reply::json(200, "{}"))
    }

    pub(crate) fn builder(&self, clock: Arc<dyn Clock>) -> ClientBuilder {
        builder(&self.ca, clock).allow(self.origin.clone())
    }

    pub(crate) fn client(&self, source: impl CertificateSource) -> Client {
        let builder = self.builder(real_clock()).with_client_certificate(source);
        builder.build().unwrap()
    }

    pub(crate) fn issue(&self) -> ServerCert {
        let issued = self.clients.issue_client("client", Validity::CURRENT);
        issued.unwrap()
    }

    pub(crate) async fn get(&self, client: &Client) {
        assert_eq!(
            client.send(&self.origin, get()).await.unwrap().status(),
            200
        );
    }

    pub(crate) async fn fails(&self, client: &Client, kind: ErrorKind) -> Error {
        fails(client.send(&self.origin, get()).await, kind)
    }

    /// Who has sent the last request.
    pub(crate) fn last_client(&self) -> Vec<u8> {
        let requests = self.server.requests();
        requests.last().unwrap().client.clone().unwrap()
    }

    /// Waits for the end of every connection, and asks for nothing meanwhile.
    pub(crate) async fn closes_all(&self) -> bool {
        for _ in 0..2000 {
            if self.server.open_connections() == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

/// A source that a test steers.
#[derive(Clone, Debug)]
pub(crate) struct Given(pub(crate) Arc<watch::Sender<Result<ClientCertificate, Error>>>);

impl Given {
    pub(crate) fn new(issued: &ServerCert) -> Self {
        Self(Arc::new(watch::Sender::new(Ok(parsed(issued)))))
    }

    pub(crate) fn give(&self, issued: &ServerCert) {
        let _ = self.0.send_replace(Ok(parsed(issued)));
    }

    pub(crate) fn withdraw(&self) {
        let none = Error::new(ErrorKind::Unauthenticated, "withdrawn by its test");
        let _ = self.0.send_replace(Err(none.held_back()));
    }
}

impl CertificateSource for Given {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.0.subscribe()
    }
}

fn parsed(issued: &ServerCert) -> ClientCertificate {
    let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
    ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
}

fn write_certificate(folder: &Path, issued: &ServerCert) {
    std::fs::write(folder.join("tls.crt"), &issued.certificate_pem).unwrap();
}

fn write_key(folder: &Path, issued: &ServerCert) {
    std::fs::write(folder.join("tls.key"), &issued.key_pem).unwrap();
}

fn files(folder: &Path, issued: &ServerCert) -> CertificateFiles {
    write_certificate(folder, issued);
    write_key(folder, issued);
    CertificateFiles::new(folder.join("tls.crt"), folder.join("tls.key")).unwrap()
}

#[tokio::test]
async fn the_client_certificate_is_shown_on_every_connection() {
    let world = Demanding::answering();
    let issued = world.issue();
    let client = world.client(Given::new(&issued));
    for _ in 0..3 {
        // A login has a connection of its own.
        let login = client.send(&world.origin, request(Method::Post)).await;
        assert_eq!(login.unwrap().status(), 200);
        world.get(&client).await;
    }
    let requests = world.server.requests();
    assert_eq!(requests.len(), 6);
    for request in requests {
        assert_eq!(request.client.as_deref(), Some(issued.der()));
    }
}

#[tokio::test]
async fn a_source_of_certificates_that_cannot_reach_its_agent_is_no_outage_of_the_server() {
    let world = Demanding::answering();
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        let source = Given::new(&world.issue());
        let _ = source.0.send_replace(Err(Error::new(kind, "away")));
        let client = world.client(source);
        let error = client.send(&world.origin, get()).await;
        let error = fails(error, ErrorKind::Unauthenticated);
        assert!(error.is_held_back(), "{error}");
        assert!(error.to_string().contains("source of the credential"));
    }
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn another_client_certificate_closes_idle_connections_at_once() {
    let world = Demanding::answering();
    let (old, new) = (world.issue(), world.issue());
    let source = Given::new(&old);
    let client = world.client(source.clone());
    for _ in 0..20 {
        world.get(&client).await;
        assert_eq!(world.server.open_connections(), 1);
        assert_eq!(world.last_client(), old.der());
        // The same once more is no change.
        source.give(&old);
        world.get(&client).await;
        let (connections, number) = (world.server.connections(), client.certificate());
        source.give(&new);
        // No request asks for it.
        assert!(world.closes_all().await);
        assert_eq!(client.certificate(), number + 1);
        world.get(&client).await;
        assert_eq!(world.last_client(), new.der());
        assert_eq!(world.server.connections(), connections + 1);
        source.give(&old);
        assert!(world.closes_all().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_connection_ends_its_request_before_its_old_certificate_closes_it() {
    let held = Arc::new(Barrier::new(2));
    let script = Arc::clone(&held);
    let world = Demanding::new(move |_| {
        script.wait();
        script.wait();
        Reply::json(200, "{}")
    });
    let (old, new) = (world.issue(), world.issue());
    let source = Given::new(&old);
    let client = world.client(source.clone());
    let sending = tokio::spawn({
        let (client, origin) = (client.clone(), world.origin.clone());
        async move { client.send(&origin, get()).await }
    });
    held.wait();
    source.give(&new);
    assert_eq!(client.certificate(), 2);
    assert_eq!(world.server.open_connections(), 1);
    held.wait();
    assert_eq!(sending.await.unwrap().unwrap().status(), 200);
    assert!(world.closes_all().await);
}

#[tokio::test]
async fn without_a_client_certificate_no_connection_is_made() {
    let world = Demanding::answering();
    let issued = world.issue();
    let source = Given::new(&issued);
    source.withdraw();
    let client = world.client(source.clone());
    let error = world.fails(&client, ErrorKind::Unauthenticated).await;
    assert!(error.to_string().contains("withdrawn"), "{error}");
    assert_eq!(world.server.connections(), 0);
    source.give(&issued);
    world.get(&client).await;
    // And what was made before is not used any more.
    source.withdraw();
    world.fails(&client, ErrorKind::Unauthenticated).await;
    assert!(world.closes_all().await);
    assert_eq!(world.server.requests().len(), 1);
}

#[tokio::test]
async fn a_client_certificate_that_ends_while_the_process_runs_is_not_shown() {
    let world = Demanding::answering();
    let short = world
        .clients
        .issue_client_for("short", Duration::from_secs(6));
    let client = world.client(Given::new(&short.unwrap()));
    let mut error = None;
    // Each request is a login: it has a connection of its own.
    for _ in 0..600 {
        let login = client.send(&world.origin, request(Method::Post)).await;
        if let Err(refused) = login {
            error = Some(refused);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let shown = error.to_string();
    assert!(
        shown.contains("the client certificate is expired"),
        "{shown}"
    );
    let connections = world.server.connections();
    world.fails(&client, ErrorKind::Unauthenticated).await;
    assert_eq!(world.server.connections(), connections);
}

#[tokio::test]
async fn a_server_that_refuses_the_client_is_told_as_a_refused_identity() {
    let world = Demanding::answering();
    let none = world.builder(real_clock()).build().unwrap();
    let error = world.fails(&none, ErrorKind::Unauthenticated).await;
    let shown = error.to_string();
    assert!(shown.contains("with_client_certificate"), "{shown}");
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let wrong = other.issue_client("client", Validity::CURRENT).unwrap();
    let client = world.client(Given::new(&wrong));
    let error = world.fails(&client, ErrorKind::Unauthenticated).await;
    assert!(error.to_string().contains("client certificate"), "{error}");
    assert_eq!(world.server.requests().len(), 0);
}

#[tokio::test]
async fn a_new_pair_of_files_is_shown_without_a_restart() {
    let world = Demanding::answering();
    let (old, new) = (world.issue(), world.issue());
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::strict();
    let client = world
        .builder(Arc::new(clock.clone()))
        .with_client_certificate(files(folder.path(), &old))
        .build()
        .unwrap();
    world.get(&client).await;
    write_certificate(folder.path(), &new);
    write_key(folder.path(), &new);
    // Not at each request.
    world.get(&client).await;
    client.look_again().await;
    assert_eq!(
        (world.last_client().as_slice(), client.certificate()),
        (old.der(), 1)
    );
    clock.advance(Duration::from_secs(10));
    client.look_again().await;
    assert_eq!(client.certificate(), 2);
    assert!(world.closes_all().await);
    world.get(&client).await;
    assert_eq!(world.last_client(), new.der());
}

#[tokio::test]
async fn a_request_on_a_kept_connection_sees_to_it_that_the_files_are_read_again() {
    let world = Demanding::answering();
    let (old, new) = (world.issue(), world.issue());
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::strict();
    let client = world
        .builder(Arc::new(clock.clone()))
        .with_client_certificate(files(folder.path(), &old))
        .build()
        .unwrap();
    world.get(&client).await;
    write_certificate(folder.path(), &new);
    write_key(folder.path(), &new);
    clock.advance(Duration::from_secs(10));
    // It does not wait for the files: it may still go the old way.
    world.get(&client).await;
    for _ in 0..2000 {
        if client.certificate() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.certificate(), 2);
    world.get(&client).await;
    assert_eq!(world.last_client(), new.der());
    assert_eq!(world.server.connections(), 2);
}

#[tokio::test]
async fn half_of_a_new_pair_changes_nothing_until_the_other_half_is_there() {
    let world = Demanding::answering();
    let (old, new) = (world.issue(), world.issue());
    for certificate_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::strict();
        let client = world
            .builder(Arc::new(clock.clone()))
            .with_client_certificate(files(folder.path(), &old))
            .build()
            .unwrap();
        let login = async || {
            let login = client.send(&world.origin, request(Method::Post)).await;
            assert_eq!(login.unwrap().status(), 200);
            world.last_client()
        };
        assert_eq!(login().await, old.der());
        let halves = [write_certificate, write_key];
        let [first, second] = match certificate_first {
            true => halves,
            false => [halves[1], halves[0]],
        };
        first(folder.path(), &new);
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            (login().await.as_slice(), client.certificate()),
            (old.der(), 1)
        );
        second(folder.path(), &new);
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            (login().await.as_slice(), client.certificate()),
            (new.der(), 2)
        );
        // What is missing is no pair, either.
        std::fs::remove_file(folder.path().join("tls.key")).unwrap();
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            (login().await.as_slice(), client.certificate()),
            (new.der(), 2)
        );
    }
}

#[tokio::test]
async fn a_certificate_that_a_server_refuses_is_looked_at_again_at_once() {
    let world = Demanding::answering();
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let wrong = other.issue_client("client", Validity::CURRENT).unwrap();
    let right = world.issue();
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::strict();
    let client = world
        .builder(Arc::new(clock.clone()))
        .with_client_certificate(files(folder.path(), &wrong))
        .build()
        .unwrap();
    world.fails(&client, ErrorKind::Unauthenticated).await;
    write_certificate(folder.path(), &right);
    write_key(folder.path(), &right);
    clock.advance(Duration::from_secs(1));
    world.get(&client).await;
    assert_eq!(world.last_client(), right.der());
}

#[tokio::test]
async fn a_request_for_another_client_certificate_is_not_sent() {
    let world = Demanding::answering();
    let (old, new) = (world.issue(), world.issue());
    let source = Given::new(&old);
    let client = world.client(source.clone());
    world.get(&client).await;
    let number = client.certificate();
    let send = async |method| {
        let request = request(method).with_certificate(number);
        client.send(&world.origin, request).await
    };
    assert_eq!(send(Method::Post).await.unwrap().status(), 200);
    assert_eq!(send(Method::Get).await.unwrap().status(), 200);
    source.give(&new);
    world.get(&client).await;
    let requests = world.server.requests().len();
    for method in [Method::Post, Method::Get] {
        fails(send(method).await, ErrorKind::Refused);
    }
    assert_eq!(world.server.requests().len(), requests);
}

#[tokio::test]
async fn other_authorities_close_the_connections_that_were_made_with_those_before() {
    let world = Demanding::answering();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, world.ca.pem()).unwrap();
    let clock = ManualClock::strict();
    let client = Client::builder(Trust::from_file(&path).unwrap(), Arc::new(clock.clone()))
        .allow(world.origin.clone())
        .with_client_certificate(Given::new(&world.issue()))
        .with_response_timeout(PATIENCE)
        .build()
        .unwrap();
    world.get(&client).await;
    let other = TestCa::new(Validity::CURRENT).unwrap();
    std::fs::write(&path, format!("{}{}", world.ca.pem(), other.pem())).unwrap();
    // As often as it is used, it is not kept for 30 s unused.
    for _ in 0..2 {
        clock.advance(Duration::from_secs(20));
        world.get(&client).await;
        assert_eq!(world.server.connections(), 1);
    }
    clock.advance(Duration::from_secs(20));
    // It does not wait for the file: it may go the old way or the new one.
    world.get(&client).await;
    if world.server.connections() == 1 {
        assert!(world.closes_all().await);
        world.get(&client).await;
    }
    assert_eq!(world.server.connections(), 2);
    // An authority that is gone is not believed any longer than that, either.
    std::fs::write(&path, other.pem()).unwrap();
    clock.advance(Duration::from_secs(60));
    client.look_again().await;
    world.fails(&client, ErrorKind::Refused).await;
}
