//! No variable chooses the store, its authorities, the namespace, the login or a value. The case runs in its own process, because a
//! test may not change the environment of the others.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::net::TcpListener;
use std::process::Command;

use common::*;
use secret_resolver::Resolver;
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::{OpenBao, TestCa, Validity};

#[test]
#[ignore = "run in its own process by the test after it"]
fn child_that_reads_one_secret() {
    let variable = |name| std::env::var(name).unwrap();
    let auth = Auth::approle(value(&variable("CHILD_ROLE")), value(&variable("CHILD_ID")));
    let target = VaultTarget::new(variable("CHILD_ORIGIN"), variable("CHILD_CA"), auth);
    let backend = VaultBackend::builder(target).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    let password = block_on(resolver.get("app/db#password"));
    assert_eq!(text(password), "from the store");
    let unknown = block_on(resolver.get("app/none"));
    assert_eq!(
        unknown.unwrap_err().kind(),
        secret_resolver::ErrorKind::NotFound
    );
}

#[test]
fn no_variable_chooses_the_store_its_authorities_the_login_or_a_value() {
    let server = OpenBao::start().unwrap();
    server
        .put("app/db", &[("password", "from the store")])
        .unwrap();
    let role = reader(&server, HOUR, HOUR);
    let rogue = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rogue.set_nonblocking(true).unwrap();
    let origin = format!("https://{}", rogue.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("rogue.pem");
    std::fs::write(&authority, TestCa::new(Validity::CURRENT).unwrap().pem()).unwrap();
    let authority = authority.to_str().unwrap();

    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "child_that_reads_one_secret",
        "--exact",
        "--ignored",
        "--nocapture",
    ]);
    child.envs([
        ("CHILD_ORIGIN", server.origin()),
        ("CHILD_CA", server.ca_file().to_str().unwrap().to_owned()),
        ("CHILD_ROLE", role.role_id.clone()),
        ("CHILD_ID", role.secret_id.clone()),
    ]);
    for product in ["VAULT", "BAO", "OPENBAO"] {
        for (what, hostile) in [
            ("ADDR", &*origin),
            ("AGENT_ADDR", &origin),
            ("PROXY_ADDR", &origin),
            ("HTTP_PROXY", &origin),
            ("CACERT", authority),
            ("CAPATH", folder.path().to_str().unwrap()),
            ("CLIENT_CERT", authority),
            ("SKIP_VERIFY", "true"),
            ("TLS_SERVER_NAME", "rogue"),
            ("NAMESPACE", "rogue"),
            ("TOKEN", "s.rogue"),
            ("ROLE_ID", "rogue"),
            ("SECRET_ID", "rogue"),
            ("MOUNT", "rogue"),
            ("SRV_LOOKUP", "true"),
        ] {
            child.env(format!("{product}_{what}"), hostile);
        }
    }
    // The fallback of the clients that this library replaces.
    for name in ["APP_DB_PASSWORD", "APP_DB", "APP_NONE", "DB_PASSWORD"] {
        child.env(name, "from a variable");
    }
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &origin);
    }
    child.env("SSL_CERT_FILE", authority);
    child.env("SSL_CERT_DIR", folder.path());

    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert!(rogue.accept().is_err(), "a connection to the rogue");
}
