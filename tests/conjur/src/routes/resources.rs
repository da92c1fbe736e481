//! One record's description, and the question whether something may be done to it. Neither decrypts a value.

use super::route::Record;
use super::{Ask, Caller};
use crate::Answer;
use crate::clock::iso8601;
use crate::json::{self, quote};
use crate::secret::Identity;
use crate::state::{Resource, State, kind_of};

/// `GET /resources/{account}/{kind}/{id}`.
pub(super) fn show(
    _: &Ask<'_>,
    state: &State,
    identity: &Identity,
    record: &Record,
) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    let id = record.full_id();
    let found = state.resources.get(&id);
    let found = found.filter(|_| state.visible(&caller.roles, &id));
    let found =
        found.ok_or_else(|| Answer::no_record(&record.account, &record.kind, &record.id))?;
    Ok(Answer::json(200, &describe(state, &id, found)))
}

/// `GET /resources/{account}/{kind}/{id}?check=true&privilege=[&role=]`.
pub(super) fn check(
    ask: &Ask<'_>,
    state: &State,
    identity: &Identity,
    record: &Record,
) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    let id = record.full_id();
    let named = ask.parameter("role").filter(|role| !role.is_empty());
    let roles = match &named {
        None => caller.roles,
        Some(role) => state.roles_of(role),
    };
    let privilege = ask.parameter("privilege").unwrap_or_default();
    let allowed = state.resources.contains_key(&id) && state.allowed(&roles, &privilege, &id);
    match allowed {
        true => Ok(Answer::new(204)),
        false => Err(Answer::empty(404)),
    }
}

/// A record as the server shows it.
pub(super) fn describe(state: &State, id: &str, resource: &Resource) -> String {
    let policy = quote(&resource.policy);
    let mut permissions: Vec<_> = state.permissions_on(id).collect();
    permissions.sort_by_key(|grant| (&grant.privilege, &grant.role));
    let permissions = json::list(permissions.into_iter().map(|grant| {
        format!(
            r#"{{"privilege":{},"role":{},"policy":{}}}"#,
            quote(&grant.privilege),
            quote(&grant.role),
            quote(&grant.policy)
        )
    }));
    let annotations = json::list(resource.annotations.iter().map(|(name, value)| {
        let (name, value) = (quote(name), quote(value));
        format!(r#"{{"name":{name},"value":{value},"policy":{policy}}}"#)
    }));
    let versions = resource.variable.versions().into_iter();
    let versions = versions.map(|number| format!(r#"{{"version":{number},"expires_at":null}}"#));
    let more = match kind_of(id) {
        "variable" => format!(r#","secrets":{}"#, json::list(versions)),
        "host" | "user" => {
            let networks = state.roles.get(id).map(|role| role.restricted_to.iter());
            let networks = networks.into_iter().flatten();
            let networks = json::list(networks.map(|network| quote(&network.to_string())));
            format!(r#","restricted_to":{networks}"#)
        }
        _ => String::new(),
    };
    format!(
        r#"{{"created_at":"{}","id":{},"owner":{},"policy":{policy},"permissions":{permissions},"annotations":{annotations}{more}}}"#,
        iso8601(resource.created_ms),
        quote(id),
        quote(&resource.owner)
    )
}
