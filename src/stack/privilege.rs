//! Least privilege at start: what the identities of the stores may do beyond reading what `require` declares.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::Resolver;
use crate::audit;
use crate::error::{Error, ErrorKind, Repeat};
use crate::in_time::{TimeLimit, in_time};
use crate::name::{NameRef, SecretName};
use crate::resolver::{Excess, SecretResolver};
use crate::sync::lock;

/// What was declared so far, and whether more rights than it needs are refused.
pub(super) struct Privilege {
    refuses: bool,
    declared: Mutex<Declared>,
}

#[derive(Default)]
struct Declared {
    names: BTreeSet<SecretName>,
    /// The login under which the stores were asked about these.
    identity: u64,
}

/// How long the answer may take: a start is held up for a warning no longer than this, and where it decides, as long as many names
/// take.
const FOR_A_WARNING: Duration = Duration::from_secs(2);
const TO_DECIDE: Duration = Duration::from_secs(60);

impl Privilege {
    pub(super) fn new(refuses: bool) -> Self {
        Self {
            refuses,
            declared: Mutex::default(),
        }
    }

    /// All that was declared, with these; `None` when none of them is new, and the login is the same.
    fn with(&self, names: Vec<SecretName>, identity: u64) -> Option<BTreeSet<SecretName>> {
        let declared = lock(&self.declared);
        let mut all = declared.names.clone();
        all.extend(names);
        let is_new = all.len() > declared.names.len() || declared.identity != identity;
        is_new.then_some(all)
    }
}

impl Resolver {
    /// Asks the stores what else their identities may do, once for each name and login, and says it: by a warning, or as an
    /// error. A question that gets no answer in time is an error, too.
    ///
    /// # Cancel safety
    /// Dropped, nothing counts as asked.
    pub(super) async fn least_privilege(&self, names: Vec<SecretName>) -> Result<(), Error> {
        let privilege = &self.stack.privilege;
        let identity = self.stack.identity();
        let Some(declared) = privilege.with(names, identity) else {
            return Ok(());
        };
        let all: Vec<_> = declared.iter().map(SecretName::borrowed).collect();
        let clock = &self.stack.clock;
        let patience = match privilege.refuses {
            true => TO_DECIDE,
            false => FOR_A_WARNING,
        };
        let limit = TimeLimit::strict(&**clock, clock.now() + patience);
        let answer = in_time(limit, self.excess_of(&all)).await;
        let found = answer
            .unwrap_or_else(|| Err(too_late()))
            .map(|excess| Found::new(&excess, &declared, privilege.refuses));
        match found {
            Ok(Some(found)) if privilege.refuses => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    "the identity at the store may do more than read what is required; narrow its policy",
                )
                .with_detail(found.to_string()));
            }
            Ok(Some(found)) => audit::excess(&found),
            Ok(None) => {}
            Err(error) if privilege.refuses => return Err(error),
            // Asked again with the next names.
            Err(error) => {
                audit::excess_unknown(&error);
                return Ok(());
            }
        }
        let mut known = lock(&privilege.declared);
        known.names.extend(declared);
        known.identity = identity;
        Ok(())
    }
}

impl Resolver {
    /// Asked again where the error may pass: no retry and no breaker stands before this.
    async fn excess_of(&self, names: &[NameRef<'_>]) -> Result<Vec<Excess>, Error> {
        let mut tries = 0;
        loop {
            let answer = self.stack.excess(names).await;
            tries += 1;
            match answer {
                Err(error) if tries < TRIES && error.kind().permits().retry != Repeat::Never => {
                    let clock = &self.stack.clock;
                    let _ = clock.pause_until(clock.now() + PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// How often a store is asked, and how long after a failure it is asked again.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// What was found, as a text.
struct Found {
    root: bool,
    unknown: bool,
    writable: Vec<SecretName>,
    /// More than one store may have said it.
    others: Option<Option<u64>>,
}

/// How many names of a long list are shown.
const SHOWN: usize = 5;

impl Found {
    /// `None` for nothing. That a store cannot say counts only where that is refused.
    fn new(excess: &[Excess], names: &BTreeSet<SecretName>, counts_unknown: bool) -> Option<Self> {
        let names: Vec<_> = names.iter().collect();
        let is = |wanted: Excess| excess.contains(&wanted);
        let writable = excess.iter().filter_map(|excess| match excess {
            Excess::Write(position) => names.get(*position).map(|&name| name.clone()),
            _ => None,
        });
        let others = excess.iter().filter_map(|excess| match excess {
            Excess::Others(number) => Some(*number),
            _ => None,
        });
        let found = Self {
            root: is(Excess::Root),
            unknown: counts_unknown && is(Excess::Unknown),
            writable: writable.collect(),
            others: others.reduce(|one, other| one?.checked_add(other?)),
        };
        let any = found.root || found.unknown || found.others.is_some();
        (any || !found.writable.is_empty()).then_some(found)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.root {
            parts.push("it may do anything".to_owned());
        }
        if let [shown @ .., last] = &self.writable[..self.writable.len().min(SHOWN)] {
            let mut names: String = shown.iter().map(|name| format!("{name}, ")).collect();
            names.push_str(last.as_str());
            let more = self.writable.len().saturating_sub(SHOWN);
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            parts.push(format!("it may change {names}{more}"));
        }
        match self.others {
            Some(Some(number)) => parts.push(format!("it may see {number} other secrets")),
            Some(None) => parts.push("it may see or read other secrets".to_owned()),
            None => {}
        }
        if self.unknown {
            parts.push("a store cannot say what it may do".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

fn too_late() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the store did not say in time what its identity may do",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(excess: &[Excess], counts_unknown: bool) -> Option<String> {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let names = names.map(|name| SecretName::parse(name).unwrap()).into();
        Found::new(excess, &names, counts_unknown).map(|found| found.to_string())
    }

    #[test]
    fn what_is_found_is_said_in_words_with_a_few_of_many_names() {
        use Excess::{Others, Root, Unknown, Write};
        for (excess, text) in [
            (&[Root][..], "it may do anything"),
            (&[Write(1)], "it may change b"),
            (&[Write(1), Write(0)], "it may change b, a"),
            (
                &[Others(Some(2)), Others(Some(3))],
                "it may see 5 other secrets",
            ),
            (
                &[Others(Some(2)), Others(None)],
                "it may see or read other secrets",
            ),
            (&[Write(2), Root], "it may do anything; it may change c"),
        ] {
            assert_eq!(shown(excess, false).as_deref(), Some(text));
        }
        let all: Vec<_> = (0..7).map(Write).collect();
        let text = "it may change a, b, c, d, e and 2 more";
        assert_eq!(shown(&all, false).as_deref(), Some(text));
        // What no name has is nothing.
        assert_eq!(shown(&[Write(7)], true), None);
        assert_eq!(shown(&[Unknown], false), None);
        let text = "a store cannot say what it may do";
        assert_eq!(shown(&[Unknown], true).as_deref(), Some(text));
    }
}
