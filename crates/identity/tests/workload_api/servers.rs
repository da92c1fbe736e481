//! XS, XV and XF of a server that is believed by its SPIFFE ID.

use std::sync::Arc;

use secret_resolver::ErrorKind;
use secret_resolver::backend::SystemClock;
use secret_resolver_spiffe::SpiffeIdentity;
use secret_resolver_transport::{Client, Method, Origin, Request};
use test_servers::{
    Answer, Reply, ScriptedHttps, SvidFlaw, TestSvid, TestTrustDomain, WorkloadMethod, X509Message,
};

use crate::support::*;

const STORE: &str = "/store";

/// Whether a server that shows `svid` is believed to be the store; `None` while there are no authorities.
async fn is_believed(world: &World, identity: &SpiffeIdentity, svid: &TestSvid) -> Option<bool> {
    is_believed_as(&world.domain.id(STORE), identity, svid).await
}

async fn is_believed_as(id: &str, identity: &SpiffeIdentity, svid: &TestSvid) -> Option<bool> {
    let server = ScriptedHttps::start(&svid.server_cert().unwrap(), |_| Reply::json(200, "{}"));
    let server = server.unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let trust = identity.trust(id).unwrap();
    let clock = Arc::new(SystemClock::shared().unwrap());
    let client = Client::builder(trust, clock)
        .allow(origin.clone())
        .build()
        .unwrap();
    let asked = Request::new(Method::Get, "/").unwrap();
    match client.send(&origin, asked).await {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::Unauthenticated => None,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            Some(false)
        }
    }
}

#[test]
fn xs_04_and_05_each_authority_of_the_bundle_is_believed_until_a_message_leaves_it_out() {
    let world = World::new();
    let second = TestTrustDomain::new("example.test").unwrap();
    let stores = [&world.domain, &second].map(|domain| domain.svid(STORE).unwrap());
    let mut svid = world.svid();
    svid.bundle.extend(second.bundle());
    world.show(std::slice::from_ref(&svid));
    block_on(async {
        let mut watched = Watched::new(world.identity());
        watched.until_shown(&svid).await;
        let identity = watched.identity.clone();
        for store in &stores {
            until("belief", async || {
                is_believed(&world, &identity, store).await == Some(true)
            })
            .await;
        }
        let next = world.svid();
        world.show(std::slice::from_ref(&next));
        watched.until_shown(&next).await;
        until("an end of belief", async || {
            is_believed(&world, &identity, &stores[1]).await == Some(false)
        })
        .await;
        assert_eq!(is_believed(&world, &identity, &stores[0]).await, Some(true));
    });
}

#[test]
fn xv_a_server_whose_certificate_is_no_svid_of_the_store_is_not_believed() {
    let world = World::new();
    block_on(async {
        let (watched, _) = world.showing().await;
        let identity = &watched.identity;
        let good = world.domain.svid(STORE).unwrap();
        until("belief", async || {
            is_believed(&world, identity, &good).await == Some(true)
        })
        .await;
        for (id, flaw, wanted) in [
            ("XV-2", SvidFlaw::Intermediate, true),
            ("XV-3", SvidFlaw::WithHost, true),
            ("XV-5", SvidFlaw::OtherAuthority, false),
            ("XV-6", SvidFlaw::Ended, false),
            ("XV-7", SvidFlaw::NotYetValid, false),
            ("XV-8", SvidFlaw::Authority, false),
            ("XV-9", SvidFlaw::KeyCertSign, false),
            ("XV-10", SvidFlaw::CrlSign, false),
            ("XV-11", SvidFlaw::TwoUris, false),
            ("XV-12", SvidFlaw::NoUri, false),
            ("XV-13", SvidFlaw::OtherScheme, false),
            ("XV-14", SvidFlaw::NoPath, false),
        ] {
            let svid = world.domain.flawed_svid(STORE, flaw).unwrap();
            let believed = is_believed(&world, identity, &svid).await;
            assert_eq!(believed, Some(wanted), "{id}");
        }
        // XV-15: our authority has signed for another trust domain.
        let other = world.domain.svid_of("spiffe://other.test/store").unwrap();
        assert_eq!(is_believed(&world, identity, &other).await, Some(false));
    });
}

#[test]
fn own_without_an_identity_no_server_is_believed() {
    let world = World::new();
    let store = world.domain.svid(STORE).unwrap();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let identity = watched.identity.clone();
        until("belief", async || {
            is_believed(&world, &identity, &store).await == Some(true)
        })
        .await;
        let denial = || Answer::status(PERMISSION_DENIED, "");
        world.api.answer(WorkloadMethod::X509Svid, denial());
        world.api.push(denial());
        drop(watched.until_none().await);
        assert_eq!(is_believed(&world, &identity, &store).await, None);
        // Nor is one whose entry was replaced by another's.
        let other = world.domain.svid("/other").unwrap();
        world.show(std::slice::from_ref(&other));
        assert_eq!(is_believed(&world, &identity, &store).await, None);
    });
}

#[test]
fn xf_a_store_of_another_trust_domain_is_believed_by_that_ones_authorities_while_a_message_has_them()
 {
    let world = World::new();
    let other = TestTrustDomain::new("other.test").unwrap();
    let id = other.id(STORE);
    let store = other.svid(STORE).unwrap();
    let federated = vec![(other.id(""), other.bundle())];
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let identity = watched.identity.clone();
        let with = |svid: &TestSvid, federated: &[(String, Vec<u8>)]| X509Message {
            svids: vec![svid.clone()],
            federated: federated.to_vec(),
        };
        let next = world.svid();
        world.api.show(&with(&next, &federated));
        watched.until_shown(&next).await;
        // XF-1.
        until("belief", async || {
            is_believed_as(&id, &identity, &store).await == Some(true)
        })
        .await;
        // XF-2: each authority vouches for its own domain alone.
        let ours_as_theirs = world.domain.svid_of(&id).unwrap();
        let theirs_as_ours = other.svid_of(&world.domain.id(STORE)).unwrap();
        assert_eq!(
            is_believed_as(&id, &identity, &ours_as_theirs).await,
            Some(false)
        );
        assert_eq!(
            is_believed(&world, &identity, &theirs_as_ours).await,
            Some(false)
        );
        // XF-3.
        let last = world.svid();
        world.api.show(&with(&last, &[]));
        watched.until_shown(&last).await;
        until("an end of belief", async || {
            is_believed_as(&id, &identity, &store).await == Some(false)
        })
        .await;
    });
}
