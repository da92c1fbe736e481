//! The values of one variable: numbered from 1, twenty kept, the same value again is no new one. A dynamic variable has none: each
//! read mints one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::json;

/// How many values are kept.
const KEPT: usize = 20;

/// What a variable holds; empty for every other kind of record.
#[derive(Clone, Default)]
pub(crate) struct Variable {
    /// The kept values, oldest first.
    values: VecDeque<(u64, Vec<u8>)>,
    pub(crate) dynamic: Option<Dynamic>,
}

/// Where values are minted. Clones share the count, so that a follower's reads are counted with its leader's.
#[derive(Clone)]
pub(crate) struct Dynamic {
    life: Duration,
    minted: Arc<AtomicU64>,
}

impl Variable {
    pub(crate) fn latest(&self) -> Option<&[u8]> {
        self.values.back().map(|(_, value)| value.as_slice())
    }

    pub(crate) fn at(&self, version: u64) -> Option<&[u8]> {
        self.values
            .iter()
            .find(|(number, _)| *number == version)
            .map(|(_, value)| value.as_slice())
    }

    pub(crate) fn versions(&self) -> Vec<u64> {
        self.values.iter().map(|(number, _)| *number).collect()
    }

    /// Stores a value and returns the number under which it is to be found.
    pub(crate) fn store(&mut self, value: &[u8]) -> u64 {
        let last = self.values.back();
        if let Some((number, _)) = last.filter(|(_, stored)| stored == value) {
            return *number;
        }
        let number = last.map_or(0, |(number, _)| *number) + 1;
        self.values.push_back((number, value.to_vec()));
        if self.values.len() > KEPT {
            self.values.pop_front();
        }
        number
    }
}

impl Dynamic {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            life,
            minted: Arc::default(),
        }
    }

    pub(crate) fn minted(&self) -> u64 {
        self.minted.load(Ordering::Relaxed)
    }

    /// A new credential, as JSON.
    pub(crate) fn mint(&self, id: &str) -> String {
        let number = self.minted.fetch_add(1, Ordering::Relaxed) + 1;
        let (id, life) = (json::quote(id), self.life.as_secs());
        format!(
            r#"{{"id":{id},"ttl":{life},"data":{{"username":"minted-{number}","password":"password of minted-{number}"}}}}"#
        )
    }
}
