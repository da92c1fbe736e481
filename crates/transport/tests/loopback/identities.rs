//! Servers that are known by an identity in their certificate: by whose authorities, and what becomes of connections when they change.

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::{Authorities, Client, Origin, ServerIdentity, Trust};
use test_servers::{Reply, ScriptedHttps, ServerCert, TestCa, Validity};
use tokio::sync::watch;

use crate::support::{fails, get, real_clock};

type Told = Arc<watch::Sender<Result<Authorities, Error>>>;

/// The server that has this certificate; where it is empty, the look at one panics.
#[derive(Debug)]
struct OneServer {
    told: Told,
    certificate: Vec<u8>,
}

impl ServerIdentity for OneServer {
    fn subscribe(&self) -> watch::Receiver<Result<Authorities, Error>> {
        self.told.subscribe()
    }

    fn name(&self) -> String {
        "mesh/store".to_owned()
    }

    fn is_in(&self, certificate: &[u8]) -> bool {
        assert!(!self.certificate.is_empty(), "of the test's own making");
        certificate == self.certificate
    }
}

fn authorities(ca: &TestCa) -> Authorities {
    Authorities::from_der([ca.der().to_vec()]).unwrap()
}

struct World {
    ca: TestCa,
    server: ScriptedHttps,
    origin: Origin,
    certificate: ServerCert,
}

impl World {
    /// A server whose certificate is for another host.
    fn new(validity: Validity) -> Self {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let certificate = ca.issue(&["elsewhere.example"], validity).unwrap();
        let server = ScriptedHttps::start(&certificate, |_| Reply::json(200, "{}")).unwrap();
        let origin = Origin::parse(&server.origin()).unwrap();
        Self {
            ca,
            server,
            origin,
            certificate,
        }
    }

    fn client(
        &self,
        first: Result<Authorities, Error>,
        certificate: &ServerCert,
    ) -> (Client, Told) {
        self.client_of(first, certificate.der())
    }

    fn client_of(&self, first: Result<Authorities, Error>, certificate: &[u8]) -> (Client, Told) {
        let told = Told::new(watch::Sender::new(first));
        let trust = Trust::of_identity(OneServer {
            told: Arc::clone(&told),
            certificate: certificate.to_vec(),
        });
        let client = Client::builder(trust, real_clock());
        (client.allow(self.origin.clone()).build().unwrap(), told)
    }

    async fn get(&self, client: &Client) {
        let response = client.send(&self.origin, get()).await;
        assert_eq!(response.unwrap().status(), 200);
    }

    async fn fails(&self, client: &Client, kind: ErrorKind, text: &str) {
        let error = fails(client.send(&self.origin, get()).await, kind);
        assert!(error.to_string().contains(text), "{error}");
    }

    async fn closes_all(&self) {
        for _ in 0..2_000 {
            if self.server.open_connections() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a connection stays open");
    }
}

#[tokio::test]
async fn the_identity_is_believed_in_place_of_the_host_and_no_other_is() {
    let world = World::new(Validity::CURRENT);
    let (client, _told) = world.client(Ok(authorities(&world.ca)), &world.certificate);
    world.get(&client).await;
    // The same authority, and a certificate for the right host, which is not the identity that is believed.
    let other = world.ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let (client, _told) = world.client(Ok(authorities(&world.ca)), &other);
    let text = "not that of the one identity that is believed here";
    world.fails(&client, ErrorKind::Refused, text).await;
    let text = "believed is mesh/store";
    world.fails(&client, ErrorKind::Refused, text).await;
    let other = World::new(Validity::CURRENT);
    let (client, _told) = world.client(Ok(authorities(&other.ca)), &world.certificate);
    let text = "vouches for the server's certificate";
    world.fails(&client, ErrorKind::Refused, text).await;
    let (client, _told) = world.client(Ok(Authorities::default()), &world.certificate);
    world.fails(&client, ErrorKind::Refused, text).await;
}

#[tokio::test]
async fn the_right_identity_is_refused_out_of_its_dates_and_for_another_purpose() {
    for (validity, text) in [
        (Validity::EXPIRED, "certificate is expired"),
        (Validity::FUTURE, "not valid yet"),
    ] {
        let world = World::new(validity);
        let (client, _told) = world.client(Ok(authorities(&world.ca)), &world.certificate);
        world.fails(&client, ErrorKind::Refused, text).await;
    }
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let certificate = ca.issue_client("a client", Validity::CURRENT).unwrap();
    let server = ScriptedHttps::start(&certificate, |_| Reply::json(200, "{}")).unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let world = World {
        ca,
        server,
        origin,
        certificate,
    };
    let (client, _told) = world.client(Ok(authorities(&world.ca)), &world.certificate);
    let text = "not one for a server";
    world.fails(&client, ErrorKind::Refused, text).await;
}

#[tokio::test]
async fn other_authorities_close_connections_and_without_any_none_is_made() {
    let world = World::new(Validity::CURRENT);
    let none = || Error::new(ErrorKind::Unauthenticated, "no authorities, says this test");
    let (client, told) = world.client(Err(none().held_back()), &world.certificate);
    let text = "no authorities";
    world.fails(&client, ErrorKind::Unauthenticated, text).await;
    assert_eq!(world.server.connections(), 0);
    told.send(Ok(authorities(&world.ca))).unwrap();
    world.get(&client).await;
    let other = TestCa::new(Validity::CURRENT).unwrap();
    told.send(Ok(authorities(&other))).unwrap();
    world.closes_all().await;
    world.fails(&client, ErrorKind::Refused, "vouches").await;
    // Both, as while authorities are replaced.
    let both = [world.ca.der().to_vec(), other.der().to_vec()];
    told.send(Authorities::from_der(both)).unwrap();
    world.get(&client).await;
    told.send(Err(none())).unwrap();
    world.closes_all().await;
    world.fails(&client, ErrorKind::Unauthenticated, text).await;
    // What is sent last stays.
    told.send(Ok(authorities(&world.ca))).unwrap();
    drop(told);
    world.get(&client).await;
}

#[tokio::test]
async fn what_an_identity_of_the_application_does_wrong_is_no_outage_of_the_server() {
    let world = World::new(Validity::CURRENT);
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        let away = Error::new(kind, "the mesh's agent is away, says this test");
        let (client, _told) = world.client(Err(away), &world.certificate);
        let text = "agent is away";
        world.fails(&client, ErrorKind::Unauthenticated, text).await;
    }
    assert_eq!(world.server.connections(), 0);
    let (client, _told) = world.client_of(Ok(authorities(&world.ca)), &[]);
    let text = "not that of the one identity";
    world.fails(&client, ErrorKind::Refused, text).await;
}
