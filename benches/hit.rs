//! What a cached `get` costs, beside what it is compared with, in one run.
//!
//! 256 names, asked in turn, on one thread and on two. `cargo bench --bench hit`; the figures and
//! how to read them are in `benches/README.md`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(
    missing_docs,
    reason = "the macros of the harness make undocumented items"
)]

use std::collections::HashMap;
use std::future::Future;
use std::hash::RandomState;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use divan::{AllocProfiler, Bencher, black_box};
use secret_resolver::testing::MockBackend;
use secret_resolver::{Error, Resolver, Secret};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TTL: Duration = Duration::from_secs(300);
const THREADS: [usize; 2] = [1, 2];

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..256)
        .map(|number| format!("prod/service-{number}/db#password"))
        .collect()
});

/// Measures `look_up` on every name in turn; the figures are for one pass over the 256 names.
fn pass<T>(bencher: Bencher<'_, '_>, look_up: impl Fn(&str) -> T + Sync) {
    bencher
        .counter(divan::counter::ItemsCount::new(NAMES.len()))
        .bench(|| {
            for name in NAMES.iter() {
                black_box(look_up(black_box(name)));
            }
        });
}

fn main() {
    divan::main();
}

/// `Resolver::get` awaited, default stack.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn resolver_get(bencher: Bencher<'_, '_>) {
    let resolver = warm();
    pass(bencher, |name| poll(resolver.get(name)));
}

/// The same under a subscriber that wants INFO, as a service has one.
#[divan::bench(sample_count = 200, sample_size = 64)]
fn resolver_get_with_subscriber(bencher: Bencher<'_, '_>) {
    let resolver = warm();
    tracing::subscriber::with_default(InfoOnly, || pass(bencher, |name| poll(resolver.get(name))));
}

/// The same, with a recorder of metrics beside the subscriber. A recorder holds for the whole process,
/// so this is run alone: `cargo bench --bench hit --features metrics -- watched`.
#[cfg(feature = "metrics")]
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn resolver_get_watched(bencher: Bencher<'_, '_>) {
    let _ = metrics::set_global_recorder(Counts);
    let _ = tracing::subscriber::set_global_default(InfoOnly);
    let resolver = warm();
    pass(bencher, |name| poll(resolver.get(name)));
}

/// Counts, as a recorder that is asked for its figures from time to time does.
#[cfg(feature = "metrics")]
struct Counts;

#[cfg(feature = "metrics")]
impl metrics::Recorder for Counts {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(Arc::new(std::sync::atomic::AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

/// What a handle's read costs.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn handle_secret(bencher: Bencher<'_, '_>) {
    let resolver = warm();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let handle = runtime.block_on(resolver.handle(&NAMES[0])).unwrap();
    pass(bencher, |_| handle.secret().unwrap());
}

/// What a handle's read is compared with: an `ArcSwap`, loaded as an `Arc` that can be kept.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn arc_swap_load_full(bencher: Bencher<'_, '_>) {
    let swap = arc_swap::ArcSwap::from_pointee(b"hunter2".to_vec());
    pass(bencher, |_| swap.load_full());
}

/// The same, loaded for the moment.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn arc_swap_load(bencher: Bencher<'_, '_>) {
    let swap = arc_swap::ArcSwap::from_pointee(b"hunter2".to_vec());
    pass(bencher, |_| swap.load().len());
}

/// Takes INFO and nothing below.
struct InfoOnly;

impl tracing::Subscriber for InfoOnly {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// A resolver that has all names cached.
fn warm() -> Resolver {
    let backend = MockBackend::new();
    for name in NAMES.iter() {
        backend.set(name, "hunter2");
    }
    let resolver = Resolver::builder(backend).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for name in NAMES.iter() {
        runtime.block_on(resolver.get(name)).unwrap();
    }
    resolver
}

/// The answer of a `get` that must be there at its first poll.
// Where it is a call, the future's 360 bytes are moved into it: a tenth of a hit, and no part of one.
#[inline(always)]
fn poll(get: impl Future<Output = Result<Secret, Error>>) -> Secret {
    match pin!(get).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(secret)) => secret,
        other => panic!("a cached name was not answered at once: {other:?}"),
    }
}

/// The limit: a moka cache with the same key, keyed hasher, capacity and time to live.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn moka_get(bencher: Bencher<'_, '_>) {
    let cache: moka::sync::Cache<Box<str>, Arc<Vec<u8>>> = moka::sync::Cache::builder()
        .max_capacity(10_000)
        .time_to_live(TTL)
        .build();
    for name in NAMES.iter() {
        cache.insert(Box::from(name.as_str()), Arc::new(b"hunter2".to_vec()));
    }
    cache.run_pending_tasks();
    pass(bencher, |name| cache.get(name).unwrap());
}

/// The floor: the standard map and a clone of an `Arc`, with no expiry and no way to write.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn std_map_get(bencher: Bencher<'_, '_>) {
    let value = |name: &String| (Box::from(name.as_str()), Arc::new(b"hunter2".to_vec()));
    let map: HashMap<Box<str>, Arc<Vec<u8>>, RandomState> = NAMES.iter().map(value).collect();
    pass(bencher, |name| Arc::clone(map.get(name).unwrap()));
}

/// What the clock alone costs: a hit reads it once.
#[divan::bench(threads = THREADS, sample_count = 200, sample_size = 64)]
fn clock_now(bencher: Bencher<'_, '_>) {
    use secret_resolver::Clock as _;
    let clock = secret_resolver::backend::SystemClock::shared().unwrap();
    pass(bencher, |_| clock.now());
}

/// What the grammar costs: a hit by text parses its name.
#[divan::bench(sample_count = 200, sample_size = 64)]
fn parse_name(bencher: Bencher<'_, '_>) {
    pass(bencher, |name| {
        secret_resolver::backend::NameRef::parse(name).is_ok()
    });
}
