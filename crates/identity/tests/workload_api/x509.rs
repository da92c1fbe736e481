//! XS and HX: which X509-SVID is shown. Each SVID that must not be shown is followed by a good one: once that is shown, the bad one was
//! seen, and was not.

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, ErrorKind};
use secret_resolver_transport::{Client, Method, Origin, Request, Trust};
use test_servers::{
    Answer, Reply, ScriptedHttps, SvidFlaw, TestCa, TestSvid, TestTrustDomain, Validity,
    X509Message,
};

use crate::support::*;

#[test]
fn xs_01_and_02_the_handshake_shows_the_svid_and_the_authorities_below_the_root() {
    let world = World::new();
    let svid = world
        .domain
        .flawed_svid(PATH, SvidFlaw::Intermediate)
        .unwrap();
    world.show(std::slice::from_ref(&svid));
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    // It knows the root alone.
    let server =
        ScriptedHttps::start_demanding(&own, world.domain.ca(), |_| Reply::json(200, "{}"));
    let server = server.unwrap();
    block_on(async {
        let mut watched = Watched::new(world.identity());
        watched.until_shown(&svid).await;
        let origin = Origin::parse(&server.origin()).unwrap();
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let clock = std::sync::Arc::new(SystemClock::shared().unwrap());
        let client = Client::builder(trust, clock)
            .allow(origin.clone())
            .with_client_certificate(watched.source.clone())
            .build()
            .unwrap();
        let asked = Request::new(Method::Get, "/").unwrap();
        assert_eq!(client.send(&origin, asked).await.unwrap().status(), 200);
    });
    assert_eq!(server.requests()[0].client.as_ref(), svid.chain.first());
}

#[test]
fn xs_03_a_rotated_svid_is_shown_and_an_equal_one_is_no_rotation() {
    let world = World::new();
    block_on(async {
        let (mut watched, first) = world.showing().await;
        watched.shown.mark_unchanged();
        world.show(std::slice::from_ref(&first));
        let second = world.domain.flawed_svid(PATH, SvidFlaw::WithHost).unwrap();
        // In one piece, so that the equal one was seen before.
        world.show(std::slice::from_ref(&second));
        watched.shown.changed().await.unwrap();
        assert!(watched.shows(&second));
    });
}

#[test]
fn wa_03_the_configured_one_of_several_is_shown_wherever_it_stands() {
    let world = World::new();
    let mine = world.svid();
    let mut other = world.domain.svid("/other").unwrap();
    other.hint = "same".to_owned();
    let mut third = world.domain.svid("/third").unwrap();
    third.hint = "same".to_owned();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        world.show(&[other.clone(), third.clone(), mine.clone()]);
        watched.until_shown(&mine).await;
        let next = world.svid();
        world.show(&[next.clone(), other, third]);
        watched.until_shown(&next).await;
    });
}

#[test]
fn own_of_two_with_the_configured_id_the_first_is_shown() {
    let world = World::new();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let (first, second) = (world.svid(), world.svid());
        world.show(&[first.clone(), second]);
        watched.until_shown(&first).await;
    });
}

#[test]
fn own_a_message_without_the_configured_identity_withdraws_its_svid() {
    let world = World::new();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        world.show(&[world.domain.svid("/other").unwrap()]);
        let error = watched.until_none().await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        let text = error.to_string();
        assert!(
            text.contains(&world.id()) && text.contains("other identities"),
            "{text}"
        );
        assert_eq!(watched.identity.status().ends, None);
    });
    // The same path in another trust domain is another identity.
    let world = World::new();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        let other = TestTrustDomain::new("example.tests").unwrap();
        world.show(&[other.svid(PATH).unwrap()]);
        assert_eq!(
            watched.until_none().await.kind(),
            ErrorKind::Unauthenticated
        );
    });
}

#[test]
fn wa_02_a_message_without_a_mandatory_field_is_passed_over() {
    let world = World::new();
    let without = |change: fn(&mut TestSvid)| {
        let mut svid = world.svid();
        change(&mut svid);
        X509Message::of(&[svid]).encode()
    };
    let bad = [
        X509Message::default().encode(),
        without(|svid| svid.id.clear()),
        without(|svid| svid.chain.clear()),
        without(|svid| svid.key.clear()),
        without(|svid| svid.bundle.clear()),
    ];
    are_passed_over(&world, &bad);
    // Also where the one that lacks it is not ours.
    let mut other = world.domain.svid("/other").unwrap();
    other.key.clear();
    are_passed_over(&world, &[X509Message::of(&[world.svid(), other]).encode()]);
}

