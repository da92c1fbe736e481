//! What a test can make go wrong: one answer, all answers, or the network.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::log::Kind;
use crate::{Answer, ConjurDouble};

/// What happens in place of an honest answer, or to it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// This answer, and nothing is done.
    Answer(Answer),
    /// The request waits so long before it is looked at.
    Delay(Duration),
    /// The answer is computed at once and sent so much later.
    Late(Duration),
    /// The answer is computed at once and sent when the gate opens.
    Held(Gate),
    /// No answer, on a connection that stays open until the peer leaves.
    Hang,
    /// No answer, and the connection is closed without even the end of TLS.
    Close,
    /// The honest head, so many bytes of the body, then a clean close.
    Truncate(usize),
    /// These bytes and nothing else, then a clean close.
    Raw(Vec<u8>),
}

/// By its name alone: an answer can hold a value.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Delay(_) => "Delay",
            Self::Late(_) => "Late",
            Self::Held(_) => "Held",
            Self::Hang => "Hang",
            Self::Close => "Close",
            Self::Truncate(_) => "Truncate",
            Self::Raw(_) => "Raw",
        })
    }
}

/// Holds answers back until a test opens it, for good. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits for a moment; whether the gate is open.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(open, limit, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Which requests a fault meets. A `&str` is the beginning of the target, as sent; a [`Kind`] is what is asked.
#[derive(Clone, Debug)]
pub enum Where {
    /// All of them.
    Anywhere,
    /// Those of this kind.
    Kind(Kind),
    /// Those whose target starts with this.
    Target(String),
}

impl From<Kind> for Where {
    fn from(kind: Kind) -> Self {
        Self::Kind(kind)
    }
}

impl From<&str> for Where {
    fn from(target: &str) -> Self {
        Self::Target(target.to_owned())
    }
}

impl Where {
    fn meets(&self, kind: Kind, target: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Kind(wanted) => *wanted == kind,
            Self::Target(start) => target.starts_with(start),
        }
    }
}

/// The faults of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    once: VecDeque<(Where, Fault)>,
    always: Vec<(Where, Fault)>,
    pub(crate) black_hole: bool,
}

impl Faults {
    /// The fault of the next request of this kind; one that was for once is used up.
    pub(crate) fn take(&mut self, kind: Kind, target: &str) -> Option<Fault> {
        let met = |(place, _): &(Where, Fault)| place.meets(kind, target);
        if let Some(at) = self.once.iter().position(met) {
            return self.once.remove(at).map(|(_, fault)| fault);
        }
        let lasting = self.always.iter().find(|fault| met(fault));
        lasting.map(|(_, fault)| fault.clone())
    }
}

/// Faults, of this endpoint alone.
impl ConjurDouble {
    /// The next request there meets this fault. Several wait for one request each, in their order.
    pub fn fault_next(&self, place: impl Into<Where>, fault: Fault) {
        let fault = (place.into(), fault);
        self.endpoint().faults().once.push_back(fault);
    }

    /// Every request there meets this fault, until [`ConjurDouble::clear_faults`].
    pub fn fault_always(&self, place: impl Into<Where>, fault: Fault) {
        let fault = (place.into(), fault);
        self.endpoint().faults().always.push(fault);
    }

    /// Ends all faults of answers. What waits already, waits on.
    pub fn clear_faults(&self) {
        let mut faults = self.endpoint().faults();
        faults.once.clear();
        faults.always.clear();
    }

    /// Swallows everything, on the connections that are open and on new ones: they are accepted and nothing is ever sent on them.
    /// Connections that met it stay lost when it ends.
    pub fn set_black_hole(&self, black_hole: bool) {
        self.endpoint().faults().black_hole = black_hole;
    }
}
