//! Carrying a policy out: records, grants, permissions, and taking them away.

use std::collections::BTreeSet;

use super::Failure;
use super::yaml::{Node, Value, parse};
use crate::state::{Network, State, id_of};

/// What a load may do to what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// It adds, and takes nothing away.
    Add,
    /// It adds and takes away what it names.
    Update,
    /// What it does not name and the same policy made before goes.
    Replace,
}

/// Loads `text` into the policy of this full id. Gives the new hosts and users with their keys, in the order of the text.
pub(crate) fn load(
    state: &mut State,
    policy: &str,
    text: &str,
    mode: Mode,
    now_ms: i64,
) -> Result<Vec<(String, String)>, Failure> {
    let account = policy.split(':').next().unwrap_or_default();
    let admin = format!("{account}:user:admin");
    let (namespace, owner) = match id_of(policy) {
        "root" => ("", admin.as_str()),
        id => (id, policy),
    };
    let mut changed = state.clone();
    let mut loader = Loader {
        state: &mut changed,
        account,
        policy,
        mode,
        now_ms,
        created: Vec::new(),
        named: BTreeSet::from([policy.to_owned(), admin.clone()]),
    };
    if mode == Mode::Replace {
        loader.state.forget_grants_of(policy);
    }
    let document = parse(text)?;
    for statement in document.items() {
        loader.statement(statement, namespace, owner)?;
    }
    let Loader { created, named, .. } = loader;
    if mode == Mode::Replace {
        let made = changed.resources.iter();
        let gone = made.filter(|(id, it)| it.policy == policy && !named.contains(*id));
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            changed.delete(&id);
        }
    }
    *state = changed;
    Ok(created)
}

struct Loader<'a> {
    state: &'a mut State,
    account: &'a str,
    policy: &'a str,
    mode: Mode,
    now_ms: i64,
    created: Vec<(String, String)>,
    named: BTreeSet<String>,
}

