//! Variables: their values, versions and types.

use std::time::Duration;

use crate::ConjurDouble;
use crate::state::Dynamic;

/// Variables.
impl ConjurDouble {
    /// Adds a policy, as a branch of others.
    pub fn add_policy(&self, id: &str) {
        self.make(&mut self.shared().state(), &format!("policy:{id}"));
    }

    /// Creates a variable without a value, unless it is there.
    pub fn add_variable(&self, id: &str) {
        self.make(&mut self.shared().state(), &format!("variable:{id}"));
    }

    /// Stores a value, creates the variable for it where needed, and returns the value's version.
    ///
    /// # Panics
    /// The value is empty, which the server refuses.
    pub fn set(&self, id: &str, value: impl AsRef<[u8]>) -> u64 {
        let value = value.as_ref();
        assert!(!value.is_empty(), "a value may not be empty");
        let id = format!("variable:{id}");
        let mut state = self.shared().state();
        self.make(&mut state, &id);
        let found = state.resources.get_mut(&self.full(&id));
        found.map_or(0, |found| found.variable.store(value))
    }

    /// The media type that a variable's value is served with.
    pub fn set_mime_type(&self, id: &str, mime_type: &str) {
        self.annotate(&format!("variable:{id}"), "conjur/mime_type", mime_type);
    }

    /// Annotates any record, named with its kind.
    pub fn annotate(&self, id: &str, name: &str, value: &str) {
        let mut state = self.shared().state();
        if let Some(found) = state.resources.get_mut(&self.full(id)) {
            found.annotations.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Creates a variable that mints a credential at each read, which lives so long. Its id starts with `data/dynamic/`.
    ///
    /// # Panics
    /// Its id starts with something else.
    pub fn add_dynamic(&self, id: &str, life: Duration) {
        assert!(
            id.starts_with("data/dynamic/"),
            "a dynamic secret is below data/dynamic/"
        );
        let id = format!("variable:{id}");
        let mut state = self.shared().state();
        self.make(&mut state, &id);
        if let Some(found) = state.resources.get_mut(&self.full(&id)) {
            found.variable.dynamic = Some(Dynamic::new(life));
        }
    }

    /// How many credentials a dynamic variable has minted.
    #[must_use]
    pub fn minted(&self, id: &str) -> u64 {
        let state = self.shared().state();
        let found = state.resources.get(&self.full(&format!("variable:{id}")));
        let dynamic = found.and_then(|found| found.variable.dynamic.as_ref());
        dynamic.map_or(0, Dynamic::minted)
    }

    /// Deletes a variable with its values and all that was granted on it.
    pub fn delete(&self, id: &str) {
        let id = self.full(&format!("variable:{id}"));
        self.shared().state().delete(&id);
    }

    /// The versions that a variable keeps, oldest first.
    #[must_use]
    pub fn versions(&self, id: &str) -> Vec<u64> {
        let state = self.shared().state();
        let found = state.resources.get(&self.full(&format!("variable:{id}")));
        found.map_or_else(Vec::new, |found| found.variable.versions())
    }

    /// The latest value of a variable.
    #[must_use]
    pub fn value(&self, id: &str) -> Option<Vec<u8>> {
        let id = self.full(&format!("variable:{id}"));
        self.shared().state().value(&id).map(<[u8]>::to_vec)
    }
}
