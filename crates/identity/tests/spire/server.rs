//! A store whose own certificate is an SVID.

use secret_resolver::{ErrorKind, SecretResolverExt};
use secret_resolver_spiffe::SpiffeIdentity;
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::{Authority, OpenBao, Registration, Spire, SpireSettings, X509Svid};

use crate::stores::*;
use crate::support::*;

const STORE: &str = "/openbao";

/// A store that shows this workload's other identity, and the entry for that.
fn store(spire: &Spire) -> (OpenBao, String) {
    let entry = Registration::new(STORE, spire.uid());
    let entry = spire.register(&entry).unwrap();
    let svid = spire.until_issued(spire.uid(), STORE).unwrap();
    let mut server = OpenBao::start_durable().unwrap();
    trust(&server, spire);
    server.show(&svid.chain, &svid.key).unwrap();
    (server, entry)
}

fn backend(spire: &Spire, server: &OpenBao, id: &str) -> VaultBackend {
    let identity = identity(spire);
    let auth = Auth::jwt("billing", identity.jwts(AUDIENCE).unwrap());
    let target = VaultTarget::new(server.origin(), identity.trust(id).unwrap(), auth);
    VaultBackend::builder(target).build().unwrap()
}

/// Polls until a read is refused with this text: before the agent's first message it is another.
async fn refuses(backend: &VaultBackend, text: &str) {
    until(text, async || {
        let error = backend.get("app/a").await.unwrap_err();
        error.kind() == ErrorKind::Refused && error.to_string().contains(text)
    })
    .await;
}

async fn reads(backend: &VaultBackend) -> bool {
    let read = backend.get("app/a").await;
    read.is_ok_and(|read| read.expose_str().unwrap() == "v")
}

#[test]
fn the_workloads_trust_bundle_joins_no_stores_authorities() {
    let spire = spire();
    register(&spire);
    let host = Registration::new(STORE, spire.uid()).dns("localhost");
    spire.register(&host).unwrap();
    let svid = spire.until_issued(spire.uid(), STORE).unwrap();
    let mut server = OpenBao::start_durable().unwrap();
    trust(&server, &spire);
    server.show(&svid.chain, &svid.key).unwrap();
    let identity = identity(&spire);
    // The certificate is for this host, and of an authority that the agent gives; but the target names a file of others.
    let auth = Auth::jwt("billing", identity.jwts(AUDIENCE).unwrap());
    let origin = server.localhost_origin();
    let target = VaultTarget::new(origin.as_str(), server.ca_file(), auth);
    let target = target.with_client_certificate(identity.certificates().unwrap());
    let backend = VaultBackend::builder(target).build().unwrap();
    block_on(async {
        until("the agent's word", async || {
            identity.status().last_update.is_some()
        })
        .await;
        refuses(&backend, "vouches for the server's certificate").await;
    });
}

#[test]
fn a_store_with_an_svid_is_believed_by_its_exact_id_and_by_no_other() {
    let spire = spire();
    register(&spire);
    let (mut server, _) = store(&spire);
    let right = backend(&spire, &server, &spire.id(STORE));
    let wrong = backend(&spire, &server, &spire.id("/openbao-2"));
    block_on(async {
        until("a read", async || reads(&right).await).await;
        refuses(&wrong, "not that of the one identity").await;
        let error = wrong.get("app/a").await.unwrap_err();
        assert!(
            error.to_string().contains(&spire.id("/openbao-2")),
            "{error}"
        );
        // A certificate for the host, from the same trust domain, is another identity.
        let own = spire.until_issued(spire.uid(), PATH).unwrap();
        server.show(&own.chain, &own.key).unwrap();
        let fresh = backend(&spire, &server, &spire.id(STORE));
        until("the other certificate", async || {
            let read = fresh.get("app/a").await;
            read.is_err_and(|error| error.to_string().contains("not that of the one identity"))
        })
        .await;
    });
}

#[test]
fn a_store_follows_its_trust_domain_to_another_authority_and_ends_with_the_identity() {
    let spire = spire();
    let entry = register(&spire);
    let (mut server, _) = store(&spire);
    let backend = backend(&spire, &server, &spire.id(STORE));
    let old = spire.authorities(Authority::X509).unwrap().active.unwrap();
    block_on(async {
        until("a read", async || reads(&backend).await).await;
        let new = spire.prepare(Authority::X509).unwrap();
        spire.activate(Authority::X509, &new).unwrap();
        let shown: X509Svid = spire.until_issued(spire.uid(), STORE).unwrap();
        spire.taint(Authority::X509, &old).unwrap();
        let svid = spire.until_rotated(spire.uid(), &shown).unwrap();
        server.show(&svid.chain, &svid.key).unwrap();
        // The old one is not revoked: an agent that has not replaced its own certificate yet would be locked out.
        until("a read by the other authority", async || {
            reads(&backend).await
        })
        .await;
        spire.delete(&entry).unwrap();
        // The authorities are given to who has an identity.
        until("the end", async || {
            let read = backend.get("app/a").await;
            read.is_err_and(|error| error.kind() == ErrorKind::Unauthenticated)
        })
        .await;
    });
}

#[test]
fn a_store_of_another_trust_domain_is_believed_by_that_domains_authorities_alone() {
    let spire = spire();
    let others = SpireSettings::new("other.test").start().unwrap();
    spire.federate(&others).unwrap();
    let federated = entry(&spire).federates_with("other.test");
    spire.register(&federated).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    // The same path in both domains.
    let [own, other] = [&spire, &others].map(|domain| {
        let entry = Registration::new(STORE, domain.uid());
        domain.register(&entry).unwrap();
        domain.until_issued(domain.uid(), STORE).unwrap()
    });
    let mut server = OpenBao::start_durable().unwrap();
    trust(&server, &spire);
    server.show(&other.chain, &other.key).unwrap();
    let right = backend(&spire, &server, &others.id(STORE));
    let wrong = backend(&spire, &server, &spire.id(STORE));
    let third = backend(&spire, &server, "spiffe://third.test/openbao");
    block_on(async {
        until("a read", async || reads(&right).await).await;
        refuses(&wrong, "vouches for the server's certificate").await;
        refuses(&third, "federate").await;
        server.show(&own.chain, &own.key).unwrap();
        until("the other certificate", async || reads(&wrong).await).await;
        let fresh = backend(&spire, &server, &others.id(STORE));
        refuses(&fresh, "vouches for the server's certificate").await;
    });
}

#[test]
fn what_is_no_workloads_id_names_no_server() {
    let identity = SpiffeIdentity::builder("spiffe://example.test/billing", "/run/none.sock");
    let identity = identity.build().unwrap();
    for wrong in [
        "spiffe://example.test",
        "openbao",
        "https://example.test/a",
        "",
    ] {
        let error = identity.trust(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{wrong}");
    }
}
