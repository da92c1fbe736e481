//! Roles: hosts, users, groups; their keys, memberships and privileges.

use std::collections::BTreeMap;

use crate::state::{Network, role_of_login};
use crate::{ConjurDouble, secret};

/// A host with more than a name.
#[derive(Clone, Debug, Default)]
pub struct Host {
    id: String,
    networks: Vec<String>,
    annotations: BTreeMap<String, String>,
}

impl Host {
    /// A host with this id, for instance `apps/reader`.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// It logs in from this network alone, for instance `10.0.0.0/8`; several are added up.
    #[must_use]
    pub fn restricted_to(mut self, network: &str) -> Self {
        self.networks.push(network.to_owned());
        self
    }

    /// An annotation, for instance `authn-jwt/svc/sub`.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Roles. A role is named with its kind: `host:apps/reader`, `group:prod/readers`, `user:alice`.
impl ConjurDouble {
    /// Creates one more account with its administrator, and returns that one's API key. What else is in it comes by policy.
    pub fn add_account(&self, account: &str) -> String {
        let now = self.shared().clock.now_ms();
        self.shared().state().add_account(account, now)
    }

    /// Creates a host, unless it is there, and returns its API key.
    pub fn add_host(&self, id: &str) -> String {
        self.add_host_with(&Host::new(id))
    }

    /// Creates a host, or changes the one that is there, and returns its API key.
    ///
    /// # Panics
    /// What it is restricted to is no network.
    pub fn add_host_with(&self, host: &Host) -> String {
        let networks = host.networks.iter().map(|text| match Network::parse(text) {
            Some(network) => network,
            None => panic!("{text} is no network"),
        });
        let networks: Vec<_> = networks.collect();
        let id = format!("host:{}", host.id);
        let mut state = self.shared().state();
        self.make(&mut state, &id);
        let full = self.full(&id);
        if let Some(role) = state.roles.get_mut(&full) {
            role.restricted_to.extend(networks);
        }
        if let Some(resource) = state.resources.get_mut(&full) {
            resource.annotations.extend(host.annotations.clone());
        }
        drop(state);
        self.key_of(&format!("host/{}", host.id))
    }

    /// Creates a user, unless it is there, and returns its API key.
    pub fn add_user(&self, id: &str) -> String {
        self.make(&mut self.shared().state(), &format!("user:{id}"));
        self.key_of(id)
    }

    /// Creates a group, unless it is there.
    pub fn add_group(&self, id: &str) {
        self.make(&mut self.shared().state(), &format!("group:{id}"));
    }

    /// The API key of a login, `host/apps/reader` or `admin`; empty where there is none.
    #[must_use]
    pub fn key_of(&self, login: &str) -> String {
        let role = role_of_login(self.account(), login);
        let state = self.shared().state();
        let key = state.roles.get(&role).and_then(|role| role.api_key.clone());
        key.unwrap_or_default()
    }

    /// Gives a login a new API key and returns it; the tokens that the old one has bought stay good.
    pub fn rotate_key(&self, login: &str) -> String {
        let role = role_of_login(self.account(), login);
        self.shared().state().rotate(&role).unwrap_or_default()
    }

    /// Deletes a role, `host:apps/reader`, with all that was granted to it.
    pub fn delete_role(&self, role: &str) {
        self.shared().state().delete(&self.full(role));
    }

    /// Makes `member` a member of `role`, so that it has all that the role has.
    pub fn add_member(&self, role: &str, member: &str) {
        let (role, member) = (self.full(role), self.full(member));
        let policy = self.full("policy:root");
        let mut state = self.shared().state();
        state.add_member(&role, &member, &policy);
    }

    /// Ends a membership.
    pub fn remove_member(&self, role: &str, member: &str) {
        let (role, member) = (self.full(role), self.full(member));
        self.shared().state().remove_member(&role, &member);
    }

    /// Gives a role privileges on a variable. `read` makes it visible, `execute` lets its value be read, `update` lets it be written.
    pub fn grant(&self, role: &str, privileges: &[&str], variable: &str) {
        self.grant_on(role, privileges, &format!("variable:{variable}"));
    }

    /// As [`ConjurDouble::grant`], on a resource that is named with its kind.
    pub fn grant_on(&self, role: &str, privileges: &[&str], resource: &str) {
        let (role, resource) = (self.full(role), self.full(resource));
        let policy = self.full("policy:root");
        let mut state = self.shared().state();
        for privilege in privileges {
            state.permit(&role, privilege, &resource, &policy);
        }
    }

    /// Lets a role see a variable and read its value.
    pub fn allow_read(&self, role: &str, variable: &str) {
        self.grant(role, &["read", "execute"], variable);
    }

    /// Takes privileges on a variable away from a role.
    pub fn revoke(&self, role: &str, privileges: &[&str], variable: &str) {
        let (role, resource) = (self.full(role), self.full(&format!("variable:{variable}")));
        let mut state = self.shared().state();
        for privilege in privileges {
            state.deny(&role, privilege, &resource);
        }
    }

    /// Takes from a role all that it was given on a variable itself; what it has as a member of another stays.
    pub fn revoke_all(&self, role: &str, variable: &str) {
        self.revoke(
            role,
            &["read", "execute", "update", "create", "authenticate"],
            variable,
        );
    }

    /// A good access token of a login, whether or not there is such a role: the JSON that authenticating gives.
    #[must_use]
    pub fn token(&self, login: &str) -> String {
        let life = self.shared().switches().token_life.as_secs();
        let life = i64::try_from(life).unwrap_or(i64::MAX);
        self.token_with_claims(&secret::claims(login, self.shared().clock.now(), life))
    }

    /// A signed access token with any claims, given as a JSON object.
    #[must_use]
    pub fn token_with_claims(&self, claims: &str) -> String {
        secret::sign(&self.shared().state(), self.account(), claims).unwrap_or_default()
    }
}
