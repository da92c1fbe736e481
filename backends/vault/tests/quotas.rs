//! A real quota that is used up all the time: how much reaches the store, and what is reported.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use secret_resolver::{Clock, ErrorKind, Resolver};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::OpenBao;

/// Requests a second.
const QUOTA: u64 = 5;
const SECONDS: u64 = 8;

#[test]
fn a_quota_that_is_used_up_is_asked_once_a_second_by_each_waiter() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let rate = format!("rate={QUOTA}");
    let quota = [
        "write",
        "sys/quotas/rate-limit/reads",
        &rate,
        "path=secret/",
    ];
    server.run(&quota).unwrap();
    let target = target(&server, Auth::token(value(server.root_token())));
    let backend = VaultBackend::builder(target).build().unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    block_on(async {
        let begun = resolver.clock().now();
        // Each asks for its own names, which are not there, one after another.
        let ask = |task: usize| {
            let resolver = resolver.clone();
            tokio::spawn(async move {
                let mut kinds = Vec::new();
                let mut number = 0;
                while resolver.clock().now().since(begun) < SECOND * 8 {
                    number += 1;
                    let answer = resolver.get(&format!("app/{task}/{number}")).await;
                    kinds.push(answer.unwrap_err());
                    tokio::time::sleep(SECOND / 20).await;
                }
                kinds
            })
        };
        let tasks: Vec<_> = (0..50).map(ask).collect();
        let (mut answered, mut throttled) = (0, 0);
        for task in tasks {
            for error in task.await.unwrap() {
                match error.kind() {
                    ErrorKind::NotFound => answered += 1,
                    ErrorKind::Throttled => throttled += 1,
                    kind => panic!("{kind:?}"),
                }
            }
        }
        // What the quota grants is used. Beyond that each task asks about once a second, when the store was left
        // alone for one.
        let asked = resolver.status().fetches;
        let shown = format!("{asked} fetches, {answered} answered, {throttled} throttled");
        assert!(answered >= QUOTA * (SECONDS - 2) / 2, "{shown}");
        assert!(asked <= SECONDS * 55, "{shown}");
    });
}
