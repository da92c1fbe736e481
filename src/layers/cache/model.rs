//! The cache under thousands of schedules: gets, fetches, writers, invalidations and time in every
//! order that a seed can think of.
//!
//! One thread runs everything. Tasks are polled only when woken, in an order drawn from the seed,
//! so a lost wake-up shows as tasks that are left over. At the points marked with
//! [`crate::sync::preempt`], between critical sections, the model may run other tasks and let time
//! pass, which runs the sweeper, before the one that is there goes on, as another thread could.
//! Between two polls a task may be late: time passes before it is looked at, though what it waits
//! for is there. And the process may stand still for a while: then no task runs, and the clock knows.
//! What it does not do is reorder single memory accesses; those are the lock's and the atomics' of
//! the crates below.

mod scheduler;
mod world;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::*;
use crate::driver::Job;
use crate::error::ErrorKind;
use crate::race::turn;
use crate::rules::ByPrefix;
use crate::secret::{Freshness, Version};
use crate::testing::ManualClock;
use scheduler::{Draw, Model, leave, said};
use world::{Travelling, World};

pub(crate) use scheduler::preempted;

const SCHEDULES: u64 = 3_000;
// Of which the first and the last are spellings of one record, at the address of the first.
const NAMES: [&str; 4] = ["a/b#x", "a/b#y", "c/d#x", "e/f#x"];
const PATHS: [&str; 3] = ["a/b", "c/d", "e/f"];
const ADDRESSES: [&str; 2] = ["a/b", "c/d"];
const TTL: Duration = Duration::from_secs(10);
/// How long a value past its end may wait to be dropped together with others.
const TOGETHER: Duration = Duration::from_millis(100);

/// What a task works with.
#[derive(Clone)]
struct Bench {
    cache: Arc<Cache>,
    world: Arc<World>,
    clock: ManualClock,
    stale: Duration,
    /// Whether all time that passes is time in which the process stood still.
    stands_still: bool,
}

async fn get(bench: Bench, name: &'static str, newest: bool) {
    let Bench { cache, world, .. } = &bench;
    let name = NameRef::parse(name).unwrap();
    let written = Version::number(world.version(name.path()));
    let mut request = Request::new(name);
    if newest {
        // Of a caller that knows what is written before all others do.
        request = request.at_least(&written);
    }
    let answer = cache.resolve(request).await;
    // From the answer to here nothing else runs, so this is the moment of the answer.
    let floor = world.floor(name.path());
    let secret = match answer.and_then(Record::into_secret) {
        Ok(secret) => secret,
        Err(error) => {
            match error.kind() {
                ErrorKind::NotFound => assert!(
                    world.may_be_deleted(name.path()),
                    "{name}: not found after an invalidation at {floor}"
                ),
                // The store hangs, throttles, or does not have what this caller knows of.
                ErrorKind::Throttled => {}
                // Only this process was late.
                ErrorKind::Timeout => assert!(!bench.stands_still, "{name}: timed out"),
                ErrorKind::Refused => assert!(newest, "{name}: refused"),
                kind => panic!("{name}: {kind:?}, which nothing answers"),
            }
            return;
        }
    };
    let version = secret.version().as_number().unwrap();
    assert!(
        version >= floor,
        "{name}: version {version} after an invalidation at {floor}"
    );
    let expires = secret.answer().expires_at().unwrap();
    let asked = world.asked(name.path(), version);
    assert!(
        expires <= asked + TTL,
        "{name}: its life does not count from its request"
    );
    let until = match secret.answer().freshness() {
        Freshness::Fresh => expires,
        Freshness::Stale { .. } | Freshness::Fallback => expires + bench.stale,
    };
    assert!(bench.clock.now() < until, "{name}: answered after its time");
    assert_eq!(
        secret.expose_secret(),
        version.to_be_bytes(),
        "a value of another version"
    );
}

async fn rotate(bench: Bench, path: &'static str, how: usize) {
    let version = bench.world.rotate(path);
    turn().await;
    let invalidator = bench.cache.invalidator();
    let address = if path == "c/d" { "c/d" } else { "a/b" };
    match how {
        0 => invalidator.invalidate(path),
        1 => invalidator.invalidate_prefix(&path[..1]),
        2 => invalidator.invalidate_address(&crate::Address::from(address)),
        _ => invalidator.invalidate_all(),
    }
    .unwrap();
    // A prefix concerns what is below it, and the addresses below; all else concerns the record.
    let only_this = how == 1 && path != address;
    let spellings = match path {
        "c/d" => &["c/d"][..],
        _ if only_this => &["e/f"][..],
        _ => &["a/b", "e/f"][..],
    };
    for path in spellings {
        bench.world.signalled(path, version);
    }
}

