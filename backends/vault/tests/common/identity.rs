//! Issuers of JWTs and of client certificates, and what a real OpenBao has to be told about them.

use std::path::{Path, PathBuf};

use secret_resolver_vault::CertificateFiles;
use test_servers::{OpenBao, ServerCert, TestCa, TestIssuer, Validity};

/// The audience and the subject of all JWTs here.
pub(crate) const AUDIENCE: &str = "bao";
pub(crate) const SUBJECT: &str = "spiffe://example.org/billing";

pub(crate) fn policy(server: &OpenBao) {
    let read = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;
    server.policy("reader", read).unwrap();
}

/// Lets the role `billing` log in at this mount with JWTs of this issuer.
pub(crate) fn trust_issuer(server: &OpenBao, mount: &str, issuer: &TestIssuer) {
    policy(server);
    server
        .run(&["auth", "enable", &format!("-path={mount}"), "jwt"])
        .unwrap();
    let config = format!("auth/{mount}/config");
    let key = format!("jwt_validation_pubkeys={}", issuer.public_key_pem());
    let algorithms = "jwt_supported_algs=RS256,ES256";
    server.run(&["write", &config, &key, algorithms]).unwrap();
    let role = format!("auth/{mount}/role/billing");
    let subject = format!("bound_subject={SUBJECT}");
    let audience = format!("bound_audiences={AUDIENCE}");
    let fixed = ["role_type=jwt", "user_claim=sub", "token_policies=reader"];
    let mut write = vec!["write", &role, &subject, &audience, "token_ttl=1h"];
    write.extend(fixed);
    server.run(&write).unwrap();
}

/// Lets the role `billing` log in with certificates of this authority.
pub(crate) fn trust_clients(server: &OpenBao, clients: &TestCa) {
    policy(server);
    server.run(&["auth", "enable", "cert"]).unwrap();
    let certificate = format!("certificate={}", clients.pem());
    let fixed = ["token_policies=reader", "token_ttl=1h"];
    let mut write = vec!["write", "auth/cert/certs/billing", &certificate];
    write.extend(fixed);
    server.run(&write).unwrap();
}

/// A pair of files that a test replaces.
pub(crate) struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn of(issued: &ServerCert) -> Self {
        let pair = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        pair.write(issued);
        pair
    }

    pub(crate) fn write(&self, issued: &ServerCert) {
        std::fs::write(self.path("tls.crt"), &issued.certificate_pem).unwrap();
        std::fs::write(self.path("tls.key"), &issued.key_pem).unwrap();
    }

    pub(crate) fn files(&self) -> CertificateFiles {
        CertificateFiles::new(self.path("tls.crt"), self.path("tls.key")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn client(clients: &TestCa, name: &str) -> ServerCert {
    clients.issue_client(name, Validity::CURRENT).unwrap()
}

pub(crate) fn new_ca() -> TestCa {
    TestCa::new(Validity::CURRENT).unwrap()
}

/// Whose tokens live, sorted: by the common name of a certificate, or what the store calls them.
pub(crate) fn names_of_tokens(server: &OpenBao) -> Vec<String> {
    let list = server.run(&["list", "-format=json", "auth/token/accessors"]);
    let accessors: Vec<String> = serde_json::from_str(&list.unwrap()).unwrap();
    let name = |accessor: &String| {
        let lookup = ["token", "lookup", "-format=json", "-accessor", accessor];
        // It may have died meanwhile.
        let shown: serde_json::Value = serde_json::from_str(&server.run(&lookup).ok()?).ok()?;
        let data = &shown["data"];
        let name = data["meta"]["common_name"].as_str();
        Some(name.or(data["display_name"].as_str())?.to_owned())
    };
    let mut names: Vec<_> = accessors.iter().filter_map(name).collect();
    names.retain(|name| name != "root" && name != "token");
    names.sort();
    names
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
