//! Many records at once, or how many there are.

use super::resources::describe;
use super::{Ask, Caller};
use crate::secret::Identity;
use crate::state::{State, id_of, kind_of};
use crate::{Answer, json};

/// The most records in one answer.
const MOST: usize = 1000;

/// `GET /resources[/{account}[/{kind}]]`, with `kind`, `search`, `limit`, `offset`, `count`.
pub(super) fn list(
    ask: &Ask<'_>,
    state: &State,
    identity: &Identity,
    account: Option<String>,
    kind: Option<String>,
) -> Result<Answer, Answer> {
    let caller = Caller::find(state, identity)?;
    let account = account.unwrap_or_else(|| caller.account.clone());
    let kind = kind.or_else(|| ask.parameter("kind"));
    let search = ask.parameter("search");
    let words = search.as_deref().map(words).unwrap_or_default();
    let found = state.resources.iter().filter(|(id, resource)| {
        let named = || {
            let annotations = resource.annotations.values();
            let has: Vec<_> = words_of(annotations.map(String::as_str).chain([id_of(id)]));
            words.iter().all(|word| has.contains(word))
        };
        id.split(':').next() == Some(account.as_str())
            && kind.as_deref().is_none_or(|kind| kind == kind_of(id))
            && named()
            && state.visible(&caller.roles, id)
    });
    if ask.parameter("count").as_deref() == Some("true") {
        return Ok(Answer::json(
            200,
            &format!(r#"{{"count":{}}}"#, found.count()),
        ));
    }
    let limit = number(ask, "limit", 1, "must be a positive integer.")?;
    // Only the refusal of a limit is recorded; that of an offset follows it.
    let offset = number(
        ask,
        "offset",
        0,
        "must be an integer greater than or equal to 0.",
    )?;
    let page = found
        .skip(offset.unwrap_or(0))
        .take(limit.unwrap_or(MOST).min(MOST));
    let records = page.map(|(id, resource)| describe(state, id, resource));
    Ok(Answer::json(200, &json::list(records)))
}

fn number(ask: &Ask<'_>, name: &str, least: usize, rule: &str) -> Result<Option<usize>, Answer> {
    let Some(text) = ask.parameter(name) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number| *number >= least);
    number.map(Some).ok_or_else(|| {
        let message = format!("'{name}' contains an invalid value. '{name}' {rule}");
        Answer::error(422, "unprocessable_entity", &message)
    })
}

fn words(text: &str) -> Vec<String> {
    words_of([text])
}

fn words_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words = texts
        .into_iter()
        .flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
