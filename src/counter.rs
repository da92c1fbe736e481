//! A counter for the read path: threads count apart, so that they do not fight for one line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts on one of eight cache lines, by thread; the sum is exact once the counting has stopped.
#[derive(Debug, Default)]
pub(crate) struct Sharded([Line; 8]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % 8;
}

impl Sharded {
    pub(crate) fn add_one(&self) {
        // A thread that is ending has no number any more; then any line will do.
        let mine = MINE.try_with(|mine| *mine).unwrap_or(0);
        if let Some(line) = self.0.get(mine) {
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|line| line.0.load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_of_any_thread_is_lost() {
        let counter = Sharded::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add_one()));
            }
        });
        assert_eq!(counter.sum(), 20_000);
    }
}
