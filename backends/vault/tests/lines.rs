//! The lines of a login and of a revocation: in their order, and all of them written when a shutdown ends, also where the log is slow.
//!
//! In its own program, because it is the whole process's subscriber.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use common::*;
use secret_resolver::Resolver;
use secret_resolver_vault::{Auth, VaultBackend};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// A log whose first line takes longer than the next ones.
struct Slow;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Slow {
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
        std::thread::sleep(match line == "logged in" {
            true => Duration::from_millis(30),
            false => Duration::from_millis(5),
        });
        LINES.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn the_lines_of_a_session_are_written_in_their_order_before_a_shutdown_ends() {
    tracing::subscriber::set_global_default(Slow).unwrap();
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
