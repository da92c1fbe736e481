//! The service's batch read: each id has an answer of its own. It is not recorded; its shape is that of the vendor's own client and
//! its tests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Ask, Caller};
use crate::secret::Identity;
use crate::state::State;
use crate::{Answer, json};

/// The media type that asks for it.
const MEDIA_TYPE: &str = "application/x.secretsmgr.v2beta+json";
/// The most ids in one request.
const MOST: usize = 250;

/// `POST /secrets/values` with `{"ids":["prod/db/password"]}`.
pub(super) fn show(ask: &Ask<'_>, state: &State, identity: &Identity) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    if ask.request.header("accept") != Some(MEDIA_TYPE) {
        let message = format!(
            "CONJ00194W The api belongs to v2 APIs but it missing the version \"{MEDIA_TYPE}\" in the Accept header"
        );
        return Err(error(400, &message));
    }
    let body: Option<Value> = serde_json::from_slice(&ask.request.body).ok();
    let ids = body.as_ref().and_then(|body| body.get("ids")?.as_array());
    let ids: Option<Vec<_>> = ids.and_then(|ids| ids.iter().map(Value::as_str).collect());
    let ids = ids.filter(|ids| !ids.is_empty() && ids.len() <= MOST);
    let ids = ids.ok_or_else(|| error(422, "ids must be a list of 1 to 250 identifiers"))?;
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(error(422, "ids must differ"));
    }
    let answers: Vec<_> = ids.iter().map(|id| one(state, &caller, id)).collect();
    let items = ids.iter().zip(&answers).map(|(id, answer)| {
        let id = json::quote(id);
        match answer {
            Ok(value) => {
                let value = json::quote(value);
                format!(r#"{{"id":{id},"value":{value},"status":200}}"#)
            }
            Err((status, why)) => {
                format!(r#"{{"id":{id},"status":{status},"description":"{why}"}}"#)
            }
        }
    });
    let status = if answers.iter().all(Result::is_ok) {
        200
    } else {
        207
    };
    let secrets = json::list(items);
    Ok(Answer::text(
        status,
        MEDIA_TYPE,
        &format!(r#"{{"secrets":{secrets}}}"#),
    ))
}

fn one(state: &State, caller: &Caller<'_>, id: &str) -> Result<String, (u16, &'static str)> {
    let full = format!("{}:variable:{id}", caller.account);
    let found = state.resources.get(&full);
    let found = found.filter(|_| state.visible(&caller.roles, &full));
    let found = found.ok_or((404, "Not Found"))?;
    if !state.allowed(&caller.roles, "execute", &full) {
        return Err((403, "Forbidden"));
    }
    if let Some(dynamic) = &found.variable.dynamic {
        return Ok(dynamic.mint(id));
    }
    let value = found.variable.latest().ok_or((404, "Not Found"))?;
    let text = std::str::from_utf8(value).map_err(|_| (406, "Not Acceptable"))?;
    Ok(text.to_owned())
}

fn error(status: u16, message: &str) -> Answer {
    let message = json::quote(message);
    Answer::text(
        status,
        MEDIA_TYPE,
        &format!(r#"{{"code":"{status}","message":{message}}}"#),
    )
}
