//! Whether a value is still in the process's memory once its time to live is over and nobody asks.
//!
//! Each peer gets its own process. The needle is kept masked, so that the search does not find
//! itself; it is the tail of the value, which an allocator does not overwrite when it takes the
//! memory back.

use std::collections::HashMap;
use std::fs::File;
use std::hash::RandomState;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::peers::{self, CAPACITY};
use crate::source::{Source, Value};
use crate::table;

const MASK: u8 = 0x5a;
const LENGTH: usize = 96;
const NEEDLE: usize = 64;
const NAMES: usize = 100;
const TTL: Duration = Duration::from_secs(1);
/// How long after the expiry memory is searched.
const GRACE: Duration = Duration::from_secs(2);

const PEERS: [(&str, &str); 7] = [
    ("secret-resolver", "1 s"),
    ("moka sync", "1 s"),
    ("quick_cache", "none"),
    ("secret-vault", "none"),
    ("aws_secretsmanager_caching", "1 s"),
    ("aws-sdk-secretsmanager alone", "nothing cached"),
    ("floor: std HashMap of Arcs", "none"),
];

/// Letters that stand nowhere in the program's own data, each with its mask on.
fn masked() -> [u8; LENGTH] {
    std::array::from_fn(|at| {
        let mixed = (at as u32 + 1).wrapping_mul(2_654_435_761) >> 13;
        (b'a' + (mixed % 26) as u8) ^ MASK
    })
}

fn canary() -> Value {
    let mut value = Zeroizing::new(Vec::with_capacity(LENGTH));
    value.extend(masked().map(|byte| byte ^ MASK));
    value
}

/// How often the needle stands in this process's writable memory.
fn found() -> usize {
    let masked = masked();
    let needle = &masked[LENGTH - NEEDLE..];
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut window = vec![0_u8; 1 << 20];
    // Left out: reading the window into itself would multiply what was read before it.
    let own = window.as_ptr_range();
    let (own_start, own_end) = (own.start.addr() as u64, own.end.addr() as u64);
    let mut count = 0;
    for line in maps.lines() {
        let line = line.unwrap();
        let mut parts = line.split_whitespace();
        let (range, rights) = (parts.next().unwrap(), parts.next().unwrap());
        if rights.starts_with("rw") {
            let (start, end) = range.split_once('-').unwrap();
            let start = u64::from_str_radix(start, 16).unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            count += found_in(&memory, start, end.min(own_start), needle, &mut window);
            count += found_in(&memory, start.max(own_end), end, needle, &mut window);
        }
    }
    count
}

/// From `start` to `end`, unless that is nothing.
fn found_in(memory: &File, start: u64, end: u64, needle: &[u8], window: &mut [u8]) -> usize {
    let (mut at, mut count) = (start, 0);
    while at < end {
        let wanted = window.len().min((end - at) as usize);
        if memory.read_exact_at(&mut window[..wanted], at).is_err() {
            break;
        }
        for byte in &mut window[..wanted] {
            *byte ^= MASK;
        }
        let parts = window[..wanted].windows(needle.len());
        count += parts.filter(|part| *part == needle).count();
        let last = at + wanted as u64 >= end;
        // A needle may stand across the border of two windows.
        at += (wanted - if last { 0 } else { needle.len() - 1 }) as u64;
    }
    count
}

/// What the process for one peer does: prints the two counts.
pub fn measure_one(runtime: &Runtime, peer: usize) {
    let names = peers::names(NAMES);
    let names = names.as_slice();
    let source = Source::new(canary);
    let held: Box<dyn std::any::Any> = match peer {
        0 => {
            let resolver = peers::resolver(source, CAPACITY, TTL);
            runtime.block_on(peers::fill_resolver(&resolver, names));
            Box::new(resolver)
        }
        1 => {
            let cache = peers::moka(CAPACITY, TTL);
            peers::fill_moka(&cache, names, canary);
            Box::new(cache)
        }
        2 => {
            let cache = peers::quick(CAPACITY);
            peers::fill_quick(&cache, names, canary);
            Box::new(cache)
        }
        3 => {
            let vault = peers::vault(source, &peers::vault_refs(names));
            runtime.block_on(peers::fill_vault(&vault));
            Box::new(vault)
        }
        4 => {
            let client = peers::aws(&source, CAPACITY, TTL);
            runtime.block_on(peers::fill_aws(&client, names));
            Box::new(client)
        }
        5 => {
            let client = source.aws_client();
            for name in names {
                runtime
                    .block_on(client.get_secret_value().secret_id(name).send())
                    .unwrap();
            }
            Box::new(client)
        }
        _ => {
            let entry = |name: &String| (Box::from(name.as_str()), Arc::new(canary()));
            Box::new(
                names
                    .iter()
                    .map(entry)
                    .collect::<HashMap<Box<str>, Arc<Value>, RandomState>>(),
            )
        }
    };
    let before = found();
    std::thread::sleep(TTL + GRACE);
    println!("{before} {}", found());
    drop(held);
}

pub fn measure() {
    let program = std::env::current_exe().unwrap();
    let mut rows = Vec::new();
    for (peer, (label, ttl)) in PEERS.iter().enumerate() {
        let peer = peer.to_string();
        let output = Command::new(&program)
            .args(["wipe-one", &peer])
            .output()
            .unwrap();
        assert!(output.status.success(), "the search for {label} failed");
        let counts = String::from_utf8(output.stdout).unwrap();
        let (before, after) = counts.trim().split_once(' ').unwrap();
        let gone = if after == "0" { "yes" } else { "no" };
        rows.push(
            [label, ttl, before, after, gone]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    table::print(
        "Wipe: 100 values, memory searched at once and 2 s after their time to live of 1 s, no traffic",
        &[
            "peer",
            "time to live",
            "found while cached",
            "found after",
            "gone",
        ],
        &rows,
    );
}
