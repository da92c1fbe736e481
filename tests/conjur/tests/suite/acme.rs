//! An account with names of its own, and variables in every state that a reader can find one in.

use conjur_double::{ConjurDouble, Options};

use crate::client::encode;

pub(crate) const ACCOUNT: &str = "acme-corp";
pub(crate) const HOST: &str = "host:svc/éclair 7";
pub(crate) const LOGIN: &str = "host/svc/éclair 7";

pub(crate) fn acme() -> ConjurDouble {
    let mut options = Options::default();
    options.account = ACCOUNT.to_owned();
    let conjur = options.start().unwrap();
    conjur.add_host("svc/éclair 7");
    conjur
}

pub(crate) fn secret(id: &str) -> String {
    format!("/secrets/{ACCOUNT}/variable/{}", encode(id))
}

pub(crate) fn not_readable(id: &str) -> String {
    format!(
        r#"{{"error":{{"code":"not_found","message":"CONJ00076E Variable {ACCOUNT}:variable:{id} is empty or not found."}}}}"#
    )
}

/// What a reader may do with a variable, and whether it has a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Missing,
    Hidden,
    Seen,
    SeenUnset,
    Unset,
    Readable,
}

pub(crate) const STATES: [State; 6] = [
    State::Missing,
    State::Hidden,
    State::Seen,
    State::SeenUnset,
    State::Unset,
    State::Readable,
];

/// Brings a variable into a state, by a group, so that no grant is the host's own.
pub(crate) fn arrange(conjur: &ConjurDouble, id: &str, state: State) {
    match state {
        State::Missing => return,
        State::SeenUnset | State::Unset => conjur.add_variable(id),
        _ => drop(conjur.set(id, format!("value of {id}"))),
    }
    let privileges: &[&str] = match state {
        State::Hidden | State::Missing => return,
        State::Seen | State::SeenUnset => &["read"],
        State::Unset | State::Readable => &["read", "execute"],
    };
    conjur.grant("group:those/that/read", privileges, id);
}

pub(crate) fn reader_by_groups(conjur: &ConjurDouble) -> String {
    for group in ["those/that/read", "between"] {
        conjur.add_group(group);
    }
    conjur.add_member("group:those/that/read", "group:between");
    conjur.add_member("group:between", HOST);
    conjur.token(LOGIN)
}
