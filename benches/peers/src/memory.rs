//! What a cached secret takes: bytes that the allocator has given out, at 100,000 names.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

use tikv_jemalloc_ctl::{epoch, stats};
use tokio::runtime::Runtime;

use crate::peers::{self, TTL};
use crate::source::{Source, Value, value_of_32_bytes};
use crate::table;

const NAMES: usize = 100_000;
/// Above the number of names, so that nothing is evicted: caches in shards do so when one is full.
const CAPACITY: usize = 150_000;

fn allocated() -> usize {
    epoch::advance().unwrap();
    stats::allocated::read().unwrap()
}

/// Bytes for each name that `fill` leaves behind in what it returns.
fn bytes<T>(fill: impl FnOnce() -> T) -> f64 {
    let before = allocated();
    let held = fill();
    // The peer's own threads may still be tidying up.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let after = allocated();
    drop(held);
    (after as f64 - before as f64) / NAMES as f64
}

pub fn measure(runtime: &Runtime) {
    let names = peers::names(NAMES);
    let names = names.as_slice();
    let source = Source::new(value_of_32_bytes);

    let resolver = bytes(|| {
        let resolver = peers::resolver(source.clone(), CAPACITY, TTL);
        runtime.block_on(peers::fill_resolver(&resolver, names));
        assert_eq!(source.fetches(), NAMES);
        peers::ready(resolver.get(&names[0])).unwrap();
        resolver
    });
    let moka = bytes(|| {
        let cache = peers::moka(CAPACITY, TTL);
        peers::fill_moka(&cache, names, value_of_32_bytes);
        assert_eq!(cache.entry_count(), NAMES as u64);
        cache
    });
    let quick = bytes(|| {
        let cache = peers::quick(CAPACITY);
        peers::fill_quick(&cache, names, value_of_32_bytes);
        assert_eq!(cache.len(), NAMES);
        cache
    });
    let vault = bytes(|| {
        let vault = peers::vault(source.clone(), &peers::vault_refs(names));
        runtime.block_on(peers::fill_vault(&vault));
        assert_eq!(runtime.block_on(vault.store_len()), NAMES);
        vault
    });
    let aws = bytes(|| {
        let client = peers::aws(&source, CAPACITY, TTL);
        runtime.block_on(peers::fill_aws(&client, names));
        client
    });
    let map = bytes(|| {
        let entry = |name: &String| (Box::from(name.as_str()), Arc::new(value_of_32_bytes()));
        names
            .iter()
            .map(entry)
            .collect::<HashMap<Box<str>, Arc<Value>, RandomState>>()
    });

    let text = names.iter().map(String::len).sum::<usize>() / NAMES;
    let rows: Vec<_> = [
        ("secret-resolver", resolver),
        ("moka sync", moka),
        ("quick_cache", quick),
        ("secret-vault", vault),
        ("aws_secretsmanager_caching", aws),
        ("floor: std HashMap of Arcs", map),
    ]
    .into_iter()
    .map(|(label, bytes)| {
        vec![
            label.to_owned(),
            format!("{bytes:.0}"),
            format!("{:.2}", bytes / moka),
        ]
    })
    .collect();
    table::print(
        &format!("Memory: 100,000 names of about {text} bytes, values of 32 bytes"),
        &["peer", "bytes a name", "to moka"],
        &rows,
    );
}
