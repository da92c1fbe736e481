//! The tokens that a sidecar writes into a file: looked at again before they end, also after an hour in which nobody asked, and while the
//! sidecar is late.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::path::PathBuf;

use common::*;
use conjur_double::{ConjurDouble, Kind};
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, Resolver, SecretResolverExt};
use secret_resolver_conjur::{Auth, ConjurBackend};

/// A server, the file of its sidecar, and a backend that reads it.
struct Sidecar {
    server: ConjurDouble,
    _folder: tempfile::TempDir,
    file: PathBuf,
    clock: ManualClock,
    backend: ConjurBackend,
}

impl Sidecar {
    fn start() -> Self {
        let (server, folder) = (server(&[("v", b"x")]), tempfile::tempdir().unwrap());
        let (file, clock) = (folder.path().join("token"), ManualClock::strict());
        let backend = on_clock(target(&server, Auth::token_file(&file)), &clock);
        let sidecar = Self {
            server,
            _folder: folder,
            file,
            clock,
            backend,
        };
        sidecar.writes();
        sidecar
    }

    /// Writes a new token.
    fn writes(&self) {
        std::fs::write(&self.file, self.server.token(READER)).unwrap();
    }

    fn advance(&self, seconds: u32) {
        self.clock.advance(seconds * SECOND);
        self.server.advance(seconds * SECOND);
    }

    fn tokens_refused(&self) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|it| it.status == Some(401)).count()
    }
}

#[test]
fn a_token_that_is_the_same_after_a_quiet_while_is_used_on() {
    let sidecar = Sidecar::start();
    block_on(async {
        for seconds in [0, 61, 59, 120, 200] {
            sidecar.advance(seconds);
            assert_eq!(bytes(sidecar.backend.get("v").await), b"x", "{seconds}");
        }
    });
    assert_eq!(sidecar.tokens_refused(), 0);
}

#[test]
fn a_token_in_use_is_looked_at_again_each_minute_beside_the_reads() {
    let sidecar = Sidecar::start();
    block_on(async {
        // For an hour the sidecar writes another each six minutes, which live for eight.
        for second in (0..3600).step_by(10) {
            if second % 360 == 0 {
                sidecar.writes();
            }
            assert_eq!(bytes(sidecar.backend.get("v").await), b"x", "{second}");
            sidecar.advance(10);
        }
    });
    assert_eq!(sidecar.tokens_refused(), 0);
    // Each two thirds of a minute, or a little sooner.
    let looks = sidecar.backend.logins();
    assert!((60..=130).contains(&looks), "{looks}");
}

#[test]
fn a_token_that_ended_while_nobody_asked_is_not_read_with_where_the_file_has_another() {
    let sidecar = Sidecar::start();
    block_on(async {
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
        sidecar.advance(3600);
        sidecar.writes();
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
    });
    assert_eq!(sidecar.tokens_refused(), 0);
}

#[test]
fn a_token_whose_life_is_over_is_not_sent_until_the_sidecar_writes_another() {
    let sidecar = Sidecar::start();
    block_on(async {
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
        for _ in 0..10 {
            sidecar.advance(480);
            let error = sidecar.backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(
                error.is_held_back() && error.to_string().contains("sidecar"),
                "{error}"
            );
        }
        assert_eq!(sidecar.tokens_refused(), 0);
        sidecar.writes();
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
    });
}

#[test]
fn a_token_that_the_store_does_not_take_is_tried_once_a_second_until_there_is_another() {
    let sidecar = Sidecar::start();
    block_on(async {
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
        // By the server's clock alone.
        sidecar.server.advance(480 * SECOND);
        for _ in 0..100 {
            let error = sidecar.backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            sidecar.clock.advance(SECOND / 10);
        }
        // A read and a question each.
        assert!(
            sidecar.tokens_refused() <= 2 * 12,
            "{}",
            sidecar.tokens_refused()
        );
        sidecar.writes();
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
    });
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let server = server(&[("v", b"x")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let backend = ConjurBackend::builder(target(&server, Auth::token_file(&file)));
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        let missing = resolver.get("v").await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Unauthenticated, "{missing}");
        assert!(missing.is_held_back() && server.requests().is_empty());
        let waiting = resolver.clone();
        let required =
            tokio::spawn(async move { waiting.require_within(&["v"], 20 * SECOND).await });
        std::fs::write(&file, server.token(READER)).unwrap();
        required.await.unwrap().unwrap();
    });
}

#[test]
fn a_shutdown_leaves_a_sidecars_token_alone() {
    let sidecar = Sidecar::start();
    block_on(async {
        assert_eq!(bytes(sidecar.backend.get("v").await), b"x");
        let report = shut_down(&sidecar.backend, &sidecar.clock).await;
        assert_eq!((report.revoked, report.not_revoked), (0, 0));
        assert_eq!(refusal(&sidecar.backend, "v").await, ErrorKind::Closed);
    });
    assert_eq!(sidecar.server.count(Kind::Secret), 1);
}
