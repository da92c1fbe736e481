//! What this identity may do beyond reading the names that a service declares, by `sys/capabilities-self`: it answers for many paths
//! at once, and changes nothing. A path need not exist: so a name that nobody uses stands for all others of its place.

use std::collections::{BTreeMap, BTreeSet};

use secret_resolver::backend::{Excess, NameRef};
use secret_resolver::{Error, SecretBuf};
use secret_resolver_session::{Attempt, Token, Verdict};
use secret_resolver_transport::{Method, Reply};

use crate::answers::{self, Asked};
use crate::auth::Vault;
use crate::client::Ask;
use crate::resolver::Parts;
use crate::wire::Own;
use crate::{error, wire};

const TARGET: &str = "/v1/sys/capabilities-self";
const LOOKUP: &str = "/v1/auth/token/lookup-self";

/// How many paths are asked about in one request: OpenBao takes no JSON with more than 1,000 strings unless it is set otherwise
/// (`max_request_json_strings`; 2,000 got a 400).
const AT_ONCE: usize = 500;

/// A name that no policy grants by itself, so a right on it is one on all names of its place.
const ANY: &str = "secret-resolver-asks-for-any-name";

/// What a right on a path means.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// A part of the store where this record is changed.
    Record(usize),
    /// A secret that was not declared.
    Other,
    /// The list of what is at one place.
    List,
    /// What gives rights, when it is changed.
    Power,
    /// What gives rights to those with `sudo` alone.
    Sudo,
}

/// Where rights are given: policies, what logs in, what is mounted, and the store below them.
const POWERS: [&str; 13] = [
    "sys/policies/acl/*",
    "sys/policy/*",
    "sys/auth/*",
    "sys/mounts/*",
    "sys/raw/*",
    "identity/entity",
    "identity/entity/id/*",
    "identity/entity/name/*",
    "identity/group",
    "identity/group/id/*",
    "identity/group/name/*",
    "sys/remount",
    "auth/token/roles/*",
];

/// Below the mount of its own login: its own role by name, and any other.
const OF_LOGIN: [&str; 3] = ["role/*", "certs/*", "config"];

/// Tokens of any policy: anyone may make tokens of its own.
const SUDO: [&str; 2] = ["auth/token/create", "auth/token/create-orphan"];

/// What became of a question with one token.
enum Asking<T> {
    Done(T),
    /// The endpoint of this number refuses it: the token may be dead.
    Refused(usize),
}

impl Parts {
    pub(crate) async fn excess(
        &self,
        names: &[NameRef<'_>],
        attempt: &Attempt<'_, Vault>,
    ) -> Result<Vec<Excess>, Error> {
        if self.session.store().is_inline() {
            return Err(error::cannot_ask());
        }
        let mut records: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (position, &name) in names.iter().enumerate() {
            let located = self.names.locate(name);
            let path = located.address().as_str().to_owned();
            records.entry(path).or_default().push(position);
        }
        let records: Vec<_> = records.into_iter().collect();
        let mut again = false;
        loop {
            let token = attempt.token(None).await?;
            let sent = self.session.mark();
            let refused = match self.excess_with(&token, &records).await? {
                Asking::Done(excess) => return Ok(excess),
                Asking::Refused(endpoint) => endpoint,
            };
            match self.session.judge(&token, sent, refused, again).await? {
                Verdict::Denied => return Err(error::may_not_ask()),
                Verdict::Replaced => {}
                Verdict::Dead => again = true,
            }
        }
    }

    async fn excess_with(
        &self,
        token: &Token,
        records: &[(String, Vec<usize>)],
    ) -> Result<Asking<Vec<Excess>>, Error> {
        let own = match self.ask_rights(token, Method::Get, LOOKUP, None).await? {
            Asking::Done(reply) => wire::own(reply.body())?,
            Asking::Refused(endpoint) => return Ok(Asking::Refused(endpoint)),
        };
        let mut paths = paths(&self.mount, records.iter().map(|(path, _)| &**path));
        let login = self.session.store().mount();
        let powers = POWERS.iter().map(ToString::to_string);
        let powers = powers.chain(OF_LOGIN.iter().map(|part| format!("auth/{login}/{part}")));
        let powers = powers.map(|path| path.replace('*', ANY));
        paths.extend(
            powers
                .chain(self.powers_of(&own, login))
                .map(|path| (path, Path::Power)),
        );
        paths.extend(SUDO.map(|path| (path.to_owned(), Path::Sudo)));
        let paths: Vec<_> = paths.into_iter().collect();
        let (mut root, mut others, mut written) = (false, false, BTreeSet::new());
        for some in paths.chunks(AT_ONCE) {
            let body = wire::paths(some.iter().map(|(path, _)| &**path))?;
            let asked = self.ask_rights(token, Method::Post, TARGET, Some(&body));
            let reply = match asked.await? {
                Asking::Done(reply) => reply,
                Asking::Refused(endpoint) => return Ok(Asking::Refused(endpoint)),
            };
            let rights = wire::capabilities(reply.body())?;
            for (path, what) in some {
                let rights = rights.get(path).ok_or_else(wire::no_capabilities)?;
                let may = |wanted: &str| rights.iter().any(|right| right == wanted);
                let may_change = rights.iter().any(|right| !HARMLESS.contains(&&**right));
                root |= may("root");
                match *what {
                    Path::Record(number) if may_change => {
                        written.extend(records.get(number).into_iter().flat_map(|(_, of)| of));
                    }
                    Path::Other => others |= may("read") || may_change,
                    Path::List => others |= may("list"),
                    Path::Power => root |= may_change,
                    Path::Sudo => root |= may("sudo"),
                    Path::Record(_) => {}
                }
            }
        }
        // And so everything else, too.
        if root {
            return Ok(Asking::Done(vec![Excess::Root]));
        }
        let mut excess: Vec<_> = written.into_iter().copied().map(Excess::Write).collect();
        if others {
            excess.push(Excess::Others(None));
        }
        Ok(Asking::Done(excess))
    }

    /// Where the token itself gets its rights from, by their names; and what holds the declared secrets.
    fn powers_of(&self, own: &Own, login: &str) -> Vec<String> {
        let mount = &self.mount;
        let mut powers = vec![
            format!("sys/mounts/{mount}"),
            format!("sys/mounts/{mount}/tune"),
            format!("{mount}/config"),
            format!("sys/auth/{login}"),
        ];
        for policy in &own.policies {
            powers.push(format!("sys/policies/acl/{policy}"));
            powers.push(format!("sys/policy/{policy}"));
        }
        if let Some(entity) = &own.entity {
            powers.push(format!("identity/entity/id/{entity}"));
        }
        for role in own
            .role
            .iter()
            .map(String::as_str)
            .chain(self.session.store().role())
        {
            powers.push(format!("auth/{login}/role/{role}"));
            powers.push(format!("auth/{login}/role/{role}/policies"));
            powers.push(format!("auth/{login}/role/{role}/token-policies"));
            powers.push(format!("auth/{login}/certs/{role}"));
        }
        powers
    }

    async fn ask_rights(
        &self,
        token: &Token,
        method: Method,
        target: &'static str,
        body: Option<&SecretBuf>,
    ) -> Result<Asking<Reply<'_>>, Error> {
        let ask = Ask {
            token: Some(token.secret()),
            body,
            ..Ask::new(method, target)
        };
        let reply = self.client().send(ask).await?;
        match reply.status() {
            200 => Ok(Asking::Done(reply)),
            _ if answers::is_refusal(&reply, false) => Ok(Asking::Refused(reply.endpoint())),
            _ => Err(answers::error_of(Asked::Rights, target, &reply)),
        }
    }
}

