//! The check of a request's token, and the answer that hands a token out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Ask;
use crate::Answer;
use crate::secret::{Identity, Refusal, claims, sign, verify};
use crate::state::State;

/// The login that asks, by the token of the request.
pub(super) fn authorize(ask: &Ask<'_>) -> Result<Identity, Answer> {
    let given = ask.request.header("authorization").and_then(quoted_token);
    let Some(given) = given else {
        return Err(Answer::refused(401, "Authorization missing"));
    };
    // The keys are the same on every endpoint at any time, so a follower that lags knows the newest tokens.
    let verified = verify(
        &ask.endpoint.shared.state(),
        given,
        ask.now,
        ask.peer.address,
    );
    verified.map_err(|refusal| match refusal {
        Refusal::Malformed => Answer::refused(401, "Malformed authorization token"),
        Refusal::Invalid => Answer::refused(401, "Unauthorized: Invalid token"),
        Refusal::UnknownClaims => Answer::refused(401, "token contains unrecognized claims"),
        Refusal::WrongNetwork => Answer::refused(403, "IP address rejected"),
    })
}

fn quoted_token(header: &str) -> Option<&str> {
    let rest = header.strip_prefix("Token token=\"")?;
    rest.rfind('"').and_then(|end| rest.get(..end))
}

/// A new token of a login, as JSON, or as base64 for those that take it.
pub(super) fn hand_out(ask: &Ask<'_>, state: &State, account: &str, login: &str) -> Answer {
    let life = i64::try_from(ask.switches.token_life.as_secs()).unwrap_or(i64::MAX);
    let Some(token) = sign(state, account, &claims(login, ask.now, life)) else {
        return Answer::empty(401);
    };
    let takes_base64 = ask.request.header("accept-encoding").is_some_and(|all| {
        all.split(',')
            .any(|one| one.trim().eq_ignore_ascii_case("base64"))
    });
    match takes_base64 {
        true => Answer::text(200, "text/plain; charset=utf-8", &STANDARD.encode(token))
            .with_header("Content-Encoding", "base64"),
        false => Answer::json(200, &token),
    }
}
