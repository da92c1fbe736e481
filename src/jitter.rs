//! Randomness, so that a fleet that started together does not do everything at the same moments. Not for
//! keys.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// A random part of `whole`, from nothing to all of it.
///
/// ```
/// use std::time::Duration;
/// use secret_resolver::backend::random_part;
///
/// let second = Duration::from_secs(1);
/// assert!(random_part(second) <= second);
/// ```
#[must_use]
pub fn random_part(whole: Duration) -> Duration {
    // The keys of a hasher are random, and different at each call: that is enough here.
    let draw = RandomState::new().hash_one(0_u8);
    // 584 years fit.
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(draw % nanos.saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_never_more_than_the_whole_and_not_always_the_same() {
        let whole = Duration::from_secs(100);
        let parts: Vec<_> = (0..1000).map(|_| random_part(whole)).collect();
        assert!(parts.iter().all(|part| *part <= whole));
        for tenth in 0..10 {
            let there = |part: &&Duration| part.as_secs() / 10 == tenth;
            let number = parts.iter().filter(there).count();
            assert!((30..300).contains(&number), "{number} of 1000 in one tenth");
        }
        assert_eq!(random_part(Duration::ZERO), Duration::ZERO);
        let _ = random_part(Duration::MAX);
    }
}
