//! Loading a policy.

use super::route::Record;
use super::{Ask, Caller};
use crate::policy::{self, Failure, Mode};
use crate::secret::Identity;
use crate::{Answer, json};

/// `POST`, `PATCH` or `PUT /policies/{account}/policy/{id}` with the policy as the body.
pub(super) fn load(ask: &Ask<'_>, identity: &Identity, record: &Record) -> Result<Answer, Answer> {
    let mut state = ask.endpoint.shared.state();
    let (mode, privilege) = match ask.request.method.as_str() {
        "POST" => (Mode::Add, "create"),
        "PATCH" => (Mode::Update, "update"),
        _ => (Mode::Replace, "update"),
    };
    let id = record.full_id();
    let caller = Caller::find(&state, identity)?;
    if !state.resources.contains_key(&id) || !state.visible(&caller.roles, &id) {
        return Err(Answer::no_record(&record.account, &record.kind, &record.id));
    }
    if !state.allowed(&caller.roles, privilege, &id) {
        return Err(Answer::empty(403));
    }
    let text = std::str::from_utf8(&ask.request.body).unwrap_or_default();
    let now_ms = ask.endpoint.shared.clock.now_ms();
    let loaded = policy::load(&mut state, &id, text, mode, now_ms);
    let created = loaded.map_err(|failure| match failure {
        Failure::Text { line, message } => invalid(line, &message),
        Failure::Missing { account, kind, id } => Answer::no_record(&account, &kind, &id),
    })?;
    let roles: Vec<_> = created
        .iter()
        .map(|(role, key)| {
            let (role, key) = (json::quote(role), json::quote(key));
            format!(r#"{role}:{{"id":{role},"api_key":{key}}}"#)
        })
        .collect();
    let version = state.policy_versions.entry(id).or_default();
    *version += 1;
    Ok(Answer::json(
        201,
        &format!(
            r#"{{"created_roles":{{{}}},"version":{version}}}"#,
            roles.join(",")
        ),
    ))
}

fn invalid(line: usize, message: &str) -> Answer {
    let message = format!("Error at line {line}, column 0 in policy : {message}");
    let message = json::quote(&message);
    Answer::json(
        422,
        &format!(
            r#"{{"error":{{"code":"policy_invalid","message":{message},"innererror":{{"code":"policy_invalid","filename":"policy","line":{line},"column":0}}}}}}"#
        ),
    )
}
