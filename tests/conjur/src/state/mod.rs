//! Everything that the server knows: roles, resources, permissions, values. It answers questions about them and changes them; it
//! knows nothing of HTTP, of tokens or of policies' text.
//!
//! Ids are full everywhere here: `account:kind:id`. A clone is a snapshot: a follower that lags answers from one.

mod network;
mod variable;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::network::Network;
pub(crate) use self::variable::{Dynamic, Variable};
use crate::answer::hex;
use crate::secret::random;

/// The whole state of a server.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) resources: BTreeMap<String, Resource>,
    memberships: BTreeSet<Membership>,
    permissions: BTreeSet<Permission>,
    /// The authenticators that are switched on, by their names: `authn-jwt/svc`.
    pub(crate) enabled: BTreeSet<String>,
    /// How many times each policy was loaded.
    pub(crate) policy_versions: BTreeMap<String, u64>,
    /// What tokens are signed with, of each account.
    pub(crate) signing_keys: BTreeMap<String, [u8; 32]>,
}

/// What privileges are granted to: a host, a user, a group.
#[derive(Clone, Default)]
pub(crate) struct Role {
    /// Hosts and users have one.
    pub(crate) api_key: Option<String>,
    pub(crate) restricted_to: Vec<Network>,
}

/// Something on which privileges are granted.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) owner: String,
    pub(crate) policy: String,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) created_ms: i64,
    pub(crate) variable: Variable,
}

/// `member` has what `role` has.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
struct Membership {
    role: String,
    member: String,
    /// Empty for what an owner has.
    policy: String,
}

/// `role` may do `privilege` to `resource`.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Permission {
    pub(crate) resource: String,
    pub(crate) privilege: String,
    pub(crate) role: String,
    pub(crate) policy: String,
}

/// The kinds of record that there are. A path with another kind leads nowhere.
pub(crate) const KINDS: [&str; 8] = [
    "group",
    "host",
    "host_factory",
    "layer",
    "policy",
    "public_key",
    "user",
    "variable",
];

/// Whether it is in [`KINDS`], or the one kind that no value can be stored in.
pub(crate) fn known_kind(kind: &str) -> bool {
    kind == "webservice" || KINDS.contains(&kind)
}

impl State {
    /// Creates an account with its administrator, whose key it returns.
    pub(crate) fn add_account(&mut self, account: &str, now_ms: i64) -> String {
        let mut key = [0; 32];
        random(&mut key);
        self.signing_keys.insert(account.to_owned(), key);
        let admin = format!("{account}:user:admin");
        let root = format!("{account}:policy:root");
        self.add(&admin, &admin, &root, now_ms);
        self.add(&root, &admin, &root, now_ms);
        self.roles
            .get(&admin)
            .and_then(|role| role.api_key.clone())
            .unwrap_or_default()
    }

    /// Creates a record, and the role that goes with it, unless it is there; whether it was created.
    pub(crate) fn add(&mut self, id: &str, owner: &str, policy: &str, now_ms: i64) -> bool {
        if self.resources.contains_key(id) {
            return false;
        }
        let kind = kind_of(id);
        self.resources.insert(
            id.to_owned(),
            Resource {
                owner: owner.to_owned(),
                policy: policy.to_owned(),
                annotations: BTreeMap::new(),
                created_ms: now_ms,
                variable: Variable::default(),
            },
        );
        if !matches!(kind, "variable" | "webservice" | "public_key") {
            let api_key = matches!(kind, "host" | "user").then(new_api_key);
            let role = Role {
                api_key,
                restricted_to: Vec::new(),
            };
            self.roles.insert(id.to_owned(), role);
            if owner != id {
                // An owner has all that its role has.
                self.add_member(id, owner, "");
            }
        }
        true
    }

    /// Deletes a record with its role, its values and everything that was granted to it or on it; whether it was there.
    pub(crate) fn delete(&mut self, id: &str) -> bool {
        self.roles.remove(id);
        self.memberships
            .retain(|grant| grant.role != id && grant.member != id);
        self.permissions
            .retain(|grant| grant.resource != id && grant.role != id);
        self.resources.remove(id).is_some()
    }

