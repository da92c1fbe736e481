//! A subscriber that panics or blocks: what the store says of a login is answered all the same.
//!
//! In its own program, because it is the whole process's subscriber.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use secret_resolver::testing::MockBackend;
use secret_resolver::{ErrorKind, Resolver};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::Reply;
use tracing::{Event, Metadata, Subscriber, span};

/// Panics at each line of a login; or blocks there.
struct Hostile;

static BLOCKS: AtomicBool = AtomicBool::new(false);
static LINES: AtomicBool = AtomicBool::new(false);

impl Subscriber for Hostile {
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
        LINES.store(true, Ordering::Release);
        match BLOCKS.load(Ordering::Acquire) {
            true => std::thread::sleep(Duration::from_secs(6)),
            false => panic!("of the test's own making"),
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_subscriber_that_panics_or_blocks_makes_no_outage_of_a_refused_login() {
    tracing::subscriber::set_global_default(Hostile).unwrap();
    for blocks in [false, true] {
        BLOCKS.store(blocks, Ordering::Release);
        LINES.store(false, Ordering::Release);
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
            until("a line", || LINES.load(Ordering::Acquire)).await;
        });
    }
}