impl Loader<'_> {
    fn statement(&mut self, node: &Node, namespace: &str, owner: &str) -> Result<(), Failure> {
        let tag = node.tag.as_deref().unwrap_or_default();
        match tag {
            "policy" => {
                let id = self.record(node, "policy", namespace, owner)?;
                let inner = id_of(&id).to_owned();
                for statement in node.member("body").map(Node::items).unwrap_or_default() {
                    self.statement(statement, &inner, &id)?;
                }
                Ok(())
            }
            "variable" | "host" | "user" | "group" | "layer" | "webservice" => {
                self.record(node, tag, namespace, owner).map(drop)
            }
            "permit" | "deny" => self.permission(node, tag == "permit", namespace),
            "grant" | "revoke" => self.membership(node, tag == "grant", namespace),
            "delete" => {
                self.may_take_away(node)?;
                let record = member(node, "record")?;
                let id = self.there(record, namespace)?;
                self.state.delete(&id);
                Ok(())
            }
            _ => Err(unknown_type(node)),
        }
    }

    /// Creates a record, or adds to the one that is there.
    fn record(
        &mut self,
        node: &Node,
        kind: &str,
        namespace: &str,
        owner: &str,
    ) -> Result<String, Failure> {
        let own = match &node.value {
            Value::Text(id) => id.as_str(),
            _ => node.member("id").and_then(Node::text).unwrap_or_default(),
        };
        let id = self.full_id(kind, own, namespace);
        let owner = match node.member("owner") {
            Some(owner) => self.there(owner, namespace)?,
            None => owner.to_owned(),
        };
        self.named.insert(id.clone());
        let new = self.state.add(&id, &owner, self.policy, self.now_ms);
        let key = self
            .state
            .roles
            .get(&id)
            .and_then(|role| role.api_key.clone());
        if let (true, Some(key)) = (new, key) {
            self.created.push((id.clone(), key));
        }
        let mut annotations = Vec::new();
        if let Some(Value::Map(members)) = node.member("annotations").map(|it| &it.value) {
            annotations.extend(members.iter().map(|(name, value)| (name.as_str(), value)));
        }
        for (short, name) in [("mime_type", "conjur/mime_type"), ("kind", "conjur/kind")] {
            annotations.extend(node.member(short).map(|value| (name, value)));
        }
        if let Some(resource) = self.state.resources.get_mut(&id) {
            for (name, value) in annotations {
                let text = value.text().unwrap_or_default();
                resource
                    .annotations
                    .insert(name.to_owned(), text.to_owned());
            }
        }
        if let Some(networks) = node.member("restricted_to") {
            let networks = networks.items().into_iter().map(|network| {
                let parsed = network.text().and_then(Network::parse);
                parsed
                    .ok_or_else(|| Failure::text(network.line, "Invalid IP address or CIDR range"))
            });
            let networks = networks.collect::<Result<_, _>>()?;
            if let Some(role) = self.state.roles.get_mut(&id) {
                role.restricted_to = networks;
            }
        }
        Ok(id)
    }

    fn permission(&mut self, node: &Node, give: bool, namespace: &str) -> Result<(), Failure> {
        if !give {
            self.may_take_away(node)?;
        }
        let roles = self.all(node, &["role", "roles"], namespace)?;
        let resources = self.all(node, &["resource", "resources"], namespace)?;
        let privileges = node.member("privileges").or(node.member("privilege"));
        let privileges = privileges.map(Node::items).unwrap_or_default();
        for privilege in privileges.into_iter().filter_map(Node::text) {
            for (role, resource) in pairs(&roles, &resources) {
                match give {
                    true => self.state.permit(role, privilege, resource, self.policy),
                    false => self.state.deny(role, privilege, resource),
                }
            }
        }
        Ok(())
    }

    fn membership(&mut self, node: &Node, give: bool, namespace: &str) -> Result<(), Failure> {
        if !give {
            self.may_take_away(node)?;
        }
        let roles = self.all(node, &["role", "roles"], namespace)?;
        let members = self.all(node, &["member", "members"], namespace)?;
        for (role, member) in pairs(&roles, &members) {
            match give {
                true => self.state.add_member(role, member, self.policy),
                false => self.state.remove_member(role, member),
            }
        }
        Ok(())
    }

    fn all(&self, node: &Node, names: &[&str], namespace: &str) -> Result<Vec<String>, Failure> {
        let found = names.iter().find_map(|name| node.member(name));
        let found = found.map(Node::items).unwrap_or_default();
        let found = found.into_iter().map(|one| self.there(one, namespace));
        found.collect()
    }

    /// The full id of something that is referred to and must be there.
    fn there(&self, node: &Node, namespace: &str) -> Result<String, Failure> {
        let kind = node.tag.as_deref().ok_or_else(|| unknown_type(node))?;
        let own = node.text().or(node.member("id").and_then(Node::text));
        let id = self.full_id(kind, own.unwrap_or_default(), namespace);
        match self.state.resources.contains_key(&id) {
            true => Ok(id),
            false => Err(Failure::Missing {
                account: self.account.to_owned(),
                kind: kind.to_owned(),
                id: id_of(&id).to_owned(),
            }),
        }
    }

    /// An id that starts with a slash is whole; an empty one is the namespace's own.
    fn full_id(&self, kind: &str, own: &str, namespace: &str) -> String {
        let id = match (own.strip_prefix('/'), namespace, own) {
            (Some(whole), _, _) => whole.to_owned(),
            (None, "", own) => own.to_owned(),
            (None, namespace, "") => namespace.to_owned(),
            (None, namespace, own) if kind == "user" => {
                format!("{own}@{}", namespace.replace('/', "-"))
            }
            (None, namespace, own) => format!("{namespace}/{own}"),
        };
        format!("{}:{kind}:{id}", self.account)
    }

    fn may_take_away(&self, node: &Node) -> Result<(), Failure> {
        match self.mode {
            // That it is refused is documented, and with which status is not recorded.
            Mode::Add => Err(Failure::text(
                node.line,
                "a load that only adds takes nothing away",
            )),
            Mode::Update | Mode::Replace => Ok(()),
        }
    }
}

fn member<'a>(node: &'a Node, name: &str) -> Result<&'a Node, Failure> {
    let missing = || Failure::text(node.line, format!("'{name}' is missing"));
    node.member(name).ok_or_else(missing)
}

fn unknown_type(node: &Node) -> Failure {
    let tag = node.tag.as_deref().unwrap_or_default();
    Failure::text(node.line, format!("Unrecognized data type '!{tag}'"))
}

fn pairs<'a>(
    left: &'a [String],
    right: &'a [String],
) -> impl Iterator<Item = (&'a String, &'a String)> {
    left.iter()
        .flat_map(move |one| right.iter().map(move |other| (one, other)))
}
