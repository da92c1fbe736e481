//! What a running OpenBao says, status by status, and what this backend makes of it: the table of
//! `answers.rs` where the server can be made to answer like that, and tokens that it issues for a limited use.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use secret_resolver::backend::{NameRef, Request, SystemClock};
use secret_resolver::{Clock, ErrorKind, SecretBuf, SecretResolver, SecretResolverExt};
use secret_resolver_transport::{self as transport, Client, Method, Origin, Trust};
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::OpenBao;

/// The kind and the status with which a get ends, with this token at this target.
fn answered(
    server: &OpenBao,
    token: &str,
    change: impl Fn(VaultTarget) -> VaultTarget,
) -> (ErrorKind, Option<u16>) {
    let target = change(target(server, Auth::token(value(token))));
    let backend = VaultBackend::builder(target).build().unwrap();
    let error = block_on(backend.get("app/a")).unwrap_err();
    (error.kind(), error.status())
}

fn login(
    server: &OpenBao,
    change: impl Fn(Auth) -> Auth,
    secret_id: &str,
) -> (ErrorKind, Option<u16>) {
    let role = reader(server, HOUR, HOUR);
    let auth = change(Auth::approle(value(&role.role_id), value(secret_id)));
    let backend = VaultBackend::builder(target(server, auth)).build().unwrap();
    let error = block_on(backend.get("app/a")).unwrap_err();
    (error.kind(), error.status())
}

#[test]
fn each_status_of_the_running_server_is_what_the_table_says() {
    use ErrorKind::{Denied, Misconfigured, NotFound, Unauthenticated, Unavailable};
    let server = OpenBao::start().unwrap();
    let root = server.root_token();
    reader(&server, HOUR, HOUR);
    let none = server.token(&["default"], HOUR).unwrap();
    let same = |target: VaultTarget| target;
    assert_eq!(answered(&server, root, same), (NotFound, Some(404)));
    server.put("app/a", &[("value", "v")]).unwrap();
    assert_eq!(answered(&server, &none, same), (Denied, Some(403)));
    assert_eq!(
        answered(&server, "no-token", same),
        (Unauthenticated, Some(403))
    );
    let nowhere = |target: VaultTarget| target.with_mount("no/such/mount");
    assert_eq!(answered(&server, root, nowhere), (Misconfigured, Some(404)));
    let no_space = |target: VaultTarget| target.with_namespace("no-such-space");
    assert_eq!(answered(&server, root, no_space).1, Some(404));
    server
        .run(&["kv", "delete", "-mount=secret", "app/a"])
        .unwrap();
    assert_eq!(answered(&server, root, same), (NotFound, Some(404)));

    let given = |auth: Auth| auth;
    assert_eq!(login(&server, given, "wrong"), (Unauthenticated, Some(400)));
    let elsewhere = |auth: Auth| auth.with_mount("no/such/mount");
    assert_eq!(login(&server, elsewhere, "x"), (Unauthenticated, Some(403)));

    server.run(&["namespace", "create", "team"]).unwrap();
    server.run(&["namespace", "lock", "team"]).unwrap();
    let locked = |target: VaultTarget| target.with_namespace("team");
    assert_eq!(answered(&server, root, locked), (Unavailable, Some(503)));
    server.seal().unwrap();
    assert_eq!(answered(&server, root, same), (Unavailable, Some(503)));
}

#[test]
fn a_store_that_is_turned_into_version_2_passes() {
    const SECRETS: usize = 1500;
    let server = OpenBao::start().unwrap();
    server
        .run(&["secrets", "enable", "-path=old", "-version=1", "kv"])
        .unwrap();
    block_on(fill(&server, SECRETS));
    let target = target(&server, Auth::token(value(server.root_token()))).with_mount("old");
    let backend = VaultBackend::builder(target).build().unwrap();
    let done = AtomicBool::new(false);
    let kinds = std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| {
            server.run(&["kv", "enable-versioning", "old"]).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        let kinds = block_on(async {
            let mut kinds = Vec::new();
            loop {
                let upgraded = done.load(Ordering::SeqCst);
                let request = Request::new(NameRef::parse("k7").unwrap());
                match backend.resolve(request).await {
                    Ok(_) if upgraded => break,
                    Ok(_) => {}
                    Err(error) => kinds.push((error.kind(), error.status())),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            kinds
        });
        upgrade.join().unwrap();
        kinds
    });
    // Before, a version 1 store has no such path. Meanwhile it passes.
    let before = (ErrorKind::NotFound, Some(404));
    let meanwhile = (ErrorKind::Unavailable, Some(400));
    assert!(
        kinds.iter().all(|kind| [before, meanwhile].contains(kind)),
        "{kinds:?}"
    );
    assert!(
        kinds.contains(&meanwhile),
        "it was over before it was seen: {kinds:?}"
    );
}

/// Writes this many secrets to the version 1 store. By requests: a process for each would take a minute.
async fn fill(server: &OpenBao, number: usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let origin = Origin::parse(&server.origin()).unwrap();
    let trust = Trust::from_file(server.ca_file()).unwrap();
    let client = Client::builder(trust, clock).allow(origin.clone());
    let client = Arc::new(client.build().unwrap());
    let writers = (0..8).map(|writer| {
        let (client, origin, token) = (
            Arc::clone(&client),
            origin.clone(),
            server.root_token().to_owned(),
        );
        tokio::spawn(async move {
            for at in (writer..number).step_by(8) {
                let body = SecretBuf::from_slice(br#"{"value":"x"}"#).unwrap();
                let write =
                    transport::Request::new(Method::Post, &format!("/v1/old/k{at}")).unwrap();
                let write = write
                    .with_secret_header("X-Vault-Token", token.as_bytes())
                    .unwrap();
                let write = write.with_body("application/json", body);
                assert_eq!(client.send(&origin, write).await.unwrap().status(), 204);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}
