//! The other names of a request that reads several at once.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind};
use crate::name::{NameRef, SecretName};
use crate::secret::Record;
use crate::sync::lock;

/// Names that a store reads in one request, together with the request's own; from [`Request::batch`](super::Request::batch).
///
/// Only a backend that says so by [`SecretResolver::at_once`](crate::SecretResolver::at_once) gets one. It answers the
/// request's own name by what `resolve` returns, and each of these by [`answer`](Self::answer). Each name is answered for
/// itself: one that is not found or denied fails alone, as if it was asked alone. When the whole request fails, the error
/// that `resolve` returns is that of every name without an answer. A name without an answer where `resolve` returns a value,
/// or an error of one secret (not found, denied), is asked again alone. So is the request's own name after
/// [`leave_out`](Self::leave_out).
pub struct Batch {
    others: Box<[Other]>,
    leaves_out: AtomicBool,
}

struct Other {
    name: SecretName,
    answer: Mutex<Option<Result<Record, Error>>>,
}

impl Batch {
    pub(crate) fn new(names: impl IntoIterator<Item = SecretName>) -> Self {
        let others = names.into_iter().map(|name| Other {
            name,
            answer: Mutex::default(),
        });
        Self {
            others: others.collect(),
            leaves_out: AtomicBool::new(false),
        }
    }

    /// The names, in the order of their places.
    pub fn names(&self) -> impl ExactSizeIterator<Item = NameRef<'_>> {
        self.others.iter().map(|other| other.name.borrowed())
    }

    /// Answers the name at a place of [`names`](Self::names), the first at 0. The last answer counts: a request that is
    /// tried again answers again. A place that does not exist is passed over.
    pub fn answer(&self, place: usize, answer: Result<Record, Error>) {
        if let Some(other) = self.others.get(place) {
            let before = lock(&other.answer).replace(answer);
            // Wiped outside of the lock.
            drop(before);
        }
    }

    /// Whether the name at a place has an answer, as where a request is tried again.
    #[must_use]
    pub fn is_answered(&self, place: usize) -> bool {
        let other = self.others.get(place);
        other.is_some_and(|other| lock(&other.answer).is_some())
    }

    /// Leaves the request's own name without an answer, too: it is asked again alone, as one whose answer would hold up the others.
    /// What it returns is for `resolve` to return.
    #[must_use]
    pub fn leave_out(&self) -> Error {
        self.leaves_out.store(true, Ordering::Relaxed);
        // To the guards between it is an answer of the store.
        Error::new(ErrorKind::NotFound, "the name is asked again alone")
    }

    pub(crate) fn leaves_out(&self) -> bool {
        self.leaves_out.load(Ordering::Relaxed)
    }

    /// What was answered, in the order of the names.
    pub(crate) fn answers(&self) -> impl Iterator<Item = Option<Result<Record, Error>>> {
        self.others.iter().map(|other| lock(&other.answer).take())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.others.iter().map(|other| &other.name);
        f.debug_list().entries(names).finish()
    }
}
