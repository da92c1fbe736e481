//! Login with the client certificate of the TLS connection. None of this is recorded: the open-source server does not have it. It is
//! what the documentation says, and what the vendor's own clients and their tests do.

use super::Ask;
use super::authn::welcome;
use super::route::Service;
use super::tokens::hand_out;
use crate::Answer;
use crate::certificates::{common_name, uris};
use crate::state::{State, role_of_login};

/// `POST /authn-cert/{service}/{account}[/{host}]/authenticate`, with an empty body.
pub(super) fn authenticate(
    ask: &Ask<'_>,
    state: &State,
    service: &Service,
) -> Result<Answer, Answer> {
    let refused = || Answer::empty(401);
    let name = format!("authn-cert/{}", service.id);
    let webservice = format!("{}:webservice:conjur/{name}", service.account);
    let certificate = ask.peer.certificate.as_deref().ok_or_else(refused)?;
    if !state.resources.contains_key(&webservice) || !state.enabled.contains(&name) {
        return Err(refused());
    }
    let text = |variable: &str| {
        state.text(&format!(
            "{}:variable:conjur/{name}/{variable}",
            service.account
        ))
    };
    let login = match (text("host-mode").unwrap_or("request"), &service.login) {
        ("request", Some(host)) => {
            let login = match host.starts_with("host/") {
                true => host.clone(),
                false => format!("host/{host}"),
            };
            let role = role_of_login(&service.account, &login);
            named_by(state, &role, certificate).then_some(login)
        }
        ("spiffe", None) => text("trust-domain").and_then(|domain| {
            let id = spiffe_path(certificate, domain)?;
            Some(format!("host/{}/{id}", text("identity-path")?))
        }),
        _ => None,
    };
    let login = login.ok_or_else(refused)?;
    let role = role_of_login(&service.account, &login);
    if !welcome(state, &role, ask.peer.address) {
        return Err(refused());
    }
    match state.allowed(&state.roles_of(&role), "authenticate", &webservice) {
        true => Ok(hand_out(ask, state, &service.account, &login)),
        false => Err(Answer::empty(403)),
    }
}

/// Whether the host's annotation is the certificate's common name.
fn named_by(state: &State, role: &str, certificate: &[u8]) -> bool {
    let annotations = state.resources.get(role).map(|host| &host.annotations);
    let wanted = annotations.and_then(|all| all.get("authn-cert/cn"));
    wanted.is_some() && common_name(certificate).as_ref() == wanted
}

/// The path of the certificate's SPIFFE id, if it has exactly one URI and that is of this trust domain.
fn spiffe_path(certificate: &[u8], domain: &str) -> Option<String> {
    let uris = uris(certificate);
    let [uri] = uris.as_slice() else { return None };
    let path = uri.strip_prefix("spiffe://")?.strip_prefix(domain)?;
    let path = path.strip_prefix('/').filter(|path| !path.is_empty());
    path.map(str::to_owned)
}
