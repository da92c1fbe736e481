//! Subscribers that panic, block or are slow: what the store says is answered all the same, and its lines are written, in their order.
//!
//! In its own program, because it is the whole process's subscriber.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, Once};
use std::time::Duration;

use common::*;
use secret_resolver::testing::MockBackend;
use secret_resolver::{ErrorKind, Resolver};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::Reply;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Keeps the lines of sessions, and does what it is set to at each.
struct Lines;

#[derive(Clone, Copy)]
enum Manner {
    Panics,
    Blocks,
    /// At the first line longer than at the next ones.
    Slow,
}

static MANNER: Mutex<Manner> = Mutex::new(Manner::Panics);
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Sets what it does, without any line yet; the tests take turns.
fn subscribe(manner: Manner) -> MutexGuard<'static, ()> {
    static FIRST: Once = Once::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap();
    FIRST.call_once(|| tracing::subscriber::set_global_default(Lines).unwrap());
    *MANNER.lock().unwrap() = manner;
    LINES.lock().unwrap().clear();
    turn
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let module = event.metadata().module_path();
        if !module.is_some_and(|module| module.starts_with("secret_resolver_session")) {
            return;
        }
        let mut line = String::new();
        event.record(&mut Message(&mut line));
        let manner = *MANNER.lock().unwrap();
        if let Manner::Slow = manner {
            let first = line == "logged in";
            std::thread::sleep(Duration::from_millis(if first { 30 } else { 5 }));
        }
        LINES.lock().unwrap().push(line);
        match manner {
            Manner::Panics => panic!("of the test's own making"),
            Manner::Blocks => std::thread::sleep(Duration::from_secs(6)),
            Manner::Slow => {}
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_subscriber_that_panics_or_blocks_makes_no_outage_of_a_refused_login() {
    for manner in [Manner::Panics, Manner::Blocks] {
        let _turn = subscribe(manner);
        let fake = Fake::start();
        let refused = Reply::json(400, r#"{"errors":["no"]}"#);
        fake.state().instead = Some(("/login", refused));
        let auth = Auth::approle(value("role"), value("secret"));
        let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
        let fallback = MockBackend::new().with_value("a", "of the fallback");
        let resolver = Resolver::builder(backend).dangerous_fallback_to(fallback);
        let resolver = resolver.build().unwrap();
        block_on(async {
            let error = resolver.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.status(), Some(400), "{error}");
            until("a line", || !LINES.lock().unwrap().is_empty()).await;
        });
    }
}

#[test]
fn the_lines_of_a_session_are_written_in_their_order_before_a_shutdown_ends() {
    let _turn = subscribe(Manner::Slow);
    for round in 0..10 {
        let fake = Fake::start();
        let auth = Auth::approle(value("role"), value("secret"));
        let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
        let resolver = Resolver::builder(backend).build().unwrap();
        block_on(async {
            assert_eq!(text(resolver.get("a").await), "v");
            let report = resolver.shutdown_within(SECOND * 5).await;
            assert_eq!(report.revoked, 1);
        });
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        assert_eq!(lines, ["logged in", "token revoked"], "{round}");
    }
}
