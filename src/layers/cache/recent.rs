//! A bounded table by address: what was put in least recently goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) struct Recent<V> {
    by_address: HashMap<Arc<str>, (u64, V)>,
    /// By the number of their last putting in.
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
    most: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_address: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            most: most.max(1),
        }
    }

    pub(super) fn get(&self, address: &str) -> Option<&V> {
        self.by_address.get(address).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, address: &str) -> Option<&mut V> {
        self.by_address.get_mut(address).map(|(_, value)| value)
    }

    /// Puts `value` in the place of what was held at the address; returns the one that had to make room.
    pub(super) fn put(&mut self, address: Arc<str>, value: V) -> Option<V> {
        self.remove(&address);
        let made_room = match self.by_address.len() >= self.most {
            true => self.remove_oldest(),
            false => None,
        };
        let number = self.next;
        self.next += 1;
        self.order.insert(number, Arc::clone(&address));
        self.by_address.insert(address, (number, value));
        made_room
    }

    pub(super) fn remove(&mut self, address: &str) -> Option<V> {
        let (number, value) = self.by_address.remove(address)?;
        self.order.remove(&number);
        Some(value)
    }

    pub(super) fn oldest(&self) -> Option<&V> {
        let (_, address) = self.order.first_key_value()?;
        self.get(address)
    }

    pub(super) fn remove_oldest(&mut self) -> Option<V> {
        let (_, address) = self.order.pop_first()?;
        self.by_address.remove(&address).map(|(_, value)| value)
    }

    /// Empties it; returns what it held.
    pub(super) fn take(&mut self) -> impl Iterator<Item = V> + use<V> {
        self.order.clear();
        let all = std::mem::take(&mut self.by_address);
        all.into_values().map(|(_, value)| value)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_address.len(), self.order.len());
        self.order.len()
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
        assert_eq!(
            (recent.len(), recent.get("b"), recent.oldest()),
            (3, None, Some(&"c"))
        );
        assert_eq!(recent.remove("c"), Some("c"));
        assert_eq!(recent.remove_oldest(), Some("a"));
        assert_eq!(recent.take().collect::<Vec<_>>(), ["d"]);
        assert_eq!((recent.len(), recent.oldest()), (0, None));
    }

    #[test]
    fn it_holds_at_least_one() {
        let mut recent = Recent::new(0);
        recent.put(Arc::from("a"), 1);
        assert_eq!(recent.get("a"), Some(&1));
    }
}
