//! A table by address, in the order in which its values were put in, and bounded: what was put in least
//! recently goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) struct Recent<V> {
    numbers: HashMap<Arc<str>, u64>,
    /// By the number of their last putting in.
    values: BTreeMap<u64, (Arc<str>, V)>,
    next: u64,
    most: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            values: BTreeMap::new(),
            next: 0,
            most: most.max(1),
        }
    }

    pub(super) fn get(&self, address: &str) -> Option<&V> {
        let (_, value) = self.values.get(self.numbers.get(address)?)?;
        Some(value)
    }

    pub(super) fn get_mut(&mut self, address: &str) -> Option<&mut V> {
        let (_, value) = self.values.get_mut(self.numbers.get(address)?)?;
        Some(value)
    }

    /// Puts `value` in the place of what was held at the address; returns the one that made room.
    pub(super) fn put(&mut self, address: Arc<str>, value: V) -> Option<V> {
        self.remove(&address);
        let made_room = match self.len() >= self.most {
            true => self.remove_oldest(|_| true),
            false => None,
        };
        self.numbers.insert(Arc::clone(&address), self.next);
        self.values.insert(self.next, (address, value));
        self.next += 1;
        made_room
    }

    pub(super) fn remove(&mut self, address: &str) -> Option<V> {
        let number = self.numbers.remove(address)?;
        self.values.remove(&number).map(|(_, value)| value)
    }

    /// Removes the oldest value, if it is meant.
    pub(super) fn remove_oldest(&mut self, is_meant: impl Fn(&V) -> bool) -> Option<V> {
        let oldest = self.values.first_entry()?;
        if !is_meant(&oldest.get().1) {
            return None;
        }
        let (address, value) = oldest.remove();
        self.numbers.remove(&address);
        Some(value)
    }

    /// All values with their numbers, in their order: from this number on, and round to it.
    pub(super) fn round_from(&self, number: u64) -> impl Iterator<Item = (u64, &V)> {
        let (before, after) = (self.values.range(..number), self.values.range(number..));
        let round = after.chain(before);
        round.map(|(number, (_, value))| (*number, value))
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.numbers.len(), self.values.len());
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_drops_what_was_put_in_least_recently() {
        let mut recent = Recent::new(3);
        for (name, made_room) in [
            ("a", None),
            ("b", None),
            ("c", None),
            ("a", None),
            ("d", Some("b")),
        ] {
            assert_eq!(recent.put(Arc::from(name), name), made_room);
        }
        assert_eq!((recent.len(), recent.get("b")), (3, None));
        let round = |number| recent.round_from(number).map(|(_, value)| *value);
        assert_eq!(round(0).collect::<Vec<_>>(), ["c", "a", "d"]);
        assert_eq!(round(4).collect::<Vec<_>>(), ["d", "c", "a"]);
        assert_eq!(recent.remove("c"), Some("c"));
        assert_eq!(recent.remove_oldest(|oldest| *oldest == "d"), None);
        assert_eq!(recent.remove_oldest(|oldest| *oldest == "a"), Some("a"));
        assert_eq!((recent.len(), recent.get("d")), (1, Some(&"d")));
    }

    #[test]
    fn it_holds_at_least_one() {
        let mut recent = Recent::new(0);
        recent.put(Arc::from("a"), 1);
        assert_eq!(recent.get("a"), Some(&1));
    }
}
