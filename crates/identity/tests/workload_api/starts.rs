//! How it begins, and begins again: the first read, an agent that is away, one that stands still, and code that panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secret_resolver::backend::{Sleep, SystemClock};
use secret_resolver::{Clock, ErrorKind, Moment};
use secret_resolver_spiffe::SpiffeIdentity;
use secret_resolver_transport::{CertificateSource, Client, Method, Origin, Request, Trust};
use test_servers::{
    Answer, Reply, ScriptedHttps, TestCa, Validity, WorkloadMethod, X509Message, jwt_message,
};

use crate::support::*;

#[test]
fn own_the_first_read_waits_for_the_agents_first_word() {
    let world = World::new();
    let store = world.domain.svid("/store").unwrap().server_cert().unwrap();
    let server = ScriptedHttps::start_demanding(&store, world.domain.ca(), |_| Reply::status(200));
    let server = server.unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    block_on(async {
        for _ in 0..20 {
            // Built just before: nothing was heard yet.
            world.show(&[world.svid()]);
            let identity = world.identity();
            let trust = identity.trust(&world.domain.id("/store")).unwrap();
            let clock = Arc::new(SystemClock::shared().unwrap());
            let client = Client::builder(trust, clock).allow(origin.clone());
            let client = client.with_client_certificate(identity.certificates().unwrap());
            let asked = Request::new(Method::Get, "/").unwrap();
            let answer = client.build().unwrap().send(&origin, asked).await;
            assert_eq!(answer.unwrap().status(), 200);
        }
    });
}

#[test]
fn own_an_agent_that_is_away_is_said_by_each_source_and_is_no_outage_of_a_store() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let server = ScriptedHttps::start(&own, |_| Reply::status(200)).unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.sock");
    let id = world.id();
    let mut identity = secret_resolver_spiffe::SpiffeIdentity::builder(&id, &none).with_agent_uid(
        std::os::unix::fs::MetadataExt::uid(&folder.path().metadata().unwrap()),
    );
    for above in none.ancestors().skip(1) {
        identity = identity.with_sticky_folder(above);
    }
    let identity = identity.build().unwrap();
    let given = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let believed = identity.trust(&world.domain.id("/store")).unwrap();
    block_on(async {
        let by_jwt = jwt(&identity.jwts(AUDIENCE).unwrap()).await.unwrap_err();
        let mut errors = vec![by_jwt];
        for (trust, shows) in [(given, true), (believed, false)] {
            let clock = Arc::new(SystemClock::shared().unwrap());
            let mut client = Client::builder(trust, clock).allow(origin.clone());
            if shows {
                client = client.with_client_certificate(identity.certificates().unwrap());
            }
            let asked = Request::new(Method::Get, "/").unwrap();
            errors.push(
                client
                    .build()
                    .unwrap()
                    .send(&origin, asked)
                    .await
                    .unwrap_err(),
            );
        }
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(error.is_held_back(), "{error}");
            assert!(error.to_string().contains("no agent's socket"), "{error}");
        }
    });
    assert_eq!(server.connections(), 0);
}

#[test]
fn own_an_agent_that_stands_still_is_asked_again_once_there_is_nothing_to_show() {
    let world = World::new();
    let short = world.domain.svid_for(PATH, SECOND * 2).unwrap();
    let next = world.svid();
    let stands_still = Answer::message(&X509Message::of(std::slice::from_ref(&short)).encode());
    world
        .api
        .answer_once(WorkloadMethod::X509Svid, stands_still);
    world.show(std::slice::from_ref(&next));
    block_on(async {
        let mut watched = Watched::new(world.identity());
        watched.until_shown(&short).await;
        drop(watched.until_none().await);
        watched.until_shown(&next).await;
    });
}

/// It panics once on the identity's thread, when it is to.
#[derive(Clone, Debug)]
struct Panicking {
    clock: SystemClock,
    panics: Arc<AtomicBool>,
}

impl Clock for Panicking {
    fn now(&self) -> Moment {
        let is_there = std::thread::current().name() == Some("secrets-spiffe");
        assert!(!is_there || !self.panics.swap(false, Ordering::AcqRel));
        self.clock.now()
    }

