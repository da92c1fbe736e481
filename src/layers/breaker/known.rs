//! The names that a store has answered: they have their own trial, which a flood cannot take.

use std::hash::{BuildHasher, RandomState};

use crate::name::NameRef;

/// Tags of names in a table of fixed size: a set of places for each name. When a new name needs
/// a place, the oldest leaves.
#[derive(Debug)]
pub(super) struct Known {
    /// Empty until a name is noted. 0 is an empty place.
    sets: Box<[[u32; Self::PLACES]]>,
    // Keyed, so that no caller can choose names that displace others.
    random: RandomState,
}

impl Known {
    /// With as many places 64 KiB: a service of some thousand names keeps nearly all of them.
    const SETS: usize = 4_096;
    const PLACES: usize = 4;

    pub(super) fn new() -> Self {
        Self {
            sets: Box::default(),
            random: RandomState::new(),
        }
    }

    /// What the record of `name` is known by.
    pub(super) fn hash(&self, name: NameRef<'_>) -> u64 {
        self.random.hash_one(name.path())
    }

    pub(super) fn note(&mut self, hash: u64) {
        if self.sets.is_empty() {
            self.sets = vec![[0; Self::PLACES]; Self::SETS].into();
        }
        let (set, tag) = Self::place(hash);
        if let Some(set) = self.sets.get_mut(set)
            && !set.contains(&tag)
        {
            set.rotate_right(1);
            set[0] = tag;
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        let (set, tag) = Self::place(hash);
        self.sets.get(set).is_some_and(|set| set.contains(&tag))
    }

    /// The set of a name and its tag there, from different bits.
    fn place(hash: u64) -> (usize, u32) {
        let tag = (hash >> 32) as u32;
        (hash as usize % Self::SETS, tag.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_three_thousand_names_keeps_them_known() {
        let mut known = Known::new();
        let names = |of: &str| (0..3_000).map(|number| format!("{of}/{number}")).collect();
        let (ours, others): (Vec<String>, Vec<String>) = (names("ours"), names("others"));
        let hash = |known: &Known, name: &String| known.hash(NameRef::parse(name).unwrap());
        assert!(!known.has(hash(&known, &ours[0])));
        // Each again and again, as a service reads them.
        for name in ours.iter().chain(&ours) {
            let hash = hash(&known, name);
            known.note(hash);
            assert!(known.has(hash));
        }
        let count = |names: &[String]| {
            let held = names.iter().filter(|name| known.has(hash(&known, name)));
            held.count()
        };
        // Four are lost on average, by chance.
        assert!(count(&ours) >= 2_950, "{}", count(&ours));
        assert!(count(&others) <= 1, "{}", count(&others));
    }
}
