//! Sources of JWTs that hang or are slow: that is no outage of the store, so it opens no breaker and permits no fallback.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::*;
use secret_resolver::testing::{ManualClock, MockBackend};
use secret_resolver::{BreakerState, Error, ErrorKind, Resolver, ResolverBuilder, SecretBuf};
use secret_resolver_vault::{
    Auth, CertificateSource, ClientCertificate, Jwt, JwtFuture, JwtSource, Trust, VaultBackend,
    VaultTarget,
};
use test_servers::{Reply, RequestHead, ScriptedHttps, ServerCert, TestCa, Validity};
use tokio::sync::{Semaphore, watch};

/// Gives its JWT once there is a permit, and takes some time for it.
#[derive(Debug)]
struct Slow {
    open: Semaphore,
    takes: Duration,
    /// Questions that were asked, and those that still wait.
    asked: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

impl Slow {
    fn new(permits: usize, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            open: Semaphore::new(permits),
            takes,
            asked: AtomicUsize::new(0),
            waiting: Arc::default(),
        })
    }

    fn hangs() -> Arc<Self> {
        Self::new(0, Duration::ZERO)
    }
}

/// Counts while it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl JwtSource for Slow {
    fn jwt(&self) -> JwtFuture<'_> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(Arc::clone(&self.waiting));
        JwtFuture::new(async move {
            let _counted = counted;
            drop(self.open.acquire().await);
            tokio::time::sleep(self.takes).await;
            Jwt::new(SecretBuf::from_slice(b"ab.cd.ef")?)
        })
    }
}

fn names(from: usize) -> Vec<String> {
    let numbers = from..from + 30;
    numbers.map(|number| format!("a/{number}")).collect()
}

/// A resolver with a fallback for all names.
fn resolver(target: VaultTarget) -> Resolver {
    with_fallback(target).build().unwrap()
}

fn with_fallback(target: VaultTarget) -> ResolverBuilder {
    let mut fallback = MockBackend::new();
    for name in names(0).into_iter().chain(names(30)) {
        fallback = fallback.with_value(&name, "of the fallback");
    }
    let backend = VaultBackend::builder(target).build().unwrap();
    Resolver::builder(backend).dangerous_fallback_to(fallback)
}

/// All of these fail for want of a credential, and nothing is held against the store.
async fn are_without_credential(resolver: &Resolver, names: &[String]) {
    for answer in resolver.get_many(names).await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.is_held_back(), "{error}");
    }
    is_well(resolver);
}

fn is_well(resolver: &Resolver) {
    let status = resolver.status();
    assert_eq!(status.fallback_answers, 0);
    let mut endpoints = status.endpoints();
    assert!(endpoints.all(|one| one.breaker == BreakerState::Closed));
}

#[test]
fn a_source_that_hangs_is_no_outage_at_any_time_and_its_questions_do_not_pile_up() {
    let fake = Fake::start();
    let source = Slow::hangs();
    let resolver = resolver(fake.target(Auth::jwt("billing", Arc::clone(&source))));
    block_on(async {
        let clock = resolver.clock();
        let begun = clock.now();
        are_without_credential(&resolver, &names(0)).await;
        // The first question is given up after twelve seconds, while these wait for it.
        let before = Duration::from_secs(11).saturating_sub(clock.now().since(begun));
        tokio::time::sleep(before).await;
        are_without_credential(&resolver, &names(30)).await;
        are_without_credential(&resolver, &names(0)).await;
        assert_eq!(source.asked.load(Ordering::Acquire), 2);
        assert_eq!(source.waiting.load(Ordering::Acquire), 1);
        // A shutdown waits for none of them.
        let begun = clock.now();
        let report = resolver.shutdown_within(Duration::from_secs(10)).await;
        assert!(clock.now().since(begun) < Duration::from_secs(5));
        assert!(!report.timed_out && report.not_revoked == 0, "{report:?}");
    });
    assert_eq!(fake.server.requests().len(), 0);
}

/// A store that is well, and takes so long for each answer.
fn takes(certificate: &ServerCert, milliseconds: u64) -> ScriptedHttps {
    ScriptedHttps::start(certificate, move |request: &RequestHead| {
        std::thread::sleep(Duration::from_millis(milliseconds));
        Reply::of_a_willing_vault(request)
    })
    .unwrap()
}

