//! What the server says of itself and of the caller.

use super::Ask;
use crate::clock::iso8601;
use crate::secret::Identity;
use crate::{Answer, Version, json};

/// `GET /`: the version for those that ask for JSON, a page for the others (the page's text is not recorded).
pub(super) fn root(ask: &Ask<'_>) -> Answer {
    let version = match ask.switches.version {
        Version::V1_24 => "1.24.0",
        Version::V1_22 => "1.22.2",
    };
    let accept = ask.request.header("accept").unwrap_or_default();
    let answer = match accept.contains("application/json") {
        true => Answer::json(200, &format!(r#"{{"version":"{version}"}}"#)),
        false => Answer::text(
            200,
            "text/html; charset=utf-8",
            &format!(
                "<html><body><h1>Your Conjur server is running!</h1> Version {version}</body></html>"
            ),
        ),
    };
    answer.with_header("Vary", "Accept")
}

/// `GET /whoami`: it proves a token's signature, and not that the role is still there.
pub(super) fn whoami(ask: &Ask<'_>, identity: &Identity) -> Answer {
    let agent = ask.request.header("user-agent");
    let agent = agent.map_or_else(|| "null".to_owned(), json::quote);
    Answer::json(
        200,
        &format!(
            r#"{{"client_ip":"{}","user_agent":{agent},"account":{},"username":{},"token_issued_at":"{}"}}"#,
            ask.peer.address,
            json::quote(&identity.account),
            json::quote(&identity.login),
            iso8601(identity.issued * 1000)
        ),
    )
}
