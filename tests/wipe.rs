//! What is gone from the cache is gone from memory, read back as an attacker would.
//!
//! The needle is kept masked, so that the search does not find itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::BufRead as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use secret_resolver::testing::ManualClock;
use secret_resolver::{
    Record, Request, ResolveFuture, Resolver, SecretBuf, SecretResolver, Version,
};

const MASK: u8 = 0x5a;
const LENGTH: usize = 40;

/// Makes values that stand nowhere in the test's own data.
#[derive(Debug)]
struct Canaries {
    seed: u8,
}

fn masked(seed: u8) -> [u8; LENGTH] {
    std::array::from_fn(|at| {
        let mixed = (at as u32)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(u32::from(seed) * 40_503);
        (mixed >> 13) as u8
    })
}

impl SecretResolver for Canaries {
    fn resolve<'a>(&'a self, _request: Request<'a>) -> ResolveFuture<'a> {
        let value = || {
            let mut value = SecretBuf::with_capacity(LENGTH)?;
            for byte in masked(self.seed) {
                value.push(&[byte ^ MASK])?;
            }
            Record::builder("canary")
                .field("", value)
                .version(Version::number(1))
                .build()
        };
        ResolveFuture::ready(value())
    }
}

/// How often the value of `seed` stands in this process's writable memory.
fn found(seed: u8) -> usize {
    let needle = masked(seed);
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::io::BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut count = 0;
    for line in maps.lines() {
        let line = line.unwrap();
        let mut parts = line.split_whitespace();
        let (range, rights) = (parts.next().unwrap(), parts.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        count += found_in(&memory, start, end, &needle);
    }
    count
}

fn found_in(memory: &File, start: u64, end: u64, needle: &[u8; LENGTH]) -> usize {
    let mut window = vec![0_u8; 1 << 20];
    // The window itself is not searched: while it is filled it holds what it is filled with.
    let own = window.as_ptr() as u64..window.as_ptr() as u64 + window.len() as u64;
    let mut at = start;
    let mut count = 0;
    while at < end {
        if own.contains(&at) {
            at = own.end;
            continue;
        }
        let stop = if at < own.start {
            end.min(own.start)
        } else {
            end
        };
        let wanted = window.len().min((stop - at) as usize);
        let Ok(()) = memory.read_exact_at(&mut window[..wanted], at) else {
            break;
        };
        for byte in &mut window[..wanted] {
            *byte ^= MASK;
        }
        let hits = window[..wanted]
            .windows(LENGTH)
            .filter(|part| *part == needle);
        count += hits.count();
        window[..wanted].fill(0);
        // A value may lie across two windows, but for the last bytes of a mapping.
        let overlap = if at + (wanted as u64) < stop {
            LENGTH as u64 - 1
        } else {
            0
        };
        at += wanted as u64 - overlap;
    }
    count
}

fn resolver(seed: u8) -> (ManualClock, Resolver) {
    let clock = ManualClock::new();
    let builder = Resolver::builder(Canaries { seed }).with_clock(clock.clone());
    (clock, builder.build().unwrap())
}

#[tokio::test]
async fn a_cached_value_stands_once_in_memory_and_not_at_all_after_expiry() {
    let (clock, resolver) = resolver(1);
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(1), 1);
    clock.advance(Duration::from_secs(300));
    assert_eq!(found(1), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_invalidation() {
    let (_clock, resolver) = resolver(2);
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(2), 1);
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(2), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_shutdown() {
    let (_clock, resolver) = resolver(3);
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(3), 1);
    resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!(found(3), 0);
}

#[tokio::test]
async fn a_clone_that_the_application_holds_is_wiped_when_it_goes_not_before() {
    let (_clock, resolver) = resolver(4);
    let held = resolver.get("a/b").await.unwrap();
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(4), 1);
    drop(held);
    assert_eq!(found(4), 0);
}

#[test]
fn on_a_real_clock_ten_thousand_values_are_gone_within_a_second_on_an_undriven_runtime() {
    let builder = Resolver::builder(Canaries { seed: 5 }).with_ttl(Duration::from_secs(1));
    let resolver = builder.build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for number in 0..10_000 {
            drop(resolver.get(&format!("a/{number}")).await.unwrap());
        }
    });
    assert!(found(5) > 0);
    // From here on nobody drives the runtime, and nobody asks. The last value was fetched before
    // this line: it expires within its second, and is gone within one more.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(found(5), 0);
}
