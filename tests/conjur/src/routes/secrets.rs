//! One variable: reading a value, storing one.

use super::route::Record;
use super::{Ask, Caller};
use crate::secret::Identity;
use crate::state::{Resource, State};
use crate::{Answer, Version};

/// `GET /secrets/{account}/variable/{id}[?version=]`: the bytes as they are.
pub(super) fn show(
    ask: &Ask<'_>,
    state: &State,
    identity: &Identity,
    record: &Record,
) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    let id = record.full_id();
    let missing = || Answer::not_readable(&id);
    let found = state.resources.get(&id);
    let found = found
        .filter(|_| state.visible(&caller.roles, &id))
        .ok_or_else(missing)?;
    if !state.allowed(&caller.roles, "execute", &id) {
        return Err(Answer::empty(403));
    }
    let version = match ask.parameter("version") {
        None => None,
        Some(text) => Some(parse_version(&text)?),
    };
    if let Some(dynamic) = &found.variable.dynamic {
        // How a version of what has none is answered is not recorded.
        return Ok(Answer::json(200, &dynamic.mint(&record.id)));
    }
    let value = match version {
        None => found.variable.latest(),
        Some(number) => u64::try_from(number)
            .ok()
            .and_then(|number| found.variable.at(number)),
    };
    let value = value.ok_or_else(missing)?;
    Ok(Answer::new(200)
        .with_header("Content-Type", mime_type(found))
        .with_header("Content-Disposition", "attachment")
        .with_header("Content-Transfer-Encoding", "binary")
        .with_body(value))
}

/// `POST /secrets/{account}/variable/{id}` with the value as the body, or `?expirations` with nothing.
pub(super) fn write(ask: &Ask<'_>, identity: &Identity, record: &Record) -> Result<Answer, Answer> {
    let mut state = ask.endpoint.shared.state();
    let id = record.full_id();
    let caller = Caller::find(&state, identity)?;
    if !state.resources.contains_key(&id) || !state.visible(&caller.roles, &id) {
        return Err(Answer::no_record(&record.account, &record.kind, &record.id));
    }
    if !state.allowed(&caller.roles, "update", &id) {
        return Err(Answer::empty(403));
    }
    // It makes a rotator act, and there is none here.
    if ask.parameter("expirations").is_some() {
        return Ok(Answer::empty(201));
    }
    let value = &ask.request.body;
    let binary = ask.request.header("content-type") == Some("application/octet-stream");
    let unread =
        ask.switches.version == Version::V1_22 && !binary && std::str::from_utf8(value).is_err();
    if value.is_empty() || unread {
        return Err(Answer::error(
            422,
            "argument_error",
            "'value' may not be empty",
        ));
    }
    if let Some(found) = state.resources.get_mut(&id) {
        found.variable.store(value);
    }
    Ok(Answer::empty(201))
}

fn mime_type(resource: &Resource) -> &str {
    let annotation = resource.annotations.get("conjur/mime_type");
    annotation.map_or("application/octet-stream", String::as_str)
}

fn parse_version(text: &str) -> Result<i64, Answer> {
    text.parse().map_err(|_| {
        Answer::error(
            422,
            "argument_error",
            "invalid type for parameter 'version'",
        )
    })
}
