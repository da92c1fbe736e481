//! Whom the client believes. (Which files of authorities it takes is tested next to `Trust`.)

use secret_resolver::ErrorKind;
use secret_resolver_transport::{Client, Trust};
use test_servers::{Reply, TestCa, Validity};

use crate::support::{World, builder, real_clock};

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
