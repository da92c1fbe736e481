//! From a request to its answer: what stands before the application (the length of the query, the database, the token), which
//! handler a path leads to, and what is added to every answer.

mod authenticators;
mod authn;
mod authn_cert;
mod authn_jwt;
mod batch;
mod info;
mod listing;
mod policies;
mod resources;
mod route;
mod saas;
mod secrets;
mod tokens;

use std::collections::BTreeSet;
use std::net::IpAddr;

use test_servers::RequestHead;

use self::route::Route;
use self::tokens::authorize;
use crate::Answer;
use crate::endpoint::Endpoint;
use crate::log::Kind;
use crate::secret::Identity;
use crate::state::{State, role_of_login};
use crate::switches::Switches;
use crate::url::Target;

/// The longest query that is read at all.
const QUERY_LIMIT: usize = 10_240;

/// What the connection says of its client.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// In DER.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// All that a handler needs to know of a request, beside the state.
struct Ask<'a> {
    request: &'a RequestHead,
    target: Target<'a>,
    peer: &'a Peer,
    endpoint: &'a Endpoint,
    switches: Switches,
    now: i64,
}

impl Ask<'_> {
    /// A parameter of the query. What is not UTF-8 was refused before.
    fn parameter(&self, name: &str) -> Option<String> {
        self.target.parameter(name).unwrap_or_default()
    }
}

/// A role that is there, and all that it is.
struct Caller<'a> {
    account: String,
    role: String,
    roles: BTreeSet<&'a str>,
}

impl<'a> Caller<'a> {
    /// A token can outlive its role: then this is a refusal.
    fn find(state: &'a State, identity: &Identity) -> Result<Self, Answer> {
        let role = role_of_login(&identity.account, &identity.login);
        let roles = state.roles_of(&role);
        match roles.is_empty() {
            true => Err(Answer::empty(403)),
            false => Ok(Self {
                account: identity.account.clone(),
                role,
                roles,
            }),
        }
    }
}

/// What a request asks for.
pub(crate) fn kind(endpoint: &Endpoint, request: &RequestHead) -> Kind {
    let target = Target::parse(&request.target);
    let switches = endpoint.shared.switches().clone();
    Route::find(&request.method, &target, &switches).map_or(Kind::Other, |route| route.kind())
}

/// The answer to a request, complete except for its framing.
pub(crate) fn answer(endpoint: &Endpoint, request: &RequestHead, peer: &Peer) -> Answer {
    let switches = endpoint.shared.switches().clone();
    let target = Target::parse(&request.target);
    let accept = request.header("accept");
    if target.query.len() > QUERY_LIMIT {
        // The part that reads HTTP refuses it, and ends the connection.
        return Answer::new(400).with_header("Connection", "close");
    }
    let answer = if switches.outage {
        Answer::framework(500, accept)
    } else {
        let ask = Ask {
            request,
            target,
            peer,
            endpoint,
            switches,
            now: endpoint.shared.clock.now(),
        };
        dispatch(&ask).unwrap_or_else(|answer| answer)
    };
    answer.finish(&request.method, request.header("if-none-match"))
}

/// A refusal is an answer too: the `Err` is there so that handlers can leave early.
fn dispatch(ask: &Ask<'_>) -> Result<Answer, Answer> {
    let accept = ask.request.header("accept");
    let route = Route::find(&ask.request.method, &ask.target, &ask.switches);
    let needs_token = match &route {
        Ok(route) => route.needs_token(),
        Err(_) => true,
    };
    let identity = match needs_token {
        true => Some(authorize(ask)?),
        false => None,
    };
    let Ok(route) = route else {
        return Err(Answer::framework(400, accept));
    };
    if ask.endpoint.follower && route.writes() {
        // The status and the words are documented; that they come in the usual shape is not recorded.
        let refusal = "Write operations are not allowed";
        return Err(Answer::error(405, "method_not_allowed", refusal));
    }
    match (route, identity) {
        (Route::Root, _) => Ok(info::root(ask)),
        (Route::Authenticators, _) => {
            Ok(ask.endpoint.read(|state| authenticators::list(ask, state)))
        }
        (Route::Login { account }, _) => ask
            .endpoint
            .read(|state| authn::login(ask, state, &account)),
        (Route::Authenticate { account, login }, _) => ask
            .endpoint
            .read(|state| authn::authenticate(ask, state, &account, &login)),
        (Route::Rotate { account }, _) => authn::rotate(ask, &account),
        (Route::Jwt(service), _) => ask
            .endpoint
            .read(|state| authn_jwt::authenticate(ask, state, &service)),
        (Route::Cert(service), _) => ask
            .endpoint
            .read(|state| authn_cert::authenticate(ask, state, &service)),
        (
            Route::Status {
                authenticator,
                account,
            },
            Some(identity),
        ) => ask
            .endpoint
            .read(|state| authenticators::status(state, &identity, &authenticator, &account)),
        (Route::Whoami, Some(identity)) => Ok(info::whoami(ask, &identity)),
        (Route::Secret(record), Some(identity)) => ask
            .endpoint
            .read(|state| secrets::show(ask, state, &identity, &record)),
        (Route::Write(record), Some(identity)) => secrets::write(ask, &identity, &record),
        (Route::Batch, Some(identity)) => ask
            .endpoint
            .read(|state| batch::show(ask, state, &identity)),
        (Route::Saas, Some(identity)) => {
            ask.endpoint.read(|state| saas::show(ask, state, &identity))
        }
        (Route::Resource(record), Some(identity)) => ask
            .endpoint
            .read(|state| resources::show(ask, state, &identity, &record)),
        (Route::Check(record), Some(identity)) => ask
            .endpoint
            .read(|state| resources::check(ask, state, &identity, &record)),
        (Route::Resources { account, kind }, Some(identity)) => ask
            .endpoint
            .read(|state| listing::list(ask, state, &identity, account, kind)),
        (Route::Policy(record), Some(identity)) => policies::load(ask, &identity, &record),
        _ => Err(Answer::framework(404, accept)),
    }
}
