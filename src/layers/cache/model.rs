//! The cache under thousands of schedules: gets, fetches, writers, invalidations and time in every
//! order that a seed can think of.
//!
//! One thread runs everything. Tasks are polled only when woken, in an order drawn from the seed,
//! so a lost wake-up shows as tasks that are left over. At the points marked with
//! [`crate::sync::preempt`], between critical sections, the model may run other tasks before the
//! one that is there goes on, as another thread could. What it does not do is reorder single memory
//! accesses; those are the lock's and the atomics' of the crates below.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::driver::Job;
use crate::race::turn;
use crate::resolver::SecretResolverExt;
use crate::secret::{SecretBuf, Version};
use crate::testing::ManualClock;

const SCHEDULES: u64 = 3_000;
const NAMES: [&str; 3] = ["a/b#x", "a/b#y", "c/d#x"];
const TTL: Duration = Duration::from_secs(10);

thread_local! {
    static MODEL: RefCell<Option<Arc<Model>>> = const { RefCell::new(None) };
}

/// Called where another thread could run: lets the model run some other tasks here.
pub(crate) fn preempted() {
    let model = MODEL.with(|model| model.try_borrow().ok().and_then(|model| model.clone()));
    if let Some(model) = model {
        model.preempt();
    }
}

/// A draw that depends on the seed alone (xorshift64*).
struct Draw(AtomicU64);

impl Draw {
    fn below(&self, limit: usize) -> usize {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        let drawn = x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }
}

struct Task {
    // Taken out while it is polled, so that a nested run does not poll it again.
    future: RefCell<Option<Job>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Model {
    draw: Draw,
    depth: AtomicUsize,
    tasks: RefCell<Vec<Arc<Task>>>,
    jobs: RefCell<mpsc::UnboundedReceiver<Job>>,
}

// It never leaves its thread; `Arc` only shares it between the scheduler and the hook.
impl Model {
    fn spawn(&self, future: Job) {
        let task = Task {
            future: RefCell::new(Some(future)),
            woken: Arc::new(Woken(AtomicBool::new(true))),
        };
        #[allow(clippy::arc_with_non_send_sync, reason = "it stays on this thread")]
        self.tasks.borrow_mut().push(Arc::new(task));
    }

    /// Polls one task that was woken; `false` when none was.
    fn step(&self) -> bool {
        while let Ok(job) = self.jobs.borrow_mut().try_recv() {
            self.spawn(job);
        }
        let ready: Vec<Arc<Task>> = {
            let tasks = self.tasks.borrow();
            let ready = tasks.iter().filter(|task| {
                task.woken.0.load(Ordering::Relaxed) && task.future.borrow().is_some()
            });
            ready.cloned().collect()
        };
        if ready.is_empty() {
            return false;
        }
        let task = &ready[self.draw.below(ready.len())];
        let Some(mut future) = task.future.borrow_mut().take() else {
            return true;
        };
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        if future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            *task.future.borrow_mut() = Some(future);
        } else {
            self.tasks
                .borrow_mut()
                .retain(|held| !Arc::ptr_eq(held, task));
        }
        true
    }

    fn preempt(&self) {
        // Deep enough for any two operations to fall into a third.
        if self.depth.load(Ordering::Relaxed) >= 3 {
            return;
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        for _ in 0..self.draw.below(4) {
            self.step();
        }
        self.depth.fetch_sub(1, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.tasks.borrow().len()
    }
}

/// A store whose answers travel: the version is read at some turn of the call, and arrives later.
#[derive(Clone, Debug)]
struct Travelling(Arc<World>);

/// What the tasks of one schedule share.
#[derive(Debug)]
struct World {
    versions: [AtomicU64; 2],
    /// What may be answered at least: written when `invalidate` has returned.
    floors: [AtomicU64; 2],
    fetching: [AtomicUsize; 2],
    fetches: AtomicUsize,
    /// Turns before and after the read, in turn from the seed.
    pace: Vec<usize>,
    fail_every: usize,
}

fn which(path: &str) -> usize {
    usize::from(path != "a/b")
}

/// Counts a fetch as under way, also when it is dropped.
struct Fetching<'a>(&'a AtomicUsize);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SecretResolver for Travelling {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let world = &self.0;
            let at = which(request.name().path());
            let others = world.fetching[at].fetch_add(1, Ordering::Relaxed);
            let _fetching = Fetching(&world.fetching[at]);
            assert_eq!(others, 0, "two fetches of one record at once");
            let number = world.fetches.fetch_add(1, Ordering::Relaxed);
            let turns = |n: usize| world.pace[(2 * number + n) % world.pace.len()];
            for _ in 0..turns(0) {
                turn().await;
            }
            let version = world.versions[at].load(Ordering::Relaxed);
            for _ in 0..turns(1) {
                turn().await;
            }
            if number % world.fail_every == world.fail_every - 1 {
                return Err(Error::new(
                    crate::ErrorKind::Unavailable,
                    "of the model's making",
                ));
            }
            let value = || SecretBuf::from_slice(&version.to_be_bytes());
            let record = Record::builder("model")
                .field("x", value()?)
                .field("y", value()?)
                .version(Version::number(version));
            request.admit(record.build()?.select(request.name().field()))
        })
    }
}

