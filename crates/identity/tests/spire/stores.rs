//! An OpenBao that trusts a SPIRE, and targets between the two.

use secret_resolver::ErrorKind;
use secret_resolver_session::JwtSource;
use secret_resolver_vault::{Auth, VaultTarget};
use test_servers::{OpenBao, Spire};

use crate::support::*;

pub(crate) fn register(spire: &Spire) -> String {
    let entry = spire.register(&entry(spire)).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    entry
}

pub(crate) async fn kind(source: &impl JwtSource) -> Option<ErrorKind> {
    jwt(source).await.err().map(|error| error.kind())
}

/// Lets the role `billing` read, by JWTs and by certificates of this SPIRE.
pub(crate) fn trust(server: &OpenBao, spire: &Spire) {
    let read = r#"path "secret/data/app/*" { capabilities = ["read"] }"#;
    server.policy("reader", read).unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    server.run(&["auth", "enable", "jwt"]).unwrap();
    trust_keys(server, spire);
    let subject = format!("bound_subject={}", spire.id(PATH));
    let role = [
        "write",
        "auth/jwt/role/billing",
        &subject,
        "bound_audiences=bao",
        "role_type=jwt",
        "user_claim=sub",
        "token_policies=reader",
        "token_ttl=1h",
    ];
    server.run(&role).unwrap();
    server.run(&["auth", "enable", "cert"]).unwrap();
    let certificate = format!("certificate={}", spire.x509_bundle().unwrap());
    let id = format!("allowed_uri_sans={}", spire.id(PATH));
    let role = [
        "write",
        "auth/cert/certs/billing",
        &certificate,
        &id,
        "token_policies=reader",
        "token_ttl=1h",
    ];
    server.run(&role).unwrap();
}

/// Lets it verify what this SPIRE signs JWT-SVIDs with now, and what it has prepared.
pub(crate) fn trust_keys(server: &OpenBao, spire: &Spire) {
    let keys = spire.jwt_keys().unwrap();
    let keys: Vec<_> = keys.iter().map(|key| key.pem.as_str()).collect();
    let config = serde_json::json!({ "jwt_validation_pubkeys": keys }).to_string();
    let write = ["write", "auth/jwt/config", "-"];
    server.run_with_input(&write, &config).unwrap();
}

pub(crate) fn target(server: &OpenBao, auth: Auth) -> VaultTarget {
    VaultTarget::new(server.origin().as_str(), server.ca_file(), auth)
}
