//! The laws that every resolver keeps, on a real OpenBao: the backend alone, and in the stack.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::*;
use secret_resolver::testing::conformance::{self, Subject};
use secret_resolver::{Clock, Resolver, SecretResolver};
use test_servers::OpenBao;

fn stored() -> [(&'static str, &'static str); 3] {
    [
        ("app/db#user", "app-canary"),
        ("app/db#password", "hunter2-canary"),
        ("app/token", "t0k3n-canary"),
    ]
}

fn seed(server: &OpenBao) {
    server
        .put(
            "app/db",
            &[("user", "app-canary"), ("password", "hunter2-canary")],
        )
        .unwrap();
    server
        .put("app/token", &[("value", "t0k3n-canary")])
        .unwrap();
}

async fn keeps_all(resolver: Arc<dyn SecretResolver>) {
    let subject = Subject::new(resolver, "app/no/such").unwrap();
    let add = |subject: Subject, (name, value)| subject.stores(name, value).unwrap();
    let subject = stored().into_iter().fold(subject, add);
    conformance::all(&subject).await.unwrap();
    conformance::after_shutdown_all_is_refused(&subject)
        .await
        .unwrap();
}

#[test]
fn the_backend_keeps_all_laws() {
    let (server, backend) = server_and_backend();
    seed(&server);
    block_on(keeps_all(Arc::new(backend)));
}

#[test]
fn the_backend_in_the_stack_keeps_all_laws() {
    let (server, backend) = server_and_backend();
    seed(&server);
    block_on(keeps_all(Arc::new(
        Resolver::builder(backend).build().unwrap(),
    )));
}

#[test]
fn the_status_shows_when_the_login_ends() {
    let (server, backend) = server_and_backend();
    seed(&server);
    let resolver = Resolver::builder(backend.clone()).build().unwrap();
    block_on(async {
        assert_eq!(resolver.status().login_ends, None);
        resolver.get("app/token").await.unwrap();
        let ends = resolver.status().login_ends.unwrap();
        assert!(ends > resolver.clock().now());
        assert_eq!(backend.identity(), 1);
    });
}
