//! A look-up of a cached name, on one thread and on two at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use secret_resolver::backend::SystemClock;
use secret_resolver::Clock as _;
use secret_vault::{
    SecretVaultHashMapSnapshotBuilder, SecretVaultSnapshot as _, SecretVaultView as _,
};
use tokio::runtime::Runtime;

use crate::peers::{self, CAPACITY, TTL, ready};
use crate::source::{Source, Value, value_of_32_bytes};
use crate::table;

const NAMES: usize = 256;
const ROUNDS: usize = 60;
/// A sample is as many whole passes over the names as take this long.
const SAMPLE: Duration = Duration::from_millis(8);

struct Peer {
    label: &'static str,
    /// Looks every name up once, beginning at the given one.
    pass: Box<dyn Fn(usize) + Sync>,
    passes: usize,
    one: Vec<f64>,
    two: Vec<f64>,
}

impl Peer {
    fn new<T>(label: &'static str, look_up: impl Fn(usize) -> T + Sync + 'static) -> Self {
        let pass = move |first: usize| {
            for at in (first..NAMES).chain(0..first) {
                black_box(look_up(black_box(at)));
            }
        };
        let mut peer = Self {
            label,
            pass: Box::new(pass),
            passes: 64,
            one: Vec::new(),
            two: Vec::new(),
        };
        peer.passes = (0..5)
            .map(|_| {
                (SAMPLE.as_secs_f64() / peer.time(0).1.as_secs_f64() * peer.passes as f64) as usize
            })
            .max()
            .unwrap_or(1)
            .max(1);
        peer
    }

    /// Makes one sample of passes.
    fn time(&self, first: usize) -> (Instant, Duration) {
        let began = Instant::now();
        for _ in 0..self.passes {
            (self.pass)(first);
        }
        (began, began.elapsed())
    }

    /// Nanoseconds a look-up, one thread.
    fn sample_one(&self) -> f64 {
        self.time(0).1.as_nanos() as f64 / (self.passes * NAMES) as f64
    }

    /// Nanoseconds a look-up, two threads together: their common time over all look-ups. They
    /// begin half the names apart.
    fn sample_two(&self) -> f64 {
        let barrier = Barrier::new(2);
        let work = |first| {
            (self.pass)(first);
            barrier.wait();
            self.time(first)
        };
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| work(NAMES / 2));
            (work(0), other.join().unwrap())
        });
        let began = a.0.min(b.0);
        let ended = (a.0 + a.1).max(b.0 + b.1);
        ended.duration_since(began).as_nanos() as f64 / (2 * self.passes * NAMES) as f64
    }
}

fn peers(runtime: &Runtime) -> Vec<Peer> {
    let names = Arc::new(peers::names(NAMES));
    let source = Source::new(value_of_32_bytes);
    let mut peers = Vec::new();

    let resolver = peers::resolver(source.clone(), CAPACITY, TTL);
    runtime.block_on(peers::fill_resolver(&resolver, &names));
    let texts = Arc::clone(&names);
    peers.push(Peer::new("secret-resolver", move |at| {
        ready(resolver.get(texts[at].as_str())).unwrap()
    }));

    let cache = peers::moka(CAPACITY, TTL);
    peers::fill_moka(&cache, &names, value_of_32_bytes);
    let texts = Arc::clone(&names);
    peers.push(Peer::new(MOKA, move |at| {
        cache.get(texts[at].as_str()).unwrap()
    }));

    let cache = peers::quick(CAPACITY);
    peers::fill_quick(&cache, &names, value_of_32_bytes);
    let texts = Arc::clone(&names);
    peers.push(Peer::new("quick_cache (no TTL)", move |at| {
        cache.get(texts[at].as_str()).unwrap()
    }));

    let refs = peers::vault_refs(&names);
    let vault = peers::vault(source.clone(), &refs);
    runtime.block_on(peers::fill_vault(&vault));
    let snapshot = runtime
        .block_on(vault.snapshot(SecretVaultHashMapSnapshotBuilder::new()))
        .unwrap();
    let viewer = vault.viewer();
    let keys = refs.clone();
    peers.push(Peer::new("secret-vault, viewer (no TTL)", move |at| {
        ready(viewer.get_secret_by_ref(&keys[at])).unwrap().unwrap()
    }));
    peers.push(Peer::new(
        "secret-vault, snapshot (a copy: no TTL, no refresh)",
        move |at| snapshot.get_secret_by_ref(&refs[at]).unwrap().unwrap(),
    ));

    let client = peers::aws(&source, CAPACITY, TTL);
    runtime.block_on(peers::fill_aws(&client, &names));
    let texts = Arc::clone(&names);
    peers.push(Peer::new("aws_secretsmanager_caching", move |at| {
        ready(client.get_secret_value(&texts[at], None, None, false)).unwrap()
    }));

    let entry = |name: &String| (Box::from(name.as_str()), Arc::new(value_of_32_bytes()));
    let map: HashMap<Box<str>, Arc<Value>, RandomState> = names.iter().map(entry).collect();
    let texts = Arc::clone(&names);
    peers.push(Peer::new("floor: std HashMap, Arc clone", move |at| {
        Arc::clone(map.get(texts[at].as_str()).unwrap())
    }));

    let cells: Vec<_> = (0..NAMES)
        .map(|_| ArcSwap::from_pointee(value_of_32_bytes()))
        .collect();
    let cells = Arc::new(cells);
    let loaded = Arc::clone(&cells);
    peers.push(Peer::new(
        "reference: ArcSwap load, no look-up",
        move |at| loaded[at].load().len(),
    ));
    peers.push(Peer::new(
        "reference: ArcSwap load_full, no look-up",
        move |at| cells[at].load_full(),
    ));

    let clock = SystemClock::shared().unwrap();
    peers.push(Peer::new("part: SystemClock::now", move |_| clock.now()));
    let texts = Arc::clone(&names);
    peers.push(Peer::new("part: SecretName grammar", move |at| {
        secret_resolver::backend::NameRef::parse(&texts[at]).is_ok()
    }));
    let random = RandomState::new();
    peers.push(Peer::new("part: keyed hash of a name", move |at| {
        random.hash_one(names[at].as_str())
    }));
    peers
}

const MOKA: &str = "moka sync";

pub fn measure(runtime: &Runtime) {
    let mut peers = peers(runtime);
    for round in 0..ROUNDS {
        // Every peer in every round, so that noise hits all alike; the first one moves on.
        let first = round % peers.len();
        peers.rotate_left(first);
        for peer in &mut peers {
            let sample = peer.sample_one();
            peer.one.push(sample);
            let sample = peer.sample_two();
            peer.two.push(sample);
        }
        peers.rotate_right(first);
    }
    let moka = peers.iter().find(|peer| peer.label == MOKA).unwrap();
    let ratio = |a: &[f64], b: &[f64]| table::median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            vec![
                peer.label.to_owned(),
                format!("{:.0} ns", table::median(peer.one.clone())),
                format!("{:.2}", ratio(&peer.one, &moka.one)),
                format!("{:.0} ns", table::median(peer.two.clone())),
                format!("{:.2}", ratio(&peer.two, &moka.two)),
                format!("{:.2}", ratio(&peer.one, &peer.two)),
                format!("{:.0} %", table::spread(peer.one.clone()) * 100.0),
            ]
        })
        .collect();
    table::print(
        "A hit: 256 names, the time for one look-up",
        &[
            "peer",
            "one thread",
            "to moka",
            "two threads together",
            "to moka",
            "throughput of two to one",
            "spread",
        ],
        &rows,
    );
}