    pub(crate) fn add_member(&mut self, role: &str, member: &str, policy: &str) {
        self.memberships.insert(Membership {
            role: role.to_owned(),
            member: member.to_owned(),
            policy: policy.to_owned(),
        });
    }

    /// Takes back all that a policy has granted.
    pub(crate) fn forget_grants_of(&mut self, policy: &str) {
        self.memberships.retain(|grant| grant.policy != policy);
        self.permissions.retain(|grant| grant.policy != policy);
    }

    pub(crate) fn remove_member(&mut self, role: &str, member: &str) {
        self.memberships
            .retain(|grant| grant.role != role || grant.member != member);
    }

    pub(crate) fn permit(&mut self, role: &str, privilege: &str, resource: &str, policy: &str) {
        if !self.granted(role, privilege, resource) {
            self.permissions.insert(Permission {
                resource: resource.to_owned(),
                privilege: privilege.to_owned(),
                role: role.to_owned(),
                policy: policy.to_owned(),
            });
        }
    }

    pub(crate) fn deny(&mut self, role: &str, privilege: &str, resource: &str) {
        self.permissions.retain(|grant| {
            grant.role != role || grant.privilege != privilege || grant.resource != resource
        });
    }

    fn granted(&self, role: &str, privilege: &str, resource: &str) -> bool {
        self.permissions_on(resource)
            .any(|grant| grant.role == role && grant.privilege == privilege)
    }

    /// What is granted on a resource, in the order in which it is shown.
    pub(crate) fn permissions_on(&self, resource: &str) -> impl Iterator<Item = &Permission> {
        self.permissions
            .iter()
            .filter(move |grant| grant.resource == resource)
    }

    /// The role itself and all whose member it is, at any distance.
    pub(crate) fn roles_of(&self, role: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = self
            .roles
            .get_key_value(role)
            .map(|(id, _)| id.as_str())
            .into_iter()
            .collect();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                let through = self.memberships.iter().filter(|grant| grant.member == next);
                open.extend(through.map(|grant| grant.role.as_str()));
            }
        }
        found
    }

    /// Whether the holder of these roles may do this to a resource that is there.
    pub(crate) fn allowed(&self, roles: &BTreeSet<&str>, privilege: &str, resource: &str) -> bool {
        self.owns(roles, resource)
            || self
                .permissions_on(resource)
                .any(|grant| grant.privilege == privilege && roles.contains(grant.role.as_str()))
    }

    /// Whether a resource is there for the holder of these roles: any privilege shows it.
    pub(crate) fn visible(&self, roles: &BTreeSet<&str>, resource: &str) -> bool {
        self.owns(roles, resource)
            || self
                .permissions_on(resource)
                .any(|grant| roles.contains(grant.role.as_str()))
    }

    fn owns(&self, roles: &BTreeSet<&str>, resource: &str) -> bool {
        self.resources
            .get(resource)
            .is_some_and(|found| roles.contains(found.owner.as_str()))
    }

    /// The latest value of a variable.
    pub(crate) fn value(&self, id: &str) -> Option<&[u8]> {
        self.resources.get(id)?.variable.latest()
    }

    /// The same as text.
    pub(crate) fn text(&self, id: &str) -> Option<&str> {
        std::str::from_utf8(self.value(id)?).ok()
    }

    /// Gives a role a new key.
    pub(crate) fn rotate(&mut self, role: &str) -> Option<String> {
        let role = self.roles.get_mut(role)?;
        role.api_key.as_ref()?;
        let key = new_api_key();
        role.api_key = Some(key.clone());
        Some(key)
    }
}

/// The middle part of a full id.
pub(crate) fn kind_of(full_id: &str) -> &str {
    full_id.split(':').nth(1).unwrap_or_default()
}

/// What follows the account and the kind; an id can have colons of its own.
pub(crate) fn id_of(full_id: &str) -> &str {
    full_id.splitn(3, ':').nth(2).unwrap_or_default()
}

/// `host/apps/x` is a host, `alice` is a user.
pub(crate) fn role_of_login(account: &str, login: &str) -> String {
    let (kind, id) = login.split_once('/').unwrap_or(("user", login));
    format!("{account}:{kind}:{id}")
}

fn new_api_key() -> String {
    let mut bytes = [0; 27];
    random(&mut bytes);
    hex(&bytes)
}
