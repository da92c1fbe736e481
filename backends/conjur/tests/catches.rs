//! The seven catches of the assessment that started this, against Conjur: each attack is refused, and no token and no credential reaches
//! the attacker's server.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use common::*;
use conjur_double::{ConjurDouble, Options};
use secret_resolver::{ErrorKind, Resolver};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget};

/// A resolver of the default stack, for a target that is given.
fn of(target: ConjurTarget) -> Resolver {
    let backend = ConjurBackend::builder(target).build().unwrap();
    let builder = Resolver::builder(backend).with_attempts(1);
    builder
        .with_deadline(Duration::from_secs(3))
        .build()
        .unwrap()
}

fn auth() -> Auth {
    Auth::api_key(READER, credential("canary-api-key"))
}

/// No byte of a request, and no finished handshake.
fn got_nothing(rogue: &ConjurDouble) {
    assert!(rogue.requests().is_empty());
    assert!(
        rogue
            .connections()
            .iter()
            .all(|connection| !connection.established)
    );
}

#[test]
fn a_store_that_is_unreachable_or_black_holed_is_an_outage_and_no_other_source_is_asked() {
    let server = server(&[("v", b"x")]);
    let resolver = of(target(&server, by_key(&server)));
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
        resolver.invalidator().invalidate("v").unwrap();
        server.drop_connections();
        server.set_black_hole(true);
        let kind = resolver.get("v").await.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
            "{kind:?}"
        );
        server.set_black_hole(false);
        server.stop();
        let kind = resolver.get("w").await.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable),
            "{kind:?}"
        );
    });
}

#[test]
fn a_server_with_a_certificate_of_another_authority_gets_nothing() {
    let (server, rogue) = (server(&[("v", b"x")]), ConjurDouble::start().unwrap());
    let target = ConjurTarget::new(rogue.origin(), trust(&server), "myorg", auth());
    let error = block_on(of(target).get("v")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(!error.to_string().contains("canary"));
    got_nothing(&rogue);
}

#[test]
fn a_name_that_leads_to_another_server_of_the_same_authority_gets_nothing() {
    let mut options = Options::default();
    options.names = vec!["other.internal".to_owned()];
    let rogue = options.start().unwrap();
    let origin = format!("https://localhost:{}", rogue.port());
    let target = ConjurTarget::new(origin, trust(&rogue), "myorg", auth());
    let error = block_on(of(target).get("v")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    got_nothing(&rogue);
}

#[test]
#[ignore = "another test runs it in its own process"]
fn child_that_reads_one_secret_of_conjur() {
    let variable = |name| std::env::var(name).unwrap();
    let auth = Auth::api_key(READER, credential(&variable("CHILD_KEY")));
    let target = ConjurTarget::new(
        variable("CHILD_ORIGIN"),
        variable("CHILD_CA"),
        "myorg",
        auth,
    );
    let resolver = of(target);
    block_on(async {
        assert_eq!(
            bytes(resolver.get("app/db#password").await),
            b"from the store"
        );
        let unknown = resolver.get("app/none").await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn no_variable_of_conjur_chooses_the_store_its_authorities_the_login_or_a_value() {
    let server = server(&[("app/db/password", b"from the store")]);
    let rogue = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rogue.set_nonblocking(true).unwrap();
    let origin = format!("https://{}", rogue.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        folder.path().join("right.pem"),
        folder.path().join("wrong.pem"),
    );
    std::fs::write(&right, server.ca_pem()).unwrap();
    std::fs::write(&wrong, ConjurDouble::start().unwrap().ca_pem()).unwrap();
    let wrong = wrong.to_str().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "child_that_reads_one_secret_of_conjur",
        "--exact",
        "--ignored",
        "--nocapture",
    ]);
    child
        .env("CHILD_ORIGIN", server.origin())
        .env("CHILD_CA", &right)
        .env("CHILD_KEY", server.key_of(READER));
    for (name, hostile) in [
        ("CONJUR_APPLIANCE_URL", &*origin),
        ("CONJUR_ACCOUNT", "rogue"),
        ("CONJUR_AUTHN_LOGIN", "host/rogue"),
        ("CONJUR_AUTHN_API_KEY", "rogue"),
        ("CONJUR_AUTHN_TOKEN", "rogue"),
        ("CONJUR_AUTHN_TOKEN_FILE", wrong),
        ("CONJUR_AUTHN_URL", &origin),
        ("CONJUR_AUTHN_TYPE", "ldap"),
        ("CONJUR_AUTHN_JWT_SERVICE_ID", "rogue"),
        ("CONJUR_SERVICE_ID", "rogue"),
        ("CONJUR_CERT_FILE", wrong),
        ("CONJUR_SSL_CERTIFICATE", "rogue"),
        ("CONJUR_SSL_VERIFY", "false"),
        ("CONJUR_CERTIFICATE_VERIFICATION", "insecure"),
        ("CONJUR_VERSION", "4"),
        ("CONJURRC", wrong),
        ("SSL_CERT_FILE", wrong),
        ("HTTPS_PROXY", &origin),
        ("https_proxy", &origin),
        ("ALL_PROXY", &origin),
        ("APP_DB_PASSWORD", "from a variable"),
        ("APP_NONE", "from a variable"),
    ] {
        child.env(name, hostile);
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert!(rogue.accept().is_err(), "a connection to the rogue");
}

#[test]
fn a_rotated_value_is_read_at_once_after_a_signal() {
    let server = server(&[("v", b"old")]);
    let resolver = of(target(&server, by_key(&server)));
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"old");
        server.set("v", b"new");
        resolver.invalidator().invalidate("v").unwrap();
        assert_eq!(bytes(resolver.get("v").await), b"new");
    });
}
