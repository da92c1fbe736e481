//! Login with a JWT: whose signature is known, whose claims are as the service wants them, and whose host carries the annotations.

use serde_json::{Map, Value};

use super::Ask;
use super::authn::welcome;
use super::route::Service;
use super::tokens::hand_out;
use crate::Answer;
use crate::jwt::verified;
use crate::state::{State, role_of_login};
use crate::url::form_value;

/// The claims that no annotation may be on.
const NOT_ANNOTATED: [&str; 6] = ["iss", "exp", "nbf", "iat", "jti", "aud"];

/// `POST /authn-jwt/{service}/{account}[/{login}]/authenticate` with `jwt=…` as the body, whatever its type says it is.
pub(super) fn authenticate(
    ask: &Ask<'_>,
    state: &State,
    service: &Service,
) -> Result<Answer, Answer> {
    let refused = || Answer::empty(401);
    let name = format!("authn-jwt/{}", service.id);
    let webservice = format!("{}:webservice:conjur/{name}", service.account);
    if !state.resources.contains_key(&webservice) || !state.enabled.contains(&name) {
        return Err(refused());
    }
    let body = std::str::from_utf8(&ask.request.body).unwrap_or_default();
    let jwt = form_value(body, "jwt").ok().flatten().unwrap_or_default();
    if jwt.is_empty() {
        return Err(Answer::empty(400));
    }
    let variables = Variables {
        state,
        prefix: format!("{}:variable:conjur/{name}/", service.account),
    };
    let claims = variables
        .key_set()
        .and_then(|keys| verified(&jwt, &keys))
        .ok_or_else(refused)?;
    check_times(&claims, ask.now)?;
    if !variables.issued_as_wanted(&claims) {
        return Err(refused());
    }
    let login = variables
        .login(service.login.as_deref(), &claims)
        .ok_or_else(refused)?;
    let role = role_of_login(&service.account, &login);
    if !welcome(state, &role, ask.peer.address) || !annotated(state, &role, &service.id, &claims) {
        return Err(refused());
    }
    match state.allowed(&state.roles_of(&role), "authenticate", &webservice) {
        true => Ok(hand_out(ask, state, &service.account, &login)),
        false => Err(Answer::empty(403)),
    }
}

/// A JWT ends, and neither starts nor was issued later than now.
fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), Answer> {
    let time = |name: &str| {
        claims
            .get(name)
            .map(|value| value.as_f64().map(|it| it as i64))
    };
    let Some(Some(ends)) = time("exp") else {
        return Err(Answer::empty(401));
    };
    if ends <= now {
        let message = "CONJ00016E Token expired";
        return Err(Answer::error(401, "unauthorized", message));
    }
    let begun = |name| time(name).is_none_or(|at| at.is_some_and(|at| at <= now));
    match begun("nbf") && begun("iat") {
        true => Ok(()),
        false => Err(Answer::empty(401)),
    }
}

/// The variables that configure a service.
struct Variables<'a> {
    state: &'a State,
    prefix: String,
}

impl Variables<'_> {
    fn declared(&self, name: &str) -> bool {
        let id = format!("{}{name}", self.prefix);
        self.state.resources.contains_key(&id)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.state.text(&format!("{}{name}", self.prefix))
    }

    /// The keys, of the one source of them that works without a network.
    fn key_set(&self) -> Option<Value> {
        if self.declared("jwks-uri") || self.declared("provider-uri") {
            return None;
        }
        let keys: Value = serde_json::from_str(self.text("public-keys")?).ok()?;
        let is_set = keys.get("type").and_then(Value::as_str) == Some("jwks");
        keys.get("value").filter(|_| is_set).cloned()
    }

    fn issued_as_wanted(&self, claims: &Map<String, Value>) -> bool {
        // Nothing but `jwks-uri` could say which issuer is meant where the variable does not.
        let issuer = self.text("issuer");
        if issuer.is_none() || claims.get("iss").and_then(Value::as_str) != issuer {
            return false;
        }
        if !self.declared("audience") {
            return true;
        }
        let wanted = self.text("audience");
        match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == wanted),
            Some(one) => wanted.is_some() && one.as_str() == wanted,
            None => false,
        }
    }

    /// Named by the URL or by a claim, never by both.
    fn login(&self, in_url: Option<&str>, claims: &Map<String, Value>) -> Option<String> {
        match (in_url, self.declared("token-app-property")) {
            (Some(login), false) => Some(login.to_owned()),
            (None, true) => {
                let mut path = self.text("token-app-property")?.split('/');
                let first = claims.get(path.next()?)?;
                let id = path.try_fold(first, |at, name| at.get(name))?.as_str()?;
                Some(match self.text("identity-path") {
                    Some(path) => format!("host/{path}/{id}"),
                    None => format!("host/{id}"),
                })
            }
            _ => None,
        }
    }
}

/// Whether the host carries an annotation for this service, and each says what its claim says.
fn annotated(state: &State, role: &str, service: &str, claims: &Map<String, Value>) -> bool {
    let Some(host) = state.resources.get(role) else {
        return false;
    };
    let prefix = format!("authn-jwt/{service}/");
    let annotations = host.annotations.iter();
    let mut wanted = annotations
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)))
        .peekable();
    wanted.peek().is_some()
        && wanted.all(|(claim, value)| {
            let given = claims.get(claim).map(|given| match given {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            !NOT_ANNOTATED.contains(&claim) && given.as_ref() == Some(value)
        })
}