/// Capabilities that change nothing. One that a later server adds is taken for one that does.
const HARMLESS: [&str; 4] = ["deny", "list", "read", "subscribe"];

/// The paths to ask about, each once. Where a path is a declared record's and another's neighbour, the record counts.
fn paths<'a>(
    mount: &str,
    records: impl Iterator<Item = &'a str> + Clone,
) -> BTreeMap<String, Path> {
    let mut paths = BTreeMap::from([
        (format!("{mount}/data/{ANY}"), Path::Other),
        (format!("{mount}/metadata/"), Path::List),
    ]);
    for record in records.clone() {
        let segments: Vec<_> = record.split('/').collect();
        for at in 0..segments.len() {
            // Its neighbours at each level, as `team/+/db` grants them.
            let mut other = segments.clone();
            other[at] = ANY;
            paths.insert(format!("{mount}/data/{}", other.join("/")), Path::Other);
            let place: String = segments[..at]
                .iter()
                .map(|part| format!("{part}/"))
                .collect();
            paths.insert(format!("{mount}/metadata/{place}"), Path::List);
        }
        // What is below it, and what begins as it does.
        for end in ["/", "-"] {
            paths.insert(format!("{mount}/data/{record}{end}{ANY}"), Path::Other);
        }
    }
    for (number, record) in records.enumerate() {
        for part in ["data", "metadata", "delete", "undelete", "destroy"] {
            paths.insert(format!("{mount}/{part}/{record}"), Path::Record(number));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_asked_about_with_its_neighbours_at_each_level() {
        let paths = paths("kv", ["team/db"].into_iter());
        let of = |wanted: fn(&Path) -> bool| -> Vec<_> {
            let found = paths.iter().filter(|(_, what)| wanted(what));
            found.map(|(path, _)| path.replace(ANY, "*")).collect()
        };
        let others = of(|what| matches!(what, Path::Other));
        let all = ["kv/data/*", "kv/data/*/db", "kv/data/team/*"];
        let below = ["kv/data/team/db-*", "kv/data/team/db/*"];
        for path in all.iter().chain(&below) {
            assert!(others.contains(&(*path).to_owned()), "{path}: {others:?}");
        }
        assert_eq!(others.len(), 5);
        let lists = of(|what| matches!(what, Path::List));
        assert_eq!(lists, ["kv/metadata/", "kv/metadata/team/"]);
        let own = of(|what| matches!(what, Path::Record(0)));
        assert_eq!(own.len(), 5, "{own:?}");
    }
}
