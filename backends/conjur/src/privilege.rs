//! What this identity may do beyond reading the names that a service declares.
//!
//! Three questions, none of which shows or changes a value: how many variables the identity sees, whether it may update the root
//! policy, and whether it may update each variable. Conjur has no question for several at once.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use secret_resolver::Error;
use secret_resolver::backend::{Excess, NameRef};
use secret_resolver_session::Token;

use crate::answers::{self, Asked};
use crate::resolver::Parts;
use crate::wire;

/// How many questions are under way at once: as many as there are connections, as a rule.
const AT_ONCE: usize = 8;

impl Parts {
    pub(crate) async fn excess(&self, names: &[NameRef<'_>]) -> Result<Vec<Excess>, Error> {
        let mut ids: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (position, &name) in names.iter().enumerate() {
            let located = self.names.locate(name);
            let address = located.address().as_str();
            let of_record = self.names.joined(address).into_iter();
            let of_record = of_record.flat_map(|joined| joined.fields().map(|(_, id)| id));
            let own: Vec<_> = of_record.collect();
            for id in if own.is_empty() { vec![address] } else { own } {
                ids.entry(id.to_owned()).or_default().push(position);
            }
        }
        let token = self.session.token(None).await?;
        // First, because a service without these paths, as an Edge, answers "not found", which elsewhere means "no".
        let seen = self.count(&token).await?;
        if self.may_update(&token, "policy", "root").await? {
            // And so everything else, too.
            return Ok(vec![Excess::Root]);
        }
        let declared = ids.len() as u64;
        let token = &token;
        let asked = stream::iter(ids).map(|(id, positions)| async move {
            let may = self.may_update(token, "variable", &id).await?;
            Ok::<_, Error>(may.then_some(positions))
        });
        let writable: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        // In the order of the names, whichever was answered first.
        let writable: BTreeSet<_> = writable.into_iter().flatten().flatten().collect();
        let mut excess: Vec<_> = writable.into_iter().map(Excess::Write).collect();
        // What may be read is seen.
        match seen.saturating_sub(declared) {
            0 => {}
            others => excess.push(Excess::Others(Some(others))),
        }
        Ok(excess)
    }

    async fn count(&self, token: &Token) -> Result<u64, Error> {
        let path = self.client().path_of_count();
        let reply = self.client().read(&path, token.secret(), None).await?;
        match reply.status() {
            200 => wire::count(reply.body()),
            _ => Err(answers::error_of(Asked::Rights, &path, &reply)),
        }
    }

    async fn may_update(&self, token: &Token, kind: &str, id: &str) -> Result<bool, Error> {
        let path = self.client().path_of_check(kind, id);
        let reply = self.client().read(&path, token.secret(), None).await?;
        match reply.status() {
            204 => Ok(true),
            // Empty for what it sees (recorded), and perhaps with a text for what it does not.
            404 if answers::is_conjurs_own(reply.body()) => Ok(false),
            _ => Err(answers::error_of(Asked::Rights, &path, &reply)),
        }
    }
}