/// A cache that is drawn, and the model that runs its jobs.
fn drawn(seed: u64) -> (Bench, Arc<Model>) {
    let draw = Draw::new(seed);
    let clock = ManualClock::strict();
    let stands_still = draw.below(4) == 0;
    let world = Arc::new(World::drawn(&draw, clock.clone(), !stands_still));
    let (driver, jobs) = Driver::collecting();
    let stale = draw.of(&[Duration::ZERO, Duration::ZERO, TTL / 2]);
    let config = CacheConfig {
        ttl: ByPrefix::new(TTL),
        stale: ByPrefix::new(stale),
        // In every fourth there is room for one record only.
        max_entries: draw.of(&[1, 100, 100, 100]),
        // With the short one, refreshes offer the value that they are to replace.
        flight_budget: Duration::from_secs(draw.of(&[1, 4])),
        ..CacheConfig::default()
    };
    let cache = Cache::shared(
        Arc::new(Travelling(Arc::clone(&world))),
        Arc::new(clock.clone()),
        config,
        Arc::new(driver),
        Downgrades::default(),
    );
    let bench = Bench {
        cache: Arc::new(cache.unwrap()),
        world,
        clock: clock.clone(),
        stale,
        stands_still,
    };
    (bench, Model::enter(draw, clock, jobs, stands_still))
}

/// One step, or none; and what holds whenever nothing is half done.
fn step(bench: &Bench, model: &Model) -> bool {
    let stepped = model.step();
    check(bench, model);
    // A task that waits, or is not run for a long time, holds no value: only slots do.
    let held = bench.world.held();
    assert_eq!(held, bench.cache.core.values(), "held outside a slot");
    stepped
}

fn check(bench: &Bench, model: &Model) {
    model.check();
    let now = bench.clock.now();
    for slot in ADDRESSES
        .iter()
        .filter_map(|path| bench.cache.core.store.at(path))
    {
        let signals = &bench.cache.core.store.signals;
        assert!(
            !signals.concern(slot.epoch, "-", &slot.address),
            "{}: held though its address was signalled",
            slot.address
        );
        assert!(
            now < slot.life.ends + TOGETHER,
            "{}: held after its end",
            slot.address
        );
    }
}

fn run(seed: u64) {
    let (bench, model) = drawn(seed);
    let draw = &model.draw;
    for _ in 0..12 {
        for _ in 0..draw.below(6) {
            let newest = draw.below(6) == 0;
            let get: Job = Box::pin(get(bench.clone(), draw.of(&NAMES), newest));
            model.spawn(match draw.below(8) {
                // A caller that leaves: dropped at one of its first turns.
                0 => Box::pin(leaving(get, draw.below(4))),
                _ => get,
            });
        }
        if draw.below(2) == 0 {
            let rotate = rotate(bench.clone(), draw.of(&PATHS), draw.below(4));
            model.spawn(Box::pin(rotate));
        }
        for _ in 0..draw.below(20) {
            step(&bench, &model);
        }
        if draw.below(3) == 0 {
            model.pass(TTL / draw.of(&[1, 2, 3, 4, 5, 6, 7, 8]));
            check(&bench, &model);
        }
    }
    // Everything ends by itself, or by time.
    for _ in 0..10_000 {
        if !step(&bench, &model) {
            if model.left() == 0 {
                break;
            }
            model.pass(Duration::from_secs(1));
        }
    }
    leave();
    assert_eq!(model.left(), 0, "tasks are left over: a wake-up was lost");
    let core = &bench.cache.core;
    assert!(core.flying_now().is_empty(), "a flight never ended");
    bench.clock.advance(TTL + bench.stale);
    assert_eq!(core.values(), 0, "a value outlived its time");
    assert_eq!(bench.world.held(), 0, "a value is still held");
}

/// Polls `future` for some turns, then drops it.
async fn leaving(mut future: Job, turns: usize) {
    for _ in 0..turns {
        let done =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_ready()));
        if done.await {
            return;
        }
        turn().await;
    }
}

#[test]
fn no_schedule_breaks_the_fence_the_single_flight_or_the_expiry() {
    for seed in 1..=SCHEDULES {
        let outcome = std::panic::catch_unwind(|| run(seed));
        leave();
        if let Err(panic) = outcome {
            panic!("the schedule of seed {seed} failed: {}", said(&*panic));
        }
    }
}
