//! What the environment says changes nothing. Each case runs in its own process, because a
//! test may not change the environment of the others.

use std::net::TcpListener;
use std::process::Command;

use secret_resolver::ErrorKind;
use secret_resolver_transport::{Client, Origin, Trust};
use test_servers::{Reply, TestCa, Validity};

use crate::support::{PATIENCE, World, fails, get, real_clock};

/// Runs one ignored test of this binary as a process with these variables.
pub(crate) fn run_child(test: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--ignored", "--nocapture"]);
    let output = child.envs(variables.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[tokio::test]
#[ignore = "run in its own process by the tests after it"]
async fn child_that_sends_one_request() {
    let variable = |name| std::env::var(name).unwrap();
    let trust = Trust::from_file(variable("CHILD_TRUST")).unwrap();
    let origin = Origin::parse(&variable("CHILD_ORIGIN")).unwrap();
    let builder = Client::builder(trust, real_clock()).allow(origin.clone());
    let client = builder
        .with_connect_timeout(PATIENCE)
        .with_response_timeout(PATIENCE)
        .build()
        .unwrap();
    let answer = client.send(&origin, get()).await;
    match &*variable("CHILD_EXPECTS") {
        "answer" => assert_eq!(answer.unwrap().status(), 200),
        _ => drop(fails(answer, ErrorKind::Refused)),
    }
}

#[test]
fn proxy_variables_are_ignored() {
    let world = World::answering(Reply::status(200));
    let proxy = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    proxy.set_nonblocking(true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("ca.pem");
    std::fs::write(&trust, world.ca.pem()).unwrap();
    let keys = folder.path().join("keys.log");
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut variables = vec![
        ("CHILD_TRUST", trust.to_str().unwrap()),
        ("CHILD_ORIGIN", world.server.origin().leak() as &str),
        ("CHILD_EXPECTS", "answer"),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        // Not a proxy's, but many TLS clients read it: it would write session keys there.
        ("SSLKEYLOGFILE", keys.to_str().unwrap()),
    ];
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        variables.push((name, &url));
    }
    run_child("environment::child_that_sends_one_request", &variables);
    assert_eq!(world.server.requests().len(), 1);
    assert!(proxy.accept().is_err(), "somebody connected to the proxy");
    assert!(!keys.exists());
}

#[test]
fn authorities_named_by_the_environment_are_not_believed() {
    let world = World::answering(Reply::status(200));
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        folder.path().join("right.pem"),
        folder.path().join("wrong.pem"),
    );
    std::fs::write(&right, world.ca.pem()).unwrap();
    std::fs::write(&wrong, TestCa::new(Validity::CURRENT).unwrap().pem()).unwrap();
    let variables = [
        ("CHILD_TRUST", wrong.to_str().unwrap()),
        ("CHILD_ORIGIN", world.server.origin().leak() as &str),
        ("CHILD_EXPECTS", "refusal"),
        ("SSL_CERT_FILE", right.to_str().unwrap()),
        ("SSL_CERT_DIR", folder.path().to_str().unwrap()),
        ("VAULT_CACERT", right.to_str().unwrap()),
        ("VAULT_SKIP_VERIFY", "true"),
    ];
    run_child("environment::child_that_sends_one_request", &variables);
    assert_eq!(world.server.requests().len(), 0);
}
