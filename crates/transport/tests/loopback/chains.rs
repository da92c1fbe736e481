//! What a client says of a server that it does not believe: each fault has its own words, and no certificate is blamed
//! for another's.

use std::io::{Read, Write};
use std::net::TcpListener;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::{Client, Origin, Trust};
use test_servers::{Between, Flaw, Reply, ScriptedHttps, ServerCert, TestCa, Validity};

use crate::support::{builder, fails, get, real_clock};

const LOOPBACK: [&str; 1] = ["127.0.0.1"];

/// The error of a client that believes `ca` and asks a server that shows this.
async fn refused(ca: &TestCa, shown: &ServerCert) -> String {
    let server = ScriptedHttps::start(shown, |_| Reply::status(200)).unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let client = builder(ca, real_clock()).allow(origin.clone()).build();
    let error = fails(
        client.unwrap().send(&origin, get()).await,
        ErrorKind::Refused,
    );
    assert_eq!(server.requests().len(), 0);
    error.to_string()
}

#[tokio::test]
async fn an_intermediate_is_named_where_it_is_at_fault_and_the_servers_own_certificate_is_not() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    for (between, validity, words) in [
        (
            Between::Sound,
            Validity::EXPIRED,
            "an intermediate certificate that the server shows is expired",
        ),
        (
            Between::Sound,
            Validity::FUTURE,
            "an intermediate certificate that the server shows is not valid yet",
        ),
        (
            Between::NoAuthority,
            Validity::CURRENT,
            "is not an authority's; issue it with CA:TRUE",
        ),
        (
            Between::NotForLoopback,
            Validity::CURRENT,
            "its name constraints forbid it",
        ),
        (
            Between::CriticalExtension,
            Validity::CURRENT,
            "a critical extension that is not known here",
        ),
    ] {
        let shown = ca.intermediate(between, validity).unwrap().issue(&LOOPBACK);
        let error = refused(&ca, &shown.unwrap()).await;
        assert!(error.contains(words), "{between:?}: {error}");
        assert!(!error.contains("Test server"), "{between:?}: {error}");
        let named = !matches!(between, Between::NoAuthority | Between::NotForLoopback);
        assert_eq!(
            error.contains("\"Intermediate\""),
            named,
            "{between:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_sound_intermediate_is_believed_and_one_that_is_not_shown_is_not() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let intermediate = ca.intermediate(Between::Sound, Validity::CURRENT).unwrap();
    let shown = intermediate.issue(&LOOPBACK).unwrap();
    let server = ScriptedHttps::start(&shown, |_| Reply::status(200)).unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let client = builder(&ca, real_clock()).allow(origin.clone()).build();
    let answer = client.unwrap().send(&origin, get()).await;
    assert_eq!(answer.unwrap().status(), 200);
    let error = refused(&ca, &shown.alone()).await;
    assert!(error.contains("no given authority vouches"), "{error}");
    assert!(error.contains("\"Test server\""), "{error}");
}

#[tokio::test]
async fn a_flaw_of_the_servers_own_certificate_is_named_with_its_subject() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    for (flaw, words) in [
        (
            Flaw::CriticalExtension,
            "a critical extension that is not known here",
        ),
        (Flaw::ForClients, "is not one for a server"),
    ] {
        let error = refused(&ca, &ca.issue_flawed(&LOOPBACK, flaw).unwrap()).await;
        assert!(error.contains(words), "{flaw:?}: {error}");
        assert!(error.contains("\"Test server\""), "{flaw:?}: {error}");
    }
    // An authority of the same name, and another key.
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let issued = ca.issue(&LOOPBACK, Validity::CURRENT).unwrap();
    let error = refused(&other, &issued).await;
    assert!(
        error.contains("one has the name of its issuer, and another key"),
        "{error}"
    );
    let itself = ServerCert::signed_by_itself(&LOOPBACK).unwrap();
    let error = refused(&other, &itself).await;
    assert!(
        error.contains("an authority's certificate as its own"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_has_another_key_than_its_certificates_is_called_that() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let issued = ca.issue(&LOOPBACK, Validity::CURRENT).unwrap();
    let shown = ServerCert::without_its_key(&issued.certificate_pem).unwrap();
    let error = refused(&ca, &shown).await;
    assert!(
        error.contains("has not proved that it has the key"),
        "{error}"
    );
    assert!(!error.contains("authority"), "{error}");
}

/// What a client says to a server that answers its first message by this alert.
async fn alerted(alert: u8) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
            // Until the client has read it and left.
            let _ = stream.read(&mut [0; 1]);
        }
    });
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let origin = Origin::parse(&format!("https://127.0.0.1:{port}")).unwrap();
    let client = Client::builder(trust, real_clock())
        .allow(origin.clone())
        .build();
    fails(
        client.unwrap().send(&origin, get()).await,
        ErrorKind::Malformed,
    )
}

#[tokio::test]
async fn a_server_whose_certificate_has_a_key_of_an_odd_kind_is_not_said_to_speak_an_old_tls() {
    // What OpenSSL answers where its certificate has a key on secp256k1, P-224, a Brainpool curve or Ed448: it
    // finds none that it could show, and says handshake_failure or protocol_version.
    for alert in [40, 70] {
        let error = alerted(alert).await.to_string();
        assert!(
            error.contains("does its certificate have another key than"),
            "{error}"
        );
        assert!(!error.contains("neither TLS 1.2 nor 1.3"), "{error}");
    }
}
