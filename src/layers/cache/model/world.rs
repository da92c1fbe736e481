//! The store of the model: its answers travel, and it remembers what it gave away.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::scheduler::Draw;
use crate::address::Located;
use crate::clock::{Clock as _, Moment};
use crate::error::{Error, ErrorKind};
use crate::name::NameRef;
use crate::race::turn;
use crate::resolver::{Request, ResolveFuture, SecretResolver};
use crate::secret::{Record, SecretBuf, Version};
use crate::sync::lock;
use crate::testing::ManualClock;

/// A store whose answers travel: the version is read at some turn of the call, and arrives later.
#[derive(Clone, Debug)]
pub(super) struct Travelling(pub(super) Arc<World>);

/// What the tasks of one schedule share.
#[derive(Debug)]
pub(super) struct World {
    /// By record: what is written now. Every fourth version is a record that was deleted.
    versions: [AtomicU64; 2],
    /// What may be answered at least, by path: written when `invalidate` has returned.
    floors: [AtomicU64; 3],
    fetching: [AtomicUsize; 2],
    fetches: AtomicUsize,
    clock: ManualClock,
    /// When each version of each record was last asked for.
    asked: Mutex<HashMap<(usize, u64), Moment>>,
    /// Turns before and after the read, in turn from the seed.
    pace: Vec<usize>,
    fail_every: usize,
    hang_every: usize,
    /// All that was answered, to see what still holds it.
    answered: Mutex<Vec<Record>>,
}

impl World {
    /// One that hangs now and then, or never.
    pub(super) fn drawn(draw: &Draw, clock: ManualClock, hangs: bool) -> Self {
        Self {
            versions: [AtomicU64::new(1), AtomicU64::new(1)],
            floors: Default::default(),
            fetching: Default::default(),
            fetches: AtomicUsize::new(0),
            pace: (0..32).map(|_| draw.below(6)).collect(),
            fail_every: 3 + draw.below(8),
            hang_every: if hangs { 5 + draw.below(8) } else { usize::MAX },
            clock,
            asked: Mutex::default(),
            answered: Mutex::default(),
        }
    }

    pub(super) fn version(&self, path: &str) -> u64 {
        self.versions[which(path)].load(Ordering::Relaxed)
    }

    pub(super) fn floor(&self, path: &str) -> u64 {
        self.floors[spelling(path)].load(Ordering::Relaxed)
    }

    /// When the version was last asked for.
    pub(super) fn asked(&self, path: &str, version: u64) -> Moment {
        lock(&self.asked)[&(which(path), version)]
    }

    /// Writes the next version.
    pub(super) fn rotate(&self, path: &str) -> u64 {
        self.versions[which(path)].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// From here on nothing below `version` may be answered to the names of `path`.
    pub(super) fn signalled(&self, path: &str, version: u64) {
        self.floors[spelling(path)].fetch_max(version, Ordering::Relaxed);
    }

    /// Whether "not found" may be answered: whether it was true of some version that still counts.
    pub(super) fn may_be_deleted(&self, path: &str) -> bool {
        (self.floor(path)..=self.version(path)).any(is_deleted)
    }

    /// How many values are held outside of the model.
    pub(super) fn held(&self) -> usize {
        let answered = lock(&self.answered);
        let mut contents: Vec<_> = answered.iter().map(Record::contents).collect();
        contents.sort_by_key(|contents| Arc::as_ptr(contents));
        let values = contents.chunk_by(|one, other| Arc::ptr_eq(one, other));
        values
            .filter(|same| Arc::strong_count(same[0]) > same.len())
            .count()
    }

    fn answer(&self, request: &Request<'_>, version: u64) -> Result<Record, Error> {
        if is_deleted(version) {
            return Err(Error::new(ErrorKind::NotFound, "deleted by the model"));
        }
        if request.held() == Some(Version::number(version)) {
            return Ok(Record::unchanged("model"));
        }
        let value = || SecretBuf::from_slice(&version.to_be_bytes());
        let record = Record::builder("model")
            .field("x", value()?)
            .field("y", value()?)
            .version(Version::number(version));
        let record = record.build()?;
        lock(&self.answered).push(record.clone());
        request.admit(record.select(request.name().field()))
    }
}

/// Which record has names of this path: two are one record.
fn which(path: &str) -> usize {
    usize::from(path == "c/d")
}

fn spelling(path: &str) -> usize {
    ["a/b", "c/d", "e/f"]
        .iter()
        .position(|known| *known == path)
        .unwrap()
}

fn is_deleted(version: u64) -> bool {
    version % 4 == 3
}

/// Counts a fetch as under way, also when it is dropped.
struct Fetching<'a>(&'a AtomicUsize);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SecretResolver for Travelling {
    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let address = if name.path() == "e/f" {
            "a/b"
        } else {
            name.path()
        };
        Located::new(address, name.field().map(Cow::Borrowed))
    }

    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let world = &self.0;
            let path = request.name().path();
            let fetching = &world.fetching[which(path)];
            let others = fetching.fetch_add(1, Ordering::Relaxed);
            let _fetching = Fetching(fetching);
            let asked = world.clock.now();
            assert_eq!(others, 0, "two fetches of one record at once");
            let number = world.fetches.fetch_add(1, Ordering::Relaxed);
            let turns = |n: usize| world.pace[(2 * number + n) % world.pace.len()];
            for _ in 0..turns(0) {
                turn().await;
            }
            let version = world.version(path);
            for _ in 0..turns(1) {
                turn().await;
            }
            if number % world.hang_every == world.hang_every - 1 {
                // Its budget ends it.
                std::future::pending::<()>().await;
            }
            if number % world.fail_every == world.fail_every - 1 {
                return Err(Error::new(ErrorKind::Throttled, "of the model's making"));
            }
            lock(&world.asked).insert((which(path), version), asked);
            world.answer(&request, version)
        })
    }
}
