//! What this identity may do beyond reading the names that a service declares.
//!
//! It asks, and none of it shows or changes a value: how many variables the identity sees; whether it may load policy at the root, or
//! at a branch above a declared variable, which `create` and `update` allow; and whether it may update each variable. Conjur has
//! no question for several at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use secret_resolver::Error;
use secret_resolver::backend::{Excess, NameRef};
use secret_resolver_session::{Attempt, Token};

use crate::answers::{self, Asked};
use crate::auth::Conjur;
use crate::resolver::{Parts, Read};
use crate::wire;

/// How many questions are under way at once.
const AT_ONCE: usize = 32;

/// The names of one variable, or those below one policy, by their positions.
type Positions = BTreeSet<usize>;

impl Parts {
    pub(crate) async fn excess(
        &self,
        names: &[NameRef<'_>],
        attempt: &Attempt<'_, Conjur>,
    ) -> Result<Vec<Excess>, Error> {
        let variables = self.variables(names);
        let variables = &variables;
        let ask = |token: Arc<Token>| async move { self.excess_with(&token, variables).await };
        self.with_token(attempt, None, ask).await
    }

    /// The variables that the names mean.
    fn variables(&self, names: &[NameRef<'_>]) -> BTreeMap<String, Positions> {
        let mut ids: BTreeMap<String, Positions> = BTreeMap::new();
        for (position, &name) in names.iter().enumerate() {
            let located = self.names.locate(name);
            let address = located.address().as_str();
            let own: Vec<_> = match self.names.joined(address) {
                Some(joined) => joined.fields().map(|(_, id)| id).collect(),
                None => vec![address],
            };
            for id in own {
                ids.entry(id.to_owned()).or_default().insert(position);
            }
        }
        ids
    }

    async fn excess_with(
        &self,
        token: &Token,
        variables: &BTreeMap<String, Positions>,
    ) -> Result<Read<Vec<Excess>>, Error> {
        // First, because a service without these paths, as an Edge, answers "not found", which elsewhere means "no".
        let seen = match self.count(token).await? {
            Read::Done(seen) => seen,
            Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
        };
        let mut questions = vec![
            Question::new("policy", "root", "create", None),
            Question::new("policy", "root", "update", None),
        ];
        for (branch, positions) in branches(variables) {
            for privilege in ["create", "update"] {
                let positions = Some(positions.clone());
                questions.push(Question::new("policy", &branch, privilege, positions));
            }
        }
        for (id, positions) in variables {
            let positions = Some(positions.clone());
            questions.push(Question::new("variable", id, "update", positions));
        }
        let asked = stream::iter(questions).map(|question| async move {
            let may = self.may(token, &question).await?;
            Ok::<_, Error>((may, question.positions))
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut written = BTreeSet::new();
        let mut root = false;
        for (may, positions) in answers {
            match (may, positions) {
                (Read::Refused(endpoint), _) => return Ok(Read::Refused(endpoint)),
                (Read::Done(false), _) => {}
                (Read::Done(true), None) => root = true,
                (Read::Done(true), Some(positions)) => written.extend(positions),
            }
        }
        // And so everything else, too.
        if root {
            return Ok(Read::Done(vec![Excess::Root]));
        }
        let mut excess: Vec<_> = written.into_iter().map(Excess::Write).collect();
        // What may be read is seen.
        match seen.saturating_sub(variables.len() as u64) {
            0 => {}
            others => excess.push(Excess::Others(Some(others))),
        }
        Ok(Read::Done(excess))
    }

    async fn count(&self, token: &Token) -> Result<Read<u64>, Error> {
        let path = self.client().path_of_count();
        let reply = self.client().read(&path, token.secret(), None).await?;
        match reply.status() {
            200 => wire::count(reply.body()).map(Read::Done),
            _ if answers::is_refusal(&reply) => Ok(Read::Refused(reply.endpoint())),
            _ => Err(answers::error_of(Asked::Rights, &path, &reply)),
        }
    }

    async fn may(&self, token: &Token, question: &Question) -> Result<Read<bool>, Error> {
        let Question {
            kind,
            id,
            privilege,
            ..
        } = question;
        let path = self.client().path_of_check(kind, id, privilege);
        let reply = self.client().read(&path, token.secret(), None).await?;
        match reply.status() {
            204 => Ok(Read::Done(true)),
            // Empty for what it sees (recorded), and perhaps with a text for what it does not.
            404 if answers::is_conjurs_own(reply.body()) => Ok(Read::Done(false)),
            _ if answers::is_refusal(&reply) => Ok(Read::Refused(reply.endpoint())),
            _ => Err(answers::error_of(Asked::Rights, &path, &reply)),
        }
    }
}

/// Whether the identity may do this.
struct Question {
    kind: &'static str,
    id: String,
    privilege: &'static str,
    /// Which names it may change then; none for everything.
    positions: Option<Positions>,
}

impl Question {
    fn new(
        kind: &'static str,
        id: &str,
        privilege: &'static str,
        positions: Option<Positions>,
    ) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            privilege,
            positions,
        }
    }
}

/// The policies that variables with these ids may be in, with the names below each.
fn branches(variables: &BTreeMap<String, Positions>) -> BTreeMap<String, Positions> {
    let mut branches: BTreeMap<String, Positions> = BTreeMap::new();
    for (id, positions) in variables {
        for (end, _) in id.match_indices('/').filter(|(end, _)| *end > 0) {
            let branch = branches.entry(id[..end].to_owned()).or_default();
            branch.extend(positions);
        }
    }
    branches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branches_of_a_variable_are_all_policies_above_it() {
        let variables = BTreeMap::from([
            ("prod/db/user".to_owned(), BTreeSet::from([0])),
            ("prod/token".to_owned(), BTreeSet::from([1, 2])),
            ("top".to_owned(), BTreeSet::from([3])),
        ]);
        let branches: Vec<_> = branches(&variables).into_iter().collect();
        let all = [
            ("prod".to_owned(), BTreeSet::from([0, 1, 2])),
            ("prod/db".to_owned(), BTreeSet::from([0])),
        ];
        assert_eq!(branches, all);
    }
}
