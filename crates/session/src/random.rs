//! A little chance for spreading timers, so that a fleet that started together does not log in
//! together. Not for keys: the standard library's hasher keys are random, and that is enough here.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// `base`, plus or minus up to `tenths` tenths of it.
pub(crate) fn spread(base: Duration, tenths: u32) -> Duration {
    // Two decimal digits of chance are enough to spread timers: 0..=200 stands for -100 %..=+100 %.
    let chance = u32::try_from(RandomState::new().build_hasher().finish() % 201).unwrap_or(100);
    let part = base / 10 * tenths / 100;
    base + part * chance.saturating_sub(100) - part * 100_u32.saturating_sub(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_duration_stays_within_its_part_and_is_not_always_the_same() {
        let base = Duration::from_secs(100);
        let all: std::collections::HashSet<_> = (0..500).map(|_| spread(base, 1)).collect();
        assert!(
            all.iter()
                .all(|spread| (90..=110).contains(&spread.as_secs()))
        );
        assert!(all.len() > 20, "{}", all.len());
        assert_eq!(spread(Duration::ZERO, 5), Duration::ZERO);
        assert!(spread(Duration::from_secs(u64::from(u32::MAX)), 1) > Duration::from_secs(1 << 31));
    }
}
