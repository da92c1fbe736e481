//! A subscriber that panics or blocks: an identity that is withdrawn is withdrawn all the same.

use std::sync::atomic::{AtomicBool, Ordering};

use test_servers::{Answer, WorkloadMethod};
use tracing::{Event, Metadata, Subscriber, span};

use crate::support::*;

/// Panics at each line of this crate; or blocks there.
struct Hostile;

static BLOCKS: AtomicBool = AtomicBool::new(false);
static LINES: AtomicBool = AtomicBool::new(false);

impl Subscriber for Hostile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("secret_resolver_spiffe")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        LINES.store(true, Ordering::Release);
        match BLOCKS.load(Ordering::Acquire) {
            true => std::thread::sleep(PATIENCE * 2),
            false => panic!("of the test's own making"),
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn own_a_subscriber_that_panics_or_blocks_keeps_no_withdrawn_svid() {
    alone("subscriber::withdrawn_before_a_hostile_subscriber");
}

/// Run by the test above in its own process, whose subscriber it is.
#[test]
#[ignore = "another test runs it in its own process"]
fn withdrawn_before_a_hostile_subscriber() {
    tracing::subscriber::set_global_default(Hostile).unwrap();
    for blocks in [false, true] {
        BLOCKS.store(blocks, Ordering::Release);
        LINES.store(false, Ordering::Release);
        let world = World::new();
        block_on(async {
            let (mut watched, _) = world.showing().await;
            until("a line", async || LINES.load(Ordering::Acquire)).await;
            // The agent says it once.
            world
                .api
                .answer(WorkloadMethod::X509Svid, Answer::silence());
            world.api.push(Answer::status(PERMISSION_DENIED, ""));
            let error = watched.until_none().await;
            assert!(error.to_string().contains(&world.id()), "{error}");
        });
    }
}
