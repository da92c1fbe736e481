//! Many variables in one read: all of them or none.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Ask, Caller};
use crate::secret::Identity;
use crate::state::{State, id_of};
use crate::{Answer, Version, json};

/// After how many letters base64 goes on on another line.
const LINE: usize = 60;

/// `GET /secrets?variable_ids=a,b`.
pub(super) fn show(ask: &Ask<'_>, state: &State, identity: &Identity) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    let list = ask.parameter("variable_ids").unwrap_or_default();
    // Commas at the end are passed over, those elsewhere stand around an id, which may be empty.
    let list = list.trim_end_matches(',');
    if list.trim().is_empty() {
        return Err(Answer::error(422, "argument_error", "variable_ids"));
    }
    let ids: Vec<&str> = list.split(',').collect();
    let denied = || {
        let mut there = ids.iter().filter(|id| state.resources.contains_key(**id));
        there.any(|id| !state.allowed(&caller.roles, "execute", id))
    };
    let missing = || ids.iter().find(|id| !state.resources.contains_key(**id));
    let newer = ask.switches.version == Version::V1_24;
    if newer && denied() {
        return Err(Answer::empty(403));
    }
    if let Some(id) = missing() {
        return Err(Answer::not_readable(id));
    }
    if !newer && denied() {
        return Err(Answer::empty(403));
    }
    // The server counts what it has found against what was asked, and finds no name for what is missing.
    let mut values = BTreeMap::new();
    for id in &ids {
        if values.insert(*id, Vec::new()).is_some() {
            return Err(Answer::framework(500, ask.request.header("accept")));
        }
    }
    for id in &ids {
        values.insert(id, value(state, id)?);
    }
    let asked = ask.request.header("accept-encoding");
    let base64 = asked.is_some_and(|asked| asked.eq_ignore_ascii_case("base64"));
    let mut pairs = Vec::new();
    for (id, value) in &values {
        let text = match base64 {
            true => wrapped(value),
            false => std::str::from_utf8(value)
                .map_err(|_| not_text())?
                .to_owned(),
        };
        pairs.push(format!("{}:{}", json::quote(id), json::quote(&text)));
    }
    let answer = Answer::json(200, &format!("{{{}}}", pairs.join(",")));
    Ok(match base64 {
        true => answer.with_header("Content-Encoding", "base64"),
        false => answer,
    })
}

fn value(state: &State, id: &str) -> Result<Vec<u8>, Answer> {
    let variable = state.resources.get(id).map(|found| &found.variable);
    // How a batch with a dynamic secret is answered is not recorded.
    if let Some(dynamic) = variable.and_then(|variable| variable.dynamic.as_ref()) {
        return Ok(dynamic.mint(id_of(id)).into_bytes());
    }
    let value = variable.and_then(|variable| variable.latest());
    value
        .map(<[u8]>::to_vec)
        .ok_or_else(|| Answer::not_readable(id))
}

fn not_text() -> Answer {
    Answer::error(
        406,
        "not_acceptable",
        "CONJ00074E Issue encoding secret into JSON format, try including 'Accept-Encoding: base64' header in request.",
    )
}

/// Base64 with an end of line after every so many letters and at its end.
fn wrapped(value: &[u8]) -> String {
    let mut out = String::new();
    for (at, letter) in STANDARD.encode(value).chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push('\n');
    out
}
