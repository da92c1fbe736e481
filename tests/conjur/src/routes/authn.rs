//! Login and authentication by API key, and the key's rotation.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tokens::{authorize, hand_out};
use super::{Ask, Caller};
use crate::Answer;
use crate::state::{State, role_of_login};

const PLAIN: &str = "text/plain; charset=utf-8";

/// `GET /authn/{account}/login` with Basic credentials: the key itself.
pub(super) fn login(ask: &Ask<'_>, state: &State, account: &str) -> Result<Answer, Answer> {
    let (login, key) = basic(ask).ok_or(Answer::empty(401))?;
    let role = role_of_login(account, &login);
    match has_key(state, &role, key.as_bytes(), ask.peer.address) {
        true => Ok(Answer::text(200, PLAIN, &key)),
        false => Err(Answer::empty(401)),
    }
}

/// `POST /authn/{account}/{login}/authenticate` with the key as the body, to the byte.
pub(super) fn authenticate(
    ask: &Ask<'_>,
    state: &State,
    account: &str,
    login: &str,
) -> Result<Answer, Answer> {
    let role = role_of_login(account, login);
    match has_key(state, &role, &ask.request.body, ask.peer.address) {
        true => Ok(hand_out(ask, state, account, login)),
        false => Err(Answer::empty(401)),
    }
}

/// `PUT /authn/{account}/api_key`: one's own with Basic credentials; another's, `?role=`, with a token that may update it
/// (that half is not recorded).
pub(super) fn rotate(ask: &Ask<'_>, account: &str) -> Result<Answer, Answer> {
    let identity = match basic(ask) {
        Some(_) => None,
        None => Some(authorize(ask)?),
    };
    let named = ask
        .parameter("role")
        .map(|role| match role.matches(':').count() {
            0 => format!("{account}:user:{role}"),
            1 => format!("{account}:{role}"),
            _ => role,
        });
    let mut state = ask.endpoint.shared.state();
    let role = match (basic(ask), identity) {
        (Some((login, key)), _) => {
            let own = role_of_login(account, &login);
            let known = has_key(&state, &own, key.as_bytes(), ask.peer.address);
            (known && named.is_none_or(|named| named == own)).then_some(own)
        }
        (None, Some(identity)) => {
            let caller = Caller::find(&state, &identity)?;
            let wanted = named.unwrap_or_else(|| caller.role.clone());
            state
                .allowed(&caller.roles, "update", &wanted)
                .then_some(wanted)
        }
        (None, None) => None,
    };
    let key = role.and_then(|role| state.rotate(&role));
    key.map(|key| Answer::text(200, PLAIN, &key))
        .ok_or(Answer::empty(401))
}

/// Whether a role may log in from an address.
pub(super) fn welcome(state: &State, role: &str, address: IpAddr) -> bool {
    state.roles.get(role).is_some_and(|role| {
        let networks = &role.restricted_to;
        networks.is_empty() || networks.iter().any(|network| network.contains(address))
    })
}

fn has_key(state: &State, role: &str, given: &[u8], address: IpAddr) -> bool {
    let key = state.roles.get(role).and_then(|role| role.api_key.as_ref());
    key.is_some_and(|key| key.as_bytes() == given) && welcome(state, role, address)
}

fn basic(ask: &Ask<'_>) -> Option<(String, String)> {
    let encoded = ask
        .request
        .header("authorization")?
        .strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (login, key) = decoded.split_once(':')?;
    Some((login.to_owned(), key.to_owned()))
}