    fn sleep_until(&self, until: Moment) -> Sleep {
        self.clock.sleep_until(until)
    }
}

/// An identity that is timed by it.
fn panicking(world: &World) -> (Panicking, SpiffeIdentity) {
    let clock = Panicking {
        clock: SystemClock::shared().unwrap(),
        panics: Arc::default(),
    };
    let identity = world.builder(&world.id()).with_clock(clock.clone());
    (clock, identity.build().unwrap())
}

#[test]
fn own_a_panic_of_the_applications_clock_is_not_the_end_of_the_identity() {
    let world = World::new();
    let (clock, identity) = panicking(&world);
    block_on(async {
        let first = world.svid();
        world.show(std::slice::from_ref(&first));
        let mut watched = Watched::new(identity);
        watched.until_shown(&first).await;
        clock.panics.store(true, Ordering::Release);
        world.show(&[world.svid()]);
        until("the panic", async || !clock.panics.load(Ordering::Acquire)).await;
        // It follows the agent again.
        let next = world.svid();
        world.show(std::slice::from_ref(&next));
        watched.until_shown(&next).await;
        until("the begin", async || !watched.source.is_starting()).await;
    });
}

#[test]
fn own_a_panic_of_the_clock_keeps_no_withdrawn_svid() {
    let world = World::new();
    let (clock, identity) = panicking(&world);
    block_on(async {
        let first = world.svid();
        world.show(std::slice::from_ref(&first));
        let mut watched = Watched::new(identity);
        watched.until_shown(&first).await;
        // The message is done with: another one meets the panic.
        until("the begin", async || !watched.source.is_starting()).await;
        let denial = || Answer::status(PERMISSION_DENIED, "");
        // The agent says it once.
        world
            .api
            .answer(WorkloadMethod::X509Svid, Answer::silence());
        clock.panics.store(true, Ordering::Release);
        world.api.push(denial());
        let error = watched.until_none().await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    });
}

#[test]
fn own_a_panic_of_the_clock_keeps_no_denied_jwt_svid() {
    let world = World::new();
    let (clock, identity) = panicking(&world);
    let source = identity.jwts(AUDIENCE).unwrap();
    let token = world.domain.jwt(PATH, AUDIENCE, SECOND * 8).unwrap();
    let message = jwt_message(&[(&world.id(), &token)]);
    world
        .api
        .answer(WorkloadMethod::JwtSvid, Answer::one(&message));
    block_on(async {
        jwt(&source).await.unwrap();
        tokio::time::sleep(SECOND * 9 / 2).await;
        let denial = Answer::status(PERMISSION_DENIED, "");
        world.api.answer(WorkloadMethod::JwtSvid, denial);
        clock.panics.store(true, Ordering::Release);
        until("the denial", async || jwt(&source).await.is_err()).await;
        // The first was enough.
        assert_eq!(world.api.calls(WorkloadMethod::JwtSvid), 2);
    });
}

#[test]
fn own_a_stream_that_is_begun_again_knows_nothing_of_the_one_before() {
    let world = World::new();
    let identity = world.identity();
    block_on(async {
        for round in 0..100 {
            world.show(&[world.svid()]);
            let source = identity.certificates().unwrap();
            until("the first word", async || !source.is_starting()).await;
            assert!(identity.status().ends.is_some(), "{round}");
            // The job of the one before may still be at a message.
            world.show(&[world.svid()]);
            drop(source);
            world
                .api
                .answer_once(WorkloadMethod::X509Svid, Answer::silence());
            let next = identity.certificates().unwrap();
            let calls = || world.api.calls(WorkloadMethod::X509Svid);
            until("the silence", async || calls() == 2 * (round + 1)).await;
            // Time for the job of the one before, if it still runs.
            tokio::time::sleep(SECOND / 200).await;
            assert!(next.is_starting() && next.subscribe().borrow().is_err());
            assert_eq!(identity.status().ends, None, "{round}");
            drop(next);
        }
    });
}