#[test]
fn hx_03_an_svid_that_has_ended_or_has_not_begun_is_passed_over() {
    flawed_are_passed_over(&[SvidFlaw::Ended, SvidFlaw::NotYetValid]);
}

#[test]
fn hx_04_and_05_an_svid_that_may_sign_certificates_is_passed_over() {
    flawed_are_passed_over(&[
        SvidFlaw::Authority,
        SvidFlaw::KeyCertSign,
        SvidFlaw::CrlSign,
        SvidFlaw::NoDigitalSignature,
    ]);
}

#[test]
fn hx_06_and_07_an_svid_with_another_number_or_kind_of_uris_is_passed_over() {
    flawed_are_passed_over(&[
        SvidFlaw::TwoUris,
        SvidFlaw::NoUri,
        SvidFlaw::OtherScheme,
        SvidFlaw::NoPath,
    ]);
}

#[test]
fn hx_08_a_key_that_is_not_the_svids_is_passed_over() {
    flawed_are_passed_over(&[SvidFlaw::OtherKey]);
}

#[test]
fn hx_09_the_identity_is_that_of_the_certificate() {
    let world = World::new();
    block_on(async {
        let (mut watched, _) = world.showing().await;
        // Another's certificate under our name.
        let mut other = world.domain.svid("/other").unwrap();
        other.id = world.id();
        world.show(&[other]);
        assert_eq!(
            watched.until_none().await.kind(),
            ErrorKind::Unauthenticated
        );
    });
}

#[test]
fn own_what_does_not_parse_is_passed_over() {
    let world = World::new();
    let changed = |change: &dyn Fn(&mut TestSvid)| {
        let mut svid = world.svid();
        change(&mut svid);
        X509Message::of(&[svid]).encode()
    };
    let bad = [
        changed(&|svid| svid.chain = vec![b"no certificate".to_vec()]),
        changed(&|svid| svid.chain[0].truncate(100)),
        changed(&|svid| svid.chain.push(b"and more".to_vec())),
        changed(&|svid| svid.key = b"no key".to_vec()),
        changed(&|svid| svid.key.truncate(40)),
        // SEC 1, as it stands in PKCS #8.
        changed(&|svid| svid.key = svid.key[27..].to_vec()),
        changed(&|svid| svid.bundle = b"no bundle".to_vec()),
        changed(&|svid| svid.chain = vec![svid.chain[0].clone(); 17]),
    ];
    are_passed_over(&world, &bad);
}

fn flawed_are_passed_over(flaws: &[SvidFlaw]) {
    let world = World::new();
    let bad = flaws.iter().map(|flaw| {
        let svid = world.domain.flawed_svid(PATH, *flaw).unwrap();
        X509Message::of(&[svid]).encode()
    });
    are_passed_over(&world, &bad.collect::<Vec<_>>());
}

/// After each of `messages` the SVID before it is still shown, and a good one after it is shown next; it is reported.
fn are_passed_over(world: &World, messages: &[Vec<u8>]) {
    block_on(async {
        for (number, message) in messages.iter().enumerate() {
            let (mut watched, before) = world.showing().await;
            let good = world.svid();
            watched.shown.mark_unchanged();
            assert_eq!(watched.failure(), None);
            world.api.push(Answer::message(message));
            until("its report", async || watched.failure().is_some()).await;
            assert!(watched.shows(&before), "{number}");
            world.show(std::slice::from_ref(&good));
            watched.shown.changed().await.unwrap();
            assert!(watched.shows(&good), "{number}");
        }
    });
}

#[test]
fn own_an_svid_is_shown_to_its_end_and_not_after_it() {
    let world = World::new();
    let clock = SystemClock::shared().unwrap();
    let svid = world.domain.svid_for(PATH, SECOND * 3).unwrap();
    world.show(std::slice::from_ref(&svid));
    block_on(async {
        let mut watched = Watched::new(world.identity());
        watched.until_shown(&svid).await;
        let ends = watched.identity.status().ends.unwrap();
        // An agent that goes, and one that says nothing, are the same to it.
        let error = watched.until_none().await;
        assert!(clock.now() + SECOND / 10 >= ends && clock.now() < ends + SECOND);
        assert!(error.to_string().contains("has ended"), "{error}");
    });
}
