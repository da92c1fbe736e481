//! What an identity may do beyond reading what a service declares, as Conjur says it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind};
use secret_resolver::{Error, ErrorKind, Resolver};
use secret_resolver_conjur::{Auth, ConjurBackend};

const ROLE: &str = "host:apps/reader";

/// The error of a start that needs these names alone.
fn start(server: &ConjurDouble, backend: ConjurBackend, names: &[&str]) -> Result<(), Error> {
    let resolver = Resolver::builder(backend).require_least_privilege();
    let resolver = resolver.build().unwrap();
    let before = server.count(Kind::Secret) + server.count(Kind::Batch);
    let answer = block_on(resolver.require(names));
    let error = answer.map(drop).map_err(|error| {
        let first = error.failures().next();
        first.map(|(_, _, error)| error.clone()).unwrap()
    });
    // The names resolve: what follows is about rights alone.
    assert!(server.count(Kind::Secret) + server.count(Kind::Batch) > before);
    error
}

fn refused(server: &ConjurDouble, names: &[&str]) -> String {
    let error = start(server, backend(server), names).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    error.to_string()
}

#[test]
fn an_identity_that_may_read_what_is_declared_and_no_more_starts() {
    let server = server(&[("prod/db/password", b"a"), ("prod/db/user", b"b")]);
    // Of others, which it does not see.
    server.add_variable("prod/other");
    // Two names of one variable are one.
    let names = ["prod/db#password", "prod/db/password", "prod/db#user"];
    start(&server, backend(&server), &names).unwrap();
    // One for each variable, and two for each policy: the root, prod and prod/db.
    assert_eq!(server.count(Kind::Check), 2 + 6);
}

#[test]
fn the_right_to_write_a_declared_variable_is_found() {
    let server = server(&[("prod/a", b"a"), ("prod/b", b"b"), ("odd//c d/", b"c")]);
    server.grant(ROLE, &["update"], "prod/b");
    let error = refused(&server, &["prod/a", "prod/b"]);
    assert!(
        error.ends_with("it may change prod/b; it may see 1 other secrets)"),
        "{error}"
    );
    // By whichever role it has it, and wherever an alias leads.
    server.revoke(ROLE, &["update"], "prod/b");
    server.add_group("writers");
    server.add_member("group:writers", ROLE);
    server.grant("group:writers", &["update"], "odd//c d/");
    let aliased = builder(&server)
        .with_alias("odd", "odd//c d/")
        .build()
        .unwrap();
    let error = start(&server, aliased, &["prod/a", "prod/b", "odd"]).unwrap_err();
    assert!(
        error.to_string().ends_with("(it may change odd)"),
        "{error}"
    );
}

#[test]
fn what_it_sees_beside_the_declared_counts_even_where_it_may_not_read_it() {
    let server = server(&[("prod/a", b"a"), ("prod/b", b"b")]);
    server.add_variable("prod/c");
    server.grant(ROLE, &["read"], "prod/c");
    let error = refused(&server, &["prod/a"]);
    assert!(error.ends_with("(it may see 2 other secrets)"), "{error}");
}

#[test]
fn an_administrator_and_the_owner_of_the_root_policy_may_do_anything() {
    let server = server(&[("prod/a", b"a")]);
    let auth = Auth::api_key("admin", credential(&server.key_of("admin")));
    let admin = ConjurBackend::builder(target(&server, auth)).dangerous_allow_admin();
    let error = start(&server, admin.build().unwrap(), &["prod/a"]).unwrap_err();
    assert!(
        error.to_string().contains("(it may do anything)"),
        "{error}"
    );
    for privilege in ["create", "update"] {
        let server = common::server(&[("prod/a", b"a")]);
        server.grant_on(ROLE, &[privilege], "policy:root");
        let error = refused(&server, &["prod/a"]);
        assert!(error.contains("it may do anything"), "{error}");
    }
}

#[test]
fn whatever_may_load_policy_above_a_variable_may_change_it() {
    for branch in ["prod", "prod/db"] {
        for privilege in ["create", "update"] {
            let server = server(&[("prod/db/a", b"a"), ("other/b", b"b")]);
            server.add_policy(branch);
            server.grant_on(ROLE, &[privilege], &format!("policy:{branch}"));
            let error = refused(&server, &["prod/db/a", "other/b"]);
            assert!(error.ends_with("(it may change prod/db/a)"), "{error}");
        }
    }
}

#[test]
fn a_token_that_ends_and_an_endpoint_that_fails_for_a_moment_keep_no_right_identity_from_starting()
{
    let server = server(&[("prod/a", b"a")]);
    let resolver = Resolver::builder(backend(&server)).require_least_privilege();
    let resolver = resolver.build().unwrap();
    drop(block_on(resolver.get("prod/a")).unwrap());
    // What is required is in the cache, and the token is dead.
    server.advance(SECOND * 1000);
    block_on(resolver.require(&["prod/a"])).unwrap();
    assert_eq!(server.count(Kind::Authenticate), 2);
    for fault in [Fault::Answer(Answer::new(503)), Fault::Close] {
        for kind in [Kind::Resources, Kind::Check] {
            let server = common::server(&[("prod/a", b"a")]);
            server.fault_next(kind, fault.clone());
            start(&server, backend(&server), &["prod/a"]).unwrap();
        }
    }
}

#[test]
fn a_no_with_a_text_is_a_no() {
    let server = server(&[("prod/a", b"a")]);
    let text = r#"{"error":{"code":"not_found","message":"CONJ00123E of the test's own making"}}"#;
    server.fault_always(Kind::Check, Fault::Answer(Answer::json(404, text)));
    start(&server, backend(&server), &["prod/a"]).unwrap();
}

#[test]
fn an_endpoint_that_does_not_say_it_is_no_proof_of_few_rights() {
    for (kind, answer, wanted) in [
        // An Edge has no such path, and "not found" elsewhere means "no".
        (Kind::Resources, Answer::new(404), ErrorKind::Misconfigured),
        (Kind::Resources, Answer::new(403), ErrorKind::Denied),
        (
            Kind::Resources,
            Answer::new(401),
            ErrorKind::Unauthenticated,
        ),
        (
            Kind::Resources,
            Answer::json(200, r#"{"count":"1"}"#),
            ErrorKind::Malformed,
        ),
        (
            Kind::Resources,
            Answer::json(200, r#"{"count":-1}"#),
            ErrorKind::Malformed,
        ),
        (Kind::Check, Answer::json(200, "{}"), ErrorKind::Malformed),
        (
            Kind::Check,
            Answer::json(404, "<html>"),
            ErrorKind::Malformed,
        ),
        (Kind::Check, Answer::new(500), ErrorKind::Unavailable),
    ] {
        let server = server(&[("prod/a", b"a")]);
        server.fault_always(kind, Fault::Answer(answer));
        let error = start(&server, backend(&server), &["prod/a"]).unwrap_err();
        assert_eq!(error.kind(), wanted, "{error}");
    }
}
