//! A little randomness for timers, so that a fleet that started together does not log in together.

use std::time::Duration;

use secret_resolver::backend::random_part;

/// `base`, plus or minus up to `tenths` tenths of it.
pub(crate) fn spread(base: Duration, tenths: u32) -> Duration {
    let part = base / 10 * tenths;
    base - part + random_part(part * 2)
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
