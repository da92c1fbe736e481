//! Which authenticators there are, and how one of them is.

use std::collections::BTreeSet;

use super::{Ask, Caller};
use crate::secret::Identity;
use crate::state::{State, id_of, kind_of};
use crate::{Answer, json};

/// What the recorded server has.
const INSTALLED: [&str; 8] = [
    "authn",
    "authn-azure",
    "authn-gcp",
    "authn-iam",
    "authn-jwt",
    "authn-k8s",
    "authn-ldap",
    "authn-oidc",
];

/// `GET /authenticators`: of all accounts.
pub(super) fn list(ask: &Ask<'_>, state: &State) -> Answer {
    let mut installed: BTreeSet<_> = INSTALLED.map(str::to_owned).into();
    if ask.switches.authn_cert {
        installed.insert("authn-cert".to_owned());
    }
    let services = state.resources.keys();
    let services = services.filter(|id| kind_of(id) == "webservice");
    let mut configured: BTreeSet<_> = services
        .filter_map(|id| id_of(id).strip_prefix("conjur/"))
        .filter(|name| name.starts_with("authn-") && name.matches('/').count() == 1)
        .map(str::to_owned)
        .collect();
    configured.insert("authn".to_owned());
    let mut enabled = state.enabled.clone();
    enabled.insert("authn".to_owned());
    let names = |set: BTreeSet<String>| json::list(set.iter().map(|name| json::quote(name)));
    let (installed, configured, enabled) = (names(installed), names(configured), names(enabled));
    Answer::json(
        200,
        &format!(r#"{{"installed":{installed},"configured":{configured},"enabled":{enabled}}}"#),
    )
}

/// `GET /authn-jwt/{service}/{account}/status`: there is no status service here, as in the recorded server.
pub(super) fn status(
    state: &State,
    identity: &Identity,
    authenticator: &str,
    account: &str,
) -> Result<Answer, Answer> {
    Caller::find(state, identity)?;
    let there = state
        .resources
        .contains_key(&format!("{account}:webservice:conjur/{authenticator}"));
    let missing = match there {
        true => format!("{authenticator}/status"),
        false => authenticator.to_owned(),
    };
    let error = format!(
        "#<Errors::Authentication::Security::WebserviceNotFound: CONJ00005E Webservice '{missing}' not found>"
    );
    Ok(Answer::json(
        404,
        &format!(r#"{{"status":"error","error":{}}}"#, json::quote(&error)),
    ))
}