#[test]
fn a_source_that_leaves_the_store_too_little_time_is_no_outage_of_the_store() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let server = takes(&certificate, 350);
    // An attempt has two seconds; login and read take 0.7 of them.
    let source = Slow::new(1, Duration::from_millis(1400));
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let auth = Auth::jwt("billing", source);
    let target = VaultTarget::new(server.origin(), trust, auth);
    let resolver = with_fallback(target).with_attempts(1).build().unwrap();
    block_on(async {
        are_without_credential(&resolver, &names(0)[..1]).await;
        // Its login goes on, and then there is a token.
        for answer in resolver.get_many(&names(30)).await {
            assert_eq!(text(answer), "v");
        }
    });
    is_well(&resolver);
}

/// More names than the retry budget has retries: no try of these is one, as nothing was sent.
#[test]
fn a_credential_that_comes_late_in_an_attempt_costs_no_name_its_answer() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    // How many endpoints, and how long source and store take: with two endpoints an attempt has a second, else two. Either the
    // login, or the reads after it, end in another attempt.
    for (number, source, store) in [
        (2, 700, 200),
        (2, 1500, 100),
        (1, 1600, 350),
        (1, 2500, 100),
    ] {
        let servers = [(); 2].map(|()| takes(&certificate, store));
        let slow = Slow::new(1, Duration::from_millis(source));
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let mut target = VaultTarget::new(servers[0].origin(), trust, Auth::jwt("billing", slow));
        if number == 2 {
            target = target.with_endpoint(servers[1].origin());
        }
        let resolver = resolver(target);
        block_on(async {
            for answer in resolver.get_many(&names(0)).await {
                assert_eq!(text(answer), "v", "{source}");
            }
        });
        is_well(&resolver);
    }
}

/// A token that dies, at a store that takes more than half of an attempt to say so.
#[test]
fn a_source_that_hangs_when_most_of_the_time_is_gone_is_no_outage() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    for attempts in [1, 3] {
        let is_dead = Arc::new(AtomicBool::new(false));
        let script = {
            let is_dead = Arc::clone(&is_dead);
            move |request: &RequestHead| {
                if is_dead.load(Ordering::Acquire) && !request.target.ends_with("/login") {
                    std::thread::sleep(Duration::from_millis(550));
                    return Reply::json(403, r#"{"errors":["permission denied"]}"#);
                }
                Reply::of_a_willing_vault(request)
            }
        };
        let server = ScriptedHttps::start(&certificate, script).unwrap();
        let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let source = Slow::new(1, Duration::ZERO);
        let auth = Auth::jwt("billing", Arc::clone(&source));
        let target = VaultTarget::new(server.origin(), trust, auth);
        let resolver = with_fallback(target).with_attempts(attempts);
        let resolver = resolver.build().unwrap();
        block_on(async {
            assert_eq!(text(resolver.get("a/well").await), "v");
            is_dead.store(true, Ordering::Release);
            source.open.forget_permits(1);
            are_without_credential(&resolver, &names(0)[..6]).await;
        });
    }
}

/// A source that says why it gives nothing, until it is mended.
#[derive(Debug)]
struct Says(ErrorKind, AtomicBool);

impl JwtSource for Says {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::ready(match self.1.load(Ordering::Acquire) {
            true => SecretBuf::from_slice(b"ab.cd.ef").and_then(Jwt::new),
            false => Err(Error::new(self.0, "the source's own reason")),
        })
    }
}

async fn until_read(resolver: &Resolver) {
    for _ in 0..200 {
        if resolver.get("app/a").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no read in four seconds");
}

#[test]
fn whatever_a_source_says_opens_no_breaker_and_ends_with_it() {
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Denied,
        ErrorKind::Throttled,
        ErrorKind::Malformed,
        ErrorKind::Refused,
        ErrorKind::Misconfigured,
        ErrorKind::Overloaded,
    ] {
        let fake = Fake::start();
        let source = Arc::new(Says(kind, AtomicBool::new(false)));
        let resolver = resolver(fake.target(Auth::jwt("billing", Arc::clone(&source))));
        block_on(async {
            for name in names(0) {
                assert!(resolver.get(&name).await.is_err(), "{kind:?}");
            }
            is_well(&resolver);
            assert_eq!(fake.server.requests().len(), 0, "{kind:?}");
            source.1.store(true, Ordering::Release);
            // What was not sent holds a login back for a second at most, and a configuration that is wrong for a little longer.
            until_read(&resolver).await;
        });
    }
}

