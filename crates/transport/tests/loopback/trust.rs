//! Which servers the client believes. (Which files of authorities it takes is tested next to `Trust`.)

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::ErrorKind;
use secret_resolver::testing::ManualClock;
use secret_resolver_transport::{Client, Origin, Trust};
use test_servers::{Reply, ScriptedHttps, ServerCert, TestCa, Validity};

use crate::support::{World, builder, get, real_clock};

fn with_names(names: &[&str], validity: Validity) -> World {
    World::with_certificate(names, validity, |_| Reply::status(200))
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let world = with_names(&["127.0.0.1"], Validity::CURRENT);
    // Its name is the same: what differs is the key.
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let client = builder(&other, real_clock())
        .allow(world.origin.clone())
        .build()
        .unwrap();
    world.fails(&client, ErrorKind::Refused).await;
    assert_eq!(world.server.requests().len(), 0);
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    for names in [["elsewhere.example"], ["localhost"], ["127.0.0.2"]] {
        let world = with_names(&names, Validity::CURRENT);
        world.fails(&world.client(), ErrorKind::Refused).await;
        assert_eq!(world.server.requests().len(), 0);
    }
}

#[tokio::test]
async fn a_certificate_out_of_its_dates_is_refused() {
    for validity in [Validity::EXPIRED, Validity::FUTURE] {
        let world = with_names(&["127.0.0.1"], validity);
        world.fails(&world.client(), ErrorKind::Refused).await;
        assert_eq!(world.server.requests().len(), 0);
    }
}

#[tokio::test]
async fn any_of_several_authorities_will_do() {
    let world = with_names(&["127.0.0.1"], Validity::CURRENT);
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let both =
        Trust::from_pem(format!("{}\n# next\n{}", other.pem(), world.ca.pem()).as_bytes()).unwrap();
    let client = Client::builder(both, real_clock())
        .allow(world.origin.clone())
        .build()
        .unwrap();
    assert_eq!(world.get(&client).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_server_that_was_refused_is_refused_again() {
    // No session is resumed past the check.
    let world = with_names(&["localhost"], Validity::CURRENT);
    let client = world.client();
    for connections in 1..4 {
        world.fails(&client, ErrorKind::Refused).await;
        assert_eq!(world.server.connections(), connections);
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_words() {
    let current = ["127.0.0.1"];
    for (names, validity, words) in [
        (current, Validity::EXPIRED, "is expired"),
        (current, Validity::FUTURE, "not valid yet"),
        (["localhost"], Validity::CURRENT, "another host name"),
    ] {
        let world = with_names(&names, validity);
        let error = world.fails(&world.client(), ErrorKind::Refused).await;
        assert!(error.to_string().contains(words), "{error}");
    }
    let (world, other) = (
        with_names(&current, Validity::CURRENT),
        TestCa::new(Validity::CURRENT),
    );
    let client = builder(&other.unwrap(), real_clock()).allow(world.origin.clone());
    let error = world
        .fails(&client.build().unwrap(), ErrorKind::Refused)
        .await;
    assert!(error.to_string().contains("no given authority"), "{error}");
}

/// A server that shows an authority's certificate as its own, as `openssl req -x509` makes it.
fn signed_by_itself() -> (ScriptedHttps, Origin, String) {
    let certificate = ServerCert::signed_by_itself(&["vault.example"]).unwrap();
    let server = ScriptedHttps::start(&certificate, |_| Reply::status(200)).unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    (server, origin, certificate.certificate_pem)
}

#[tokio::test]
async fn a_server_that_signed_itself_as_an_authority_is_believed_as_a_pin_alone() {
    let (_server, origin, pem) = signed_by_itself();
    let send = async |trust: Trust| {
        let client = Client::builder(trust, real_clock()).allow(origin.clone());
        client.build().unwrap().send(&origin, get()).await
    };
    let refused = send(Trust::from_pem(pem.as_bytes()).unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("Trust::pinned"), "{refused}");
    // Whatever its name is.
    let answer = send(Trust::pinned(pem.as_bytes()).unwrap()).await;
    assert_eq!(answer.unwrap().status(), 200);
    let (_other, _, another) = signed_by_itself();
    let refused = send(Trust::pinned(another.as_bytes()).unwrap())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_new_authority_needs_no_restart() {
    let (old, new) = (
        with_names(&["127.0.0.1"], Validity::CURRENT),
        with_names(&["127.0.0.1"], Validity::CURRENT),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, old.ca.pem()).unwrap();
    let clock = ManualClock::strict();
    let client = Client::builder(Trust::from_file(&path).unwrap(), Arc::new(clock.clone()))
        .allow(old.origin.clone())
        .allow(new.origin.clone())
        .build()
        .unwrap();
    assert!(old.get(&client).await.is_ok());
    new.fails(&client, ErrorKind::Refused).await;
    std::fs::write(&path, new.ca.pem()).unwrap();
    // Not at each refused handshake.
    new.fails(&client, ErrorKind::Refused).await;
    clock.advance(Duration::from_secs(1));
    assert!(new.get(&client).await.is_ok());
    // And what is taken out is not believed a minute later.
    clock.advance(Duration::from_secs(31));
    old.fails(&client, ErrorKind::Refused).await;
    std::fs::write(&path, old.ca.pem()).unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(old.get(&client).await.is_ok());
    new.fails(&client, ErrorKind::Refused).await;
}
