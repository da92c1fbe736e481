//! Nothing secret in what is shown. (Every error of every test here is looked at by
//! `support::fails`; these are the other types.)

use secret_resolver::SecretBuf;
use secret_resolver_transport::{Method, Trust};
use test_servers::Reply;

use crate::support::{CANARY, World, real_clock, request};

#[tokio::test]
async fn debug_shows_nothing_of_a_request_a_response_or_a_certificate() {
    let reply = Reply::json(200, CANARY)
        .with_header("Set-Cookie", CANARY)
        .with_header("X-Key", CANARY);
    let world = World::answering(reply);
    let client = world.client();
    let asked = request(Method::Post).with_body(
        "text/plain",
        SecretBuf::from_slice(CANARY.as_bytes()).unwrap(),
    );
    let mut shown = format!("{asked:?} {asked:#?} {:?} {client:?}", world.builder());
    let response = client.send(&world.origin, asked).await.unwrap();
    assert_eq!(response.body(), CANARY.as_bytes());
    shown += &format!("{response:?} {response:#?} {client:#?}");
    shown += &format!("{:?}", Trust::from_pem(world.ca.pem().as_bytes()).unwrap());
    shown += &format!("{:?} {:?}", world.origin, response.into_body());
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(
        !shown.contains("Test CA") && !shown.contains("CERTIFICATE"),
        "{shown}"
    );
    assert!(
        shown.contains("127.0.0.1") && shown.contains("connect_timeout"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_content_type_that_cannot_be_sent_is_an_error_that_does_not_quote_it() {
    let world = World::answering(Reply::status(200));
    let body = SecretBuf::from_slice(b"x").unwrap();
    let asked = request(Method::Put).with_body("text/plain\r\nX: canary-7f3a", body);
    let result = world.client().send(&world.origin, asked).await;
    crate::support::fails(result, secret_resolver::ErrorKind::Misconfigured);
    assert_eq!(world.server.requests().len(), 0);
    drop(real_clock());
}