#[test]
fn a_process_that_is_stopped_while_it_waits_for_a_credential_goes_on_waiting() {
    let fake = Fake::start();
    let clock = ManualClock::strict();
    let source = Slow::hangs();
    let auth = Auth::jwt("billing", Arc::clone(&source));
    let backend = VaultBackend::builder(fake.target(auth)).with_clock(clock.clone());
    let resolver = Resolver::builder(backend.build().unwrap()).with_clock(clock.clone());
    let resolver = resolver.with_deadline(Duration::from_secs(20)).build();
    let resolver = resolver.unwrap();
    block_on(async {
        let get = tokio::spawn({
            let resolver = resolver.clone();
            async move { resolver.get("a/0").await }
        });
        until("a question", || source.asked.load(Ordering::Acquire) > 0).await;
        clock.stall(Duration::from_secs(10));
        // Time for an answer that the stop would have brought.
        tokio::time::sleep(Duration::from_millis(200)).await;
        source.open.add_permits(1);
        assert_eq!(text(get.await.unwrap()), "v");
    });
}

/// A certificate that is good, and looks for a newer one that hang until the test ends.
#[derive(Debug)]
struct HangingLooks {
    shown: watch::Sender<Result<ClientCertificate, Error>>,
    looks: AtomicUsize,
    end: Mutex<mpsc::Receiver<()>>,
}

impl CertificateSource for HangingLooks {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.shown.subscribe()
    }

    fn look_again(&self) {
        self.looks.fetch_add(1, Ordering::AcqRel);
        let _ = self.end.lock().unwrap().recv();
    }
}

/// Neither a login nor a connection waits for them, nor the look for other authorities, and they take no thread from others: names are
/// resolved on the same ones.
#[test]
fn looks_for_a_certificate_that_hang_hold_up_nothing() {
    let [ca, next] = [(); 2].map(|()| TestCa::new(Validity::CURRENT).unwrap());
    let [server, other] = [&ca, &next].map(|ca| {
        let certificate = ca.issue(&["localhost"], Validity::CURRENT).unwrap();
        takes(&certificate, 0)
    });
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    std::fs::write(&authorities, ca.pem()).unwrap();
    let own = ca.issue_client("own", Validity::CURRENT).unwrap();
    let (chain, key) = (own.certificate_pem.as_bytes(), own.key_pem.as_bytes());
    let own = ClientCertificate::from_pem(chain, key).unwrap();
    let (hang, end) = mpsc::channel();
    let source = Arc::new(HangingLooks {
        shown: watch::Sender::new(Ok(own)),
        looks: AtomicUsize::new(0),
        end: Mutex::new(end),
    });
    let clock = ManualClock::strict();
    let [origin, second] =
        [&server, &other].map(|server| server.origin().replace("127.0.0.1", "localhost"));
    let trust = Trust::from_file(&authorities).unwrap();
    let auth = Auth::jwt("billing", Slow::new(1, Duration::ZERO));
    let target = VaultTarget::new(origin, trust, auth).with_endpoint(second);
    let target = target.with_client_certificate(Arc::clone(&source));
    let backend = VaultBackend::builder(target).with_clock(clock.clone());
    let resolver = Resolver::builder(backend.build().unwrap()).with_clock(clock.clone());
    let resolver = resolver.build().unwrap();
    block_on(async {
        let mut server = Some(server);
        // More than there are threads.
        for round in 0..40 {
            if round == 39 {
                std::fs::write(&authorities, next.pem()).unwrap();
                drop(server.take());
            }
            let get = tokio::spawn({
                let resolver = resolver.clone();
                async move { resolver.get(&format!("a/{round}")).await }
            });
            while !get.is_finished() {
                // No faster than the real time, in which the store answers.
                tokio::time::sleep(Duration::from_millis(2)).await;
                clock.advance(Duration::from_millis(2));
            }
            assert_eq!(text(get.await.unwrap()), "v", "{round}");
            // Kept connections are not used again after that, and another look would be due.
            clock.advance(Duration::from_secs(120));
        }
    });
    assert_eq!(source.looks.load(Ordering::Acquire), 1);
    drop(hang);
}
