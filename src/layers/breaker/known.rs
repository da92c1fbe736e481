//! The names that a store has answered: whose trial is not the flood's.

use std::hash::{BuildHasher, RandomState};

use crate::name::NameRef;

/// Hashes of names in a table of fixed size. A name that falls on the place of another takes it.
#[derive(Debug)]
pub(super) struct Known {
    places: Box<[u64]>,
    // Keyed, so that nobody can choose names which displace others.
    random: RandomState,
}

impl Known {
    const PLACES: usize = 1024;

    pub(super) fn new() -> Self {
        Self {
            places: vec![0; Self::PLACES].into(),
            random: RandomState::new(),
        }
    }

    /// What the record of `name` is known by.
    pub(super) fn hash(&self, name: NameRef<'_>) -> u64 {
        // 0 is an empty place.
        self.random.hash_one(name.path()).max(1)
    }

    pub(super) fn note(&mut self, hash: u64) {
        if let Some(place) = self.places.get_mut(hash as usize % Self::PLACES) {
            *place = hash;
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        self.places.get(hash as usize % Self::PLACES) == Some(&hash)
    }
}
