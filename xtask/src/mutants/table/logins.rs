//! What is broken in the credentials that others renew: JWTs, and client certificates with the connections that they
//! are shown on.

use super::{Mutant, core, of, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    session(
        "credentials: what is no JWT is sent",
        "crates/session/src/jwt/mod.rs",
        [
            "!part.is_empty() && part.len() % 4 != 1 && part.iter().all(is_digit)",
            "!part.is_empty() || part.iter().all(is_digit)",
        ],
        "three_parts_in_base64url_are_a_jwt_and_nothing_else_is",
    ),
    vault(
        "credentials: a JWT that has ended is sent",
        "crates/session/src/login.rs",
        [
            "return Err(error::credential_ended());",
            "tracing::warn!(\"ended\");",
        ],
        "a_jwt_that_has_ended_is_not_sent",
    ),
    session(
        "credentials: a renewal makes a life longer than its JWT's",
        "crates/session/src/life.rs",
        [
            "            bound: self.bound,\n",
            "            bound: None,\n",
        ],
        "a_life_is_over_before_the_end_of_what_its_login_was_made_with",
    ),
    vault(
        "inline: a JWT is used without being tried",
        "backends/vault/src/auth/store.rs",
        [
            "let taken = jwt::is_taken(client, jwt.secret(), endpoint).await;",
            "let taken = jwt::is_taken(client, jwt.secret(), endpoint).await.or(Ok(Taken::Yes));",
        ],
        "a_wrong_jwt_is_sent_once_for_fifty_names",
    ),
    vault(
        "inline: a JWT that is refused later is not replaced",
        "backends/vault/src/answers.rs",
        [
            "400 => is_inline && body() == Body::Reason,",
            "400 => false,",
        ],
        "a_jwt_that_the_store_refuses_later_is_replaced_by_the_one_in_the_file_within_the_read",
    ),
    vault(
        "inline: a token is kept at the store",
        "backends/vault/src/auth/store.rs",
        [
            "With::Jwt(jwt) if self.is_inline() => {",
            "With::Jwt(jwt) if self.is_inline() && endpoint == Some(usize::MAX) => {",
        ],
        "a_read_with_a_jwt_leaves_no_token_at_the_store",
    ),
    transport(
        "certificates: a request goes out on a connection that was begun with a withdrawn one",
        "crates/transport/src/client.rs",
        [
            "match first(connection, self.identity.changed(stamp)).await {",
            "match first(connection, std::future::pending::<()>()).await {",
        ],
        "a_connection_that_is_begun_with_a_certificate_before_the_one_of_now_carries_no_request",
    ),
    transport(
        "certificates: the first connection does not wait for a source that asks an agent",
        "crates/transport/src/client.rs",
        [
            "        first(self.identity.begun(), self.clock.sleep_until(patience)).await;\n",
            "",
        ],
        "the_first_connection_waits_for_the_first_word_of_a_source_within_its_time",
    ),
    vault(
        "status: the identity is not shown",
        "src/stack/assemble.rs",
        [
            "identity: foreign(|| self.store.identity_status()).flatten(),",
            "identity: None,",
        ],
        "the_status_shows_the_identity_of_the_certificate_or_else_of_the_jwts",
    ),
    vault(
        "credentials: a token outlives its JWT",
        "backends/vault/src/auth/store.rs",
        ["With::Jwt(jwt) => jwt.ends(),", "With::Jwt(_) => None,"],
        "a_token_is_replaced_before_the_end_of_the_jwt_that_it_was_given_for",
    ),
    session(
        "credentials: a renewal that fails puts off the login that is to replace a token",
        "crates/session/src/life.rs",
        [
            "            && failed == Refresh::Login\n",
            "            && failed != Refresh::Login\n",
        ],
        "a_token_that_is_to_be_replaced_is_so_by_a_login_and_not_by_a_renewal",
    ),
    vault(
        "credentials: another certificate causes no login",
        "crates/session/src/state.rs",
        [
            "if std::mem::replace(&mut self.certificate, certificate) != certificate {",
            "if std::mem::replace(&mut self.certificate, certificate) > certificate {",
        ],
        "a_renewal_is_not_sent_with_another_client_certificate",
    ),
    vault(
        "credentials: a renewal is sent with another certificate",
        "backends/vault/src/auth/store.rs",
        [
            "matches!(self.auth.method, Method::Cert).then_some(certificate);",
            "matches!(self.auth.method, Method::Token(_)).then_some(certificate);",
        ],
        "a_renewal_is_not_sent_with_another_client_certificate",
    ),
    vault(
        "credentials: another certificate does not end a back-off",
        "backends/vault/src/auth/store.rs",
        [
            "let certificate = self.client.certificate();\n        Ok(",
            "let certificate = 0;\n        Ok(",
        ],
        "another_client_certificate_ends_a_back_off_whatever_the_login_is",
    ),
    vault(
        "credentials: a login that is held back looks at no file of a certificate",
        "backends/vault/src/auth/store.rs",
        ["        self.client.look_again().await;\n", ""],
        "another_client_certificate_ends_a_back_off_whatever_the_login_is",
    ),
    vault(
        "credentials: a login by certificate is built without one",
        "backends/vault/src/auth/mod.rs",
        [
            "(Method::Cert, _) if !with_certificate => Err(",
            "(Method::Cert, _) if !with_certificate && self.role.is_some() => Err(",
        ],
        "a_login_by_certificate_is_refused_in_words_that_say_why",
    ),
    transport(
        "certificates: none is shown",
        "crates/transport/src/client.rs",
        [
            "Some(certificate) => Arc::new(tls::showing(&self.tls, &certificate)?),",
            "Some(certificate) => tls::showing(&self.tls, &certificate).map(|_| Arc::clone(&self.tls))?,",
        ],
        "the_client_certificate_is_shown_on_every_connection",
    ),
    transport(
        "certificates: without one a connection is made all the same",
        "crates/transport/src/client.rs",
        [
            "match self.identity.certificate()? {",
            "match self.identity.certificate().unwrap_or_default() {",
        ],
        "without_a_client_certificate_no_connection_is_made",
    ),
    transport(
        "certificates: one that has ended is shown",
        "crates/transport/src/certificate/mod.rs",
        [
            "        match self.why_not(now()?) {\n            None => Ok(Arc::new",
            "        match self.why_not(now()?).filter(|_| false) {\n            None => Ok(Arc::new",
        ],
        "a_client_certificate_that_ends_while_the_process_runs_is_not_shown",
    ),
    transport(
        "certificates: a key that does not fit is taken",
        "crates/transport/src/certificate/mod.rs",
        [
            "pair.keys_match().map_err(",
            "pair.end_entity_cert().map_err(",
        ],
        "half_of_a_new_pair_changes_nothing_until_the_other_half_is_there",
    ),
    transport(
        "certificates: a kept connection outlives its certificate until it is used",
        "crates/transport/src/engine/pool.rs",
        [
            "first(identity.changed(stamp), clock.sleep_until(next)).await;",
            "first(std::future::pending::<()>(), clock.sleep_until(next)).await;",
        ],
        "another_client_certificate_closes_idle_connections_at_once",
    ),
    transport(
        "certificates: a busy connection is kept after its certificate",
        "crates/transport/src/engine/pool.rs",
        [
            "if idle.connection.stamp != stamp {",
            "if idle.connection.stamp != stamp && idle.connection.stamp.certificate == 0 {",
        ],
        "a_busy_connection_ends_its_request_before_its_old_certificate_closes_it",
    ),
    transport(
        "certificates: other authorities close no connection",
        "crates/transport/src/trust/authorities.rs",
        [
            "LAST.fetch_add(1, Ordering::Relaxed) + 1,",
            "LAST.fetch_add(0, Ordering::Relaxed) + 1,",
        ],
        "other_authorities_close_the_connections_that_were_made_with_those_before",
    ),
    transport(
        "certificates: while kept connections are used, no file is looked at",
        "crates/transport/src/client.rs",
        [
            "            drop(self.identity.begin_look(now, false, &runtime));\n",
            "",
        ],
        "a_request_on_a_kept_connection_sees_to_it_that_the_files_are_read_again",
    ),
    transport(
        "certificates: a refused one is not looked at again",
        "crates/transport/src/client.rs",
        [
            "                    && error.kind() == ErrorKind::Unauthenticated\n",
            "                    && error.kind() == ErrorKind::Denied\n",
        ],
        "a_certificate_that_a_server_refuses_is_looked_at_again_at_once",
    ),
    transport(
        "certificates: a request is sent with another than its own",
        "crates/transport/src/request.rs",
        [
            "self.certificate.is_none_or(|wanted| wanted == shown)",
            "self.certificate.is_none_or(|wanted| wanted <= shown)",
        ],
        "a_request_for_another_client_certificate_is_not_sent",
    ),
    transport(
        "certificates: what a server has said is lost when it hangs up",
        "crates/transport/src/engine/connection.rs",
        [
            "if std::mem::take(&mut self.is_new)\n",
            "if !std::mem::take(&mut self.is_new)\n",
        ],
        "what_a_server_has_said_before_it_hung_up_is_told",
    ),
    transport(
        "certificates: the digits of a key are not wiped",
        "crates/transport/src/certificate/pem.rs",
        [
            "let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));",
            "let mut digits = Box::new(Vec::with_capacity(body.len()));",
        ],
        "nothing_of_the_file_of_a_private_key_stays_in_memory",
    ),
    transport(
        "certificates: a key inside of another section is passed over",
        "crates/transport/src/certificate/pem.rs",
        [
            " || is_before(BEGIN, section, label_end, end) {",
            " || is_before(BEGIN, section, end, end) {",
        ],
        "they_hold_for_the_seeds_of_private_keys",
    ),
    transport(
        "certificates: the file of a key is not wiped",
        "crates/transport/src/certificate/files.rs",
        [
            "    let secret = read(key)?;\n",
            "    let secret = std::mem::take(&mut *read(key)?);\n",
        ],
        "nothing_of_the_file_of_a_private_key_stays_in_memory",
    ),
];

const fn session(
    breaks: &'static str,
    file: &'static str,
    change: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    of("secret-resolver-session", core(breaks, file, change, test))
}

const fn transport(
    breaks: &'static str,
    file: &'static str,
    change: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    of(
        "secret-resolver-transport",
        core(breaks, file, change, test),
    )
}
