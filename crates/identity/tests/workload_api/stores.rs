//! What a store's backend makes of an agent that lacks something: nothing that is held against the store.

use secret_resolver::backend::SystemClock;
use secret_resolver::testing::MockBackend;
use secret_resolver::{BreakerState, Clock, ErrorKind, Resolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Trust, VaultBackend, VaultTarget};
use test_servers::{Answer, Reply, ScriptedHttps, TestCa, Validity, WorkloadMethod, jwt_message};

use crate::support::*;

#[test]
fn own_an_agent_that_hangs_brings_no_fallback_into_use() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let server = ScriptedHttps::start(&own, |_| Reply::status(200)).unwrap();
    let world = World::new();
    world.api.answer(WorkloadMethod::JwtSvid, Answer::silence());
    world
        .api
        .answer(WorkloadMethod::X509Svid, Answer::silence());
    let identity = world.identity();
    let names: Vec<_> = (0..10).map(|number| format!("a/{number}")).collect();
    for shows in [false, true] {
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let auth = match shows {
            false => Auth::jwt("billing", identity.jwts(AUDIENCE).unwrap()),
            true => Auth::cert(),
        };
        let mut target = VaultTarget::new(server.origin(), trust, auth);
        if shows {
            target = target.with_client_certificate(identity.certificates().unwrap());
        }
        let mut fallback = MockBackend::new();
        for name in &names {
            fallback = fallback.with_value(name, "of the fallback");
        }
        let resolver = Resolver::builder(VaultBackend::builder(target).build().unwrap());
        let resolver = resolver.dangerous_fallback_to(fallback).build().unwrap();
        block_on(async {
            for _ in 0..2 {
                for answer in resolver.get_many(&names).await {
                    let error = answer.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
                }
            }
            let status = resolver.status();
            assert_eq!(status.fallback_answers, 0);
            assert!(
                status
                    .endpoints()
                    .all(|one| one.breaker == BreakerState::Closed)
            );
            assert_eq!(
                resolver.ready().unwrap_err().kind(),
                ErrorKind::Unauthenticated
            );
        });
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn own_an_agent_that_hangs_at_the_start_is_no_outage_however_short_the_time() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let [one, other] = [(); 2].map(|()| ScriptedHttps::start(&own, |_| Reply::status(200)));
    let (one, other) = (one.unwrap(), other.unwrap());
    for (deadline, endpoints) in [(SECOND, 1), (SECOND * 5, 2)] {
        let world = World::new();
        world
            .api
            .answer(WorkloadMethod::X509Svid, Answer::silence());
        let certificates = world.identity().certificates().unwrap();
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let mut target = VaultTarget::new(one.origin(), trust, Auth::cert());
        if endpoints > 1 {
            target = target.with_endpoint(other.origin());
        }
        let target = target.with_client_certificate(certificates);
        let names: Vec<_> = (0..30).map(|number| format!("a/{number}")).collect();
        let mut fallback = MockBackend::new();
        for name in &names {
            fallback = fallback.with_value(name, "of the fallback");
        }
        let resolver = Resolver::builder(VaultBackend::builder(target).build().unwrap());
        let resolver = resolver.with_deadline(deadline);
        let resolver = resolver.dangerous_fallback_to(fallback).build().unwrap();
        block_on(async {
            for answer in resolver.get_many(&names).await {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            }
        });
        let status = resolver.status();
        assert_eq!(status.fallback_answers, 0);
        let mut endpoints = status.endpoints();
        assert!(endpoints.all(|one| one.breaker == BreakerState::Closed));
    }
    assert_eq!(one.connections() + other.connections(), 0);
}

#[test]
fn own_what_the_agent_lacked_holds_back_no_login_once_it_is_there() {
    let world = World::new();
    let store = world.domain.svid("/store").unwrap().server_cert().unwrap();
    let server = ScriptedHttps::start(&store, Reply::of_a_willing_vault).unwrap();
    // No authorities are believed for a workload that is another.
    world.show(&[world.domain.svid("/other").unwrap()]);
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 3600).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    world
        .api
        .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
    let identity = world.identity();
    let trust = identity.trust(&world.domain.id("/store")).unwrap();
    let auth = Auth::jwt("billing", identity.jwts(AUDIENCE).unwrap());
    let backend = VaultBackend::builder(VaultTarget::new(server.origin(), trust, auth));
    let backend = backend.build().unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        // So many refusals of a store would hold logins back for several seconds.
        for _ in 0..100 {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            tokio::time::sleep(SECOND / 10).await;
        }
        assert_eq!(backend.stats().logins, 0);
        world.show(&[world.svid()]);
        until("the agent's word", async || {
            identity.status().last_update.is_some()
        })
        .await;
        let begun = clock.now();
        until("a read", async || backend.get("a").await.is_ok()).await;
        assert!(clock.now().since(begun) < SECOND * 2);
    });
}

#[test]
fn own_a_start_by_certificate_takes_one_login() {
    let world = World::new();
    let svid = world.svid();
    world.show(std::slice::from_ref(&svid));
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let server = ScriptedHttps::start(&own, Reply::of_a_willing_vault).unwrap();
    block_on(async {
        for _ in 0..5 {
            let certificates = world.identity().certificates().unwrap();
            let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
            let target = VaultTarget::new(server.origin(), trust, Auth::cert());
            let target = target.with_client_certificate(certificates);
            let backend = VaultBackend::builder(target).build().unwrap();
            for name in ["a", "b", "c"] {
                backend.get(name).await.unwrap();
            }
            assert_eq!(backend.stats().logins, 1);
        }
    });
}