async fn get(cache: Arc<Cache<Travelling>>, clock: ManualClock, name: &'static str) {
    let Ok(secret) = cache.get(name).await else {
        return;
    };
    // From the answer to here nothing else runs, so this is the moment of the answer.
    let world = Arc::clone(&cache.flights.inner.inner().0);
    let version = secret.version().as_number().unwrap();
    let floor = world.floors[which(name.split('#').next().unwrap())].load(Ordering::Relaxed);
    assert!(
        version >= floor,
        "{name}: version {version} after an invalidation at {floor}"
    );
    let expires = secret.answer().expires_at().unwrap();
    assert!(clock.now() < expires, "{name}: answered after its expiry");
    use secrecy::ExposeSecret as _;
    assert_eq!(
        secret.expose_secret(),
        version.to_be_bytes(),
        "a value of another version"
    );
}

async fn rotate(cache: Arc<Cache<Travelling>>, path: &'static str, how: usize) {
    let world = Arc::clone(&cache.flights.inner.inner().0);
    let at = which(path);
    let version = world.versions[at].fetch_add(1, Ordering::Relaxed) + 1;
    turn().await;
    let invalidator = cache.invalidator();
    match how {
        0 => invalidator.invalidate(path).unwrap(),
        1 => invalidator.invalidate_prefix(path).unwrap(),
        2 => invalidator.invalidate_address(&crate::Address::from(path)),
        _ => invalidator.invalidate_all(),
    }
    world.floors[at].fetch_max(version, Ordering::Relaxed);
}

fn run(seed: u64) {
    let draw = Draw(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
    let pace = (0..32).map(|_| draw.below(6)).collect();
    let world = World {
        versions: [AtomicU64::new(1), AtomicU64::new(1)],
        floors: [AtomicU64::new(0), AtomicU64::new(0)],
        fetching: Default::default(),
        fetches: AtomicUsize::new(0),
        pace,
        fail_every: 3 + draw.below(8),
    };
    let clock = ManualClock::new();
    let (driver, jobs) = Driver::collecting();
    let config = CacheConfig {
        ttl: TTL,
        max_entries: if draw.below(4) == 0 { 1 } else { 100 },
        ..CacheConfig::default()
    };
    let cache = Cache::shared(
        Travelling(Arc::new(world)),
        Arc::new(clock.clone()),
        config,
        Arc::new(driver),
        Downgrades::default(),
    );
    let cache = Arc::new(cache.unwrap());
    #[allow(clippy::arc_with_non_send_sync, reason = "it stays on this thread")]
    let model = Arc::new(Model {
        draw,
        depth: AtomicUsize::new(0),
        tasks: RefCell::default(),
        jobs: RefCell::new(jobs),
    });
    MODEL.set(Some(Arc::clone(&model)));

    for _ in 0..12 {
        for _ in 0..model.draw.below(6) {
            let name = NAMES[model.draw.below(NAMES.len())];
            let get: Job = Box::pin(get(Arc::clone(&cache), clock.clone(), name));
            model.spawn(match model.draw.below(8) {
                // A caller that leaves: dropped at one of its first turns.
                0 => Box::pin(leaving(get, model.draw.below(4))),
                _ => get,
            });
        }
        if model.draw.below(2) == 0 {
            let path = ["a/b", "c/d"][model.draw.below(2)];
            let how = model.draw.below(4);
            model.spawn(Box::pin(rotate(Arc::clone(&cache), path, how)));
        }
        for _ in 0..model.draw.below(20) {
            model.step();
        }
        if model.draw.below(3) == 0 {
            clock.advance(TTL / u32::try_from(1 + model.draw.below(8)).unwrap());
        }
    }
    // Everything ends by itself, or by time.
    for _ in 0..10_000 {
        if !model.step() {
            if model.left() == 0 {
                break;
            }
            clock.advance(Duration::from_secs(1));
        }
    }
    MODEL.set(None);
    assert_eq!(model.left(), 0, "tasks are left over: a wake-up was lost");
    assert!(
        cache.flights.flying_now().is_empty(),
        "a flight never ended"
    );
    clock.advance(TTL);
    assert_eq!(cache.flights.values(), 0, "a value outlived its time");
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
        MODEL.set(None);
        if let Err(panic) = outcome {
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("the schedule of seed {seed} failed: {said}");
        }
    }
}
