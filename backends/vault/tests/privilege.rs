//! What an identity may do beyond reading what a service declares, as a real OpenBao says it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use secret_resolver::backend::Excess;
use secret_resolver::{Error, ErrorKind, Resolver, SecretName, SecretResolver};
use secret_resolver_vault::VaultBackend;
use test_servers::OpenBao;

const NAMES: [&str; 3] = ["team/db#password", "team/db#user", "team/deep/api#value"];

/// Reads what is declared, and no more.
const EXACT: &str = r#"
path "secret/data/team/db" { capabilities = ["read"] }
path "secret/data/team/deep/api" { capabilities = ["read"] }
"#;

fn server() -> OpenBao {
    let server = OpenBao::start().unwrap();
    let fields = [("password", "a"), ("user", "b"), ("value", "c")];
    server.put("team/db", &fields).unwrap();
    server.put("team/deep/api", &fields).unwrap();
    server
}

/// A backend whose role has this policy beside the default one.
fn with_policy(server: &OpenBao, policy: &str) -> VaultBackend {
    server.policy("tried", policy).unwrap();
    let role = server.approle("tried", &["tried"], HOUR, HOUR).unwrap();
    VaultBackend::builder(target(server, approle(&role)))
        .build()
        .unwrap()
}

fn start(backend: VaultBackend) -> Result<(), Error> {
    let resolver = Resolver::builder(backend).require_least_privilege();
    let resolver = resolver.build().unwrap();
    let answer = block_on(resolver.require(&NAMES));
    answer.map(drop).map_err(|error| {
        let shown = error.to_string();
        assert!(shown.contains("but are withheld"), "{shown}");
        let first = error.failures().next();
        first.map(|(_, _, error)| error.clone()).unwrap()
    })
}

#[test]
fn a_role_that_may_read_what_is_declared_and_no_more_starts() {
    let server = server();
    start(with_policy(&server, EXACT)).unwrap();
    // To see that there are versions, and to be refused elsewhere, gives nothing.
    let more = r#"
path "secret/metadata/team/db" { capabilities = ["read"] }
path "secret/data/*" { capabilities = ["deny"] }
path "secret/metadata/*" { capabilities = ["deny"] }
"#;
    start(with_policy(&server, &format!("{EXACT}{more}"))).unwrap();
}

#[test]
fn every_way_to_change_a_declared_secret_is_found() {
    let server = server();
    for (path, right) in [
        ("data", "create"),
        ("data", "update"),
        ("data", "patch"),
        ("data", "delete"),
        ("metadata", "update"),
        ("metadata", "delete"),
        ("delete", "update"),
        ("undelete", "update"),
        ("destroy", "update"),
    ] {
        let policy = format!(
            r#"
path "secret/data/team/deep/api" {{ capabilities = ["read"] }}
path "secret/data/team/db" {{ capabilities = ["read"] }}
path "secret/{path}/team/db" {{ capabilities = ["read", "{right}"] }}
"#
        );
        let error = start(with_policy(&server, &policy)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let shown = error.to_string();
        let found = "(it may change team/db#password, team/db#user)";
        assert!(shown.ends_with(found), "{path} {right}: {shown}");
    }
}

#[test]
fn every_form_of_a_right_on_other_secrets_is_found() {
    let server = server();
    for more in [
        r#"path "secret/data/*" { capabilities = ["read"] }"#,
        r#"path "secret/*" { capabilities = ["read"] }"#,
        r#"path "secret/data/team/*" { capabilities = ["read"] }"#,
        r#"path "secret/data/+/db" { capabilities = ["read"] }"#,
        r#"path "secret/data/team/+/api" { capabilities = ["read"] }"#,
        r#"path "secret/data/team/db*" { capabilities = ["read"] }"#,
        r#"path "secret/data/team/db/*" { capabilities = ["read"] }"#,
        r#"path "secret/data/other*" { capabilities = ["read"] } path "secret/data/secret*" { capabilities = ["update"] }"#,
        r#"path "secret/metadata/" { capabilities = ["list"] }"#,
        r#"path "secret/metadata/team/" { capabilities = ["list"] }"#,
        r#"path "secret/metadata/team/deep" { capabilities = ["list"] }"#,
        r#"path "secret/metadata/*" { capabilities = ["list"] }"#,
    ] {
        let error = start(with_policy(&server, &format!("{EXACT}{more}"))).unwrap_err();
        let shown = error.to_string();
        let found = "(it may see or read other secrets)";
        assert!(shown.ends_with(found), "{more}: {shown}");
    }
}

#[test]
fn the_root_and_whatever_may_give_itself_rights_may_do_anything() {
    let server = server();
    let root = secret_resolver_vault::Auth::token(value(server.root_token()));
    let root = VaultBackend::builder(target(&server, root))
        .build()
        .unwrap();
    assert_all(root);
    for power in [
        r#"path "sys/policies/*" { capabilities = ["create", "update"] }"#,
        // Its own alone.
        r#"path "sys/policies/acl/tried" { capabilities = ["update"] }"#,
        r#"path "sys/policy/tried" { capabilities = ["update"] }"#,
        r#"path "auth/approle/role/*" { capabilities = ["create", "update"] }"#,
        // Its own role alone, its own entity, and what holds the secrets.
        r#"path "auth/approle/role/tried" { capabilities = ["update"] }"#,
        r#"path "auth/approle/role/tried/policies" { capabilities = ["update"] }"#,
        r#"path "identity/entity/id/{{identity.entity.id}}" { capabilities = ["update"] }"#,
        r#"path "identity/group/name/*" { capabilities = ["update"] }"#,
        r#"path "sys/mounts/secret" { capabilities = ["update"] }"#,
        r#"path "secret/config" { capabilities = ["update"] }"#,
        r#"path "auth/token/create" { capabilities = ["update", "sudo"] }"#,
        r#"path "sys/auth/*" { capabilities = ["create", "update", "sudo"] }"#,
        r#"path "sys/mounts/*" { capabilities = ["update"] }"#,
        r#"path "identity/*" { capabilities = ["update"] }"#,
        r#"path "sys/raw/*" { capabilities = ["update", "sudo"] }"#,
    ] {
        assert_all(with_policy(&server, &format!("{EXACT}{power}")));
    }
    // A token that may make others of its own policies is no more than it is.
    let children = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    start(with_policy(&server, &format!("{EXACT}{children}"))).unwrap();
}

fn assert_all(backend: VaultBackend) {
    let error = start(backend).unwrap_err();
    let shown = error.to_string();
    assert!(shown.ends_with("(it may do anything)"), "{shown}");
}

#[test]
fn the_error_of_a_role_that_may_not_ask_says_what_to_allow() {
    let server = server();
    let forbids = r#"path "sys/capabilities-self" { capabilities = ["deny"] }"#;
    let backend = with_policy(&server, &format!("{EXACT}{forbids}"));
    let error = start(backend).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains("sys/capabilities-self"),
        "{error}"
    );
}

#[test]
fn of_many_names_all_are_asked_about() {
    let server = OpenBao::start().unwrap();
    let policy = r#"path "secret/data/many/s299" { capabilities = ["read", "update"] }"#;
    let backend = with_policy(&server, policy);
    // None of them has to be there.
    let names = (0..300).map(|number| SecretName::parse(&format!("many/s{number}")).unwrap());
    let names: Vec<_> = names.collect();
    let names: Vec<_> = names.iter().map(SecretName::borrowed).collect();
    let excess = block_on(backend.excess(&names)).unwrap();
    assert_eq!(excess, [Excess::Write(299)]);
}
