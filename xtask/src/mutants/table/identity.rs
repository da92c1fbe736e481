//! What is broken in the SPIFFE identity: the guard of the agent's socket, JWT-SVIDs, X509-SVIDs, and how the agent is asked.

use super::{Mutant, core, of};

const GUARD: &str = "crates/identity/src/guard.rs";
const JWT: &str = "crates/identity/src/jwt.rs";
const CLAIMS: &str = "crates/identity/src/claims.rs";
const STREAM: &str = "crates/identity/src/stream.rs";
const ERROR: &str = "crates/identity/src/error.rs";
const PAUSE: &str = "crates/identity/src/pause.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    spiffe(
        "identity: a folder that others may write to is taken",
        GUARD,
        [
            "const WRITABLE: u32 = 0o022;",
            "const WRITABLE: u32 = 0o002;",
        ],
        "a_folder_that_others_may_write_to_is_refused_wherever_it_stands",
    ),
    spiffe(
        "identity: any sticky folder is taken",
        GUARD,
        [
            "true if self.sticky.iter().any(|allowed| allowed == path) => return Ok(()),",
            "true if self.sticky.iter().all(|allowed| allowed != path) => return Ok(()),",
        ],
        "a_sticky_folder_is_refused_unless_it_is_named",
    ),
    spiffe(
        "identity: a part of the path may belong to anyone",
        GUARD,
        [
            "match self.is_theirs(metadata.uid()) {",
            "match metadata.uid() < u32::MAX {",
        ],
        "what_belongs_to_another_user_is_refused",
    ),
    spiffe(
        "identity: what is no socket is asked",
        GUARD,
        [
            "if !self.metadata(path)?.file_type().is_socket() {",
            "if self.metadata(path)?.is_dir() {",
        ],
        "what_is_no_socket_and_what_is_not_there_says_so",
    ),
    spiffe(
        "identity: any process may listen at the socket",
        GUARD,
        [
            "match self.is_theirs(peer.uid()) {",
            "match peer.uid() < u32::MAX {",
        ],
        "own_a_process_of_another_user_at_the_agents_socket_is_not_asked",
    ),
    spiffe(
        "identity: where the socket is depends on the process's folder",
        GUARD,
        [
            "if !socket.is_absolute() {",
            "if socket.as_os_str().is_empty() {",
        ],
        "ep_04_an_address_is_no_path",
    ),
    spiffe(
        "identity: the JWT-SVID of another identity is sent",
        CLAIMS,
        ["if sub != id {", "if sub.is_empty() {"],
        "jv_19_the_subject_is_the_configured_identity",
    ),
    spiffe(
        "identity: a JWT-SVID for several audiences is sent",
        CLAIMS,
        [
            "[audience] => Some(audience),",
            "[audience, ..] => Some(audience),",
        ],
        "jv_07_to_09_the_audience_is_the_one_that_was_asked_for_alone",
    ),
    spiffe(
        "identity: a JWT-SVID for another audience is sent",
        CLAIMS,
        [
            "if aud.only() != Some(audience) {",
            "if aud.only().is_none() {",
        ],
        "jv_07_to_09_the_audience_is_the_one_that_was_asked_for_alone",
    ),
    spiffe(
        "identity: a JWT-SVID that has ended is sent",
        CLAIMS,
        ["match left > 0.0 {", "match left > -4e9 {"],
        "jv_11_and_12_a_jwt_svid_has_an_end_and_has_not_ended",
    ),
    spiffe(
        "identity: the agent is asked for each login",
        JWT,
        [
            "held.is_good(now) && now < held.again);",
            "held.is_good(now) && now > held.again);",
        ],
        "own_the_agent_is_asked_once_in_half_a_life_however_many_ask",
    ),
    spiffe(
        "identity: a JWT-SVID is used to its end",
        JWT,
        ["again: now + left / 2,", "again: now + left,"],
        "own_the_agent_is_asked_once_in_half_a_life_however_many_ask",
    ),
    spiffe(
        "identity: all who wait ask an agent that fails",
        JWT,
        [
            "is_some_and(|(until, _)| now < *until)",
            "is_some_and(|(until, _)| now > *until)",
        ],
        "own_an_agent_that_fails_is_asked_once_a_second_however_many_ask",
    ),
    spiffe(
        "identity: a JWT-SVID is used after a denial",
        JWT,
        [
            "let denied = error.kind() == ErrorKind::Unauthenticated;",
            "let denied = error.kind() == ErrorKind::Overloaded;",
        ],
        "jf_04_a_denial_is_an_error_and_no_old_jwt_svid",
    ),
    spiffe(
        "identity: an outage ends a JWT-SVID that lives",
        JWT,
        [
            "let denied = error.kind() == ErrorKind::Unauthenticated;",
            "let denied = error.kind() == ErrorKind::Unavailable;",
        ],
        "own_while_the_agent_is_away_the_last_jwt_svid_serves_all_and_the_agent_is_asked_once_a_second",
    ),
    spiffe(
        "identity: another identity's SVID is shown",
        STREAM,
        [
            "svids.find(|svid| *svid.spiffe_id() == identity.id)",
            "svids.find(|svid| svid.spiffe_id().trust_domain() == identity.id.trust_domain())",
        ],
        "wa_03_the_configured_one_of_several_is_shown_wherever_it_stands",
    ),
    spiffe(
        "identity: a message without the identity withdraws nothing",
        STREAM,
        ["            self.withdraw(&another);\n", ""],
        "own_a_message_without_the_configured_identity_withdraws_its_svid",
    ),
    spiffe(
        "identity: a denial withdraws nothing",
        STREAM,
        [
            "ErrorKind::Unauthenticated => self.withdraw(&error),",
            "ErrorKind::Unauthenticated => {}",
        ],
        "wa_04_a_denial_withdraws_the_svid_at_once_and_names_the_identity",
    ),
    spiffe(
        "identity: an outage withdraws the SVID",
        STREAM,
        [
            "ErrorKind::Unauthenticated => self.withdraw(&error),",
            "ErrorKind::Unavailable => self.withdraw(&error),",
        ],
        "wa_01_an_agent_that_is_restarted_is_found_again",
    ),
    spiffe(
        "identity: an SVID is shown after its end",
        STREAM,
        [
            "Some(left) if left.is_zero() => self.show_none(",
            "Some(left) if left > LOOK_AGAIN => self.show_none(",
        ],
        "own_an_svid_is_shown_to_its_end_and_not_after_it",
    ),
    spiffe(
        "identity: an equal SVID is a rotation",
        STREAM,
        [
            "        if is_new {\n            // First",
            "        if is_new || true {\n            // First",
        ],
        "xs_03_a_rotated_svid_is_shown_and_an_equal_one_is_no_rotation",
    ),
    spiffe(
        "identity: a stream that ends is opened again at once",
        PAUSE,
        [
            "tokio::time::sleep(spread(self.next(error))).await;",
            "tokio::time::sleep(self.next(error) / 100).await;",
        ],
        "own_a_stream_that_ends_again_and_again_is_opened_once_a_second",
    ),
    spiffe(
        "identity: what the agent does not take is soon sent again",
        PAUSE,
        [
            "ErrorKind::Misconfigured => LONGEST,",
            "ErrorKind::Misconfigured => SHORTEST,",
        ],
        "ep_07_a_request_that_the_agent_does_not_take_is_reported_and_not_soon_sent_again",
    ),
    spiffe(
        "identity: an agent that says nothing is waited for without an end",
        STREAM,
        [
            "let may_be_silent = changes.borrow_and_update().is_ok() && !is_first;",
            "let may_be_silent = changes.borrow_and_update().is_ok() || !is_first || is_first;",
        ],
        "own_an_agent_that_says_nothing_is_reported_and_asked_again",
    ),
    spiffe(
        "identity: an agent fills the log",
        STREAM,
        [
            "if let Some(others) = self.warnings.warns(now) {",
            "if let Some(others) = self.warnings.warns(now).or(Some(0)) {",
        ],
        "no_key_and_no_jwt_is_in_any_text_or_trace_and_an_agent_cannot_fill_a_log",
    ),
    spiffe(
        "identity: a JWT is in a text",
        JWT,
        [
            "        let ends = now + left;\n",
            "        let ends = now + left;\n        tracing::trace!(token = &**token);\n",
        ],
        "no_key_and_no_jwt_is_in_any_text_or_trace_and_an_agent_cannot_fill_a_log",
    ),
    spiffe(
        "identity: a key is in a text",
        STREAM,
        [
            "    let chain = svid.cert_chain().iter();\n",
            "    tracing::trace!(key = ?svid.private_key().as_bytes());\n    let chain = svid.cert_chain().iter();\n",
        ],
        "no_key_and_no_jwt_is_in_any_text_or_trace_and_an_agent_cannot_fill_a_log",
    ),
    spiffe(
        "identity: who stands in the agent's place ends what the agent gave",
        JWT,
        [
            "let denied = error.kind() == ErrorKind::Unauthenticated;",
            "let denied = error.kind() != ErrorKind::Unavailable;",
        ],
        "an_agent_that_another_user_has_replaced_is_refused_and_what_the_first_gave_is_used_to_its_end",
    ),
    spiffe(
        "identity: an agent that is away is held against the store",
        ERROR,
        [
            "Error::new(kind, what).with_backend(SOURCE).held_back()",
            "Error::new(kind, what).with_backend(SOURCE)",
        ],
        "own_a_process_of_another_user_at_the_agents_socket_is_not_asked",
    ),
    spiffe(
        "identity: any server of the trust domain is the store",
        "crates/identity/src/server.rs",
        [
            "id.is_ok_and(|id| id == self.id)",
            "id.is_ok_and(|id| id.trust_domain() == self.id.trust_domain())",
        ],
        "a_store_with_an_svid_is_believed_by_its_exact_id_and_by_no_other",
    ),
    spiffe(
        "identity: the authorities of one domain vouch for another",
        "crates/identity/src/bundles.rs",
        [".get_ref(domain);", ".iter().map(|(_, any)| any).last();"],
        "xf_a_store_of_another_trust_domain_is_believed_by_that_ones_authorities_while_a_message_has_them",
    ),
    spiffe(
        "identity: authorities are believed after the identity was withdrawn",
        STREAM,
        ["        self.state.bundles.forget(why);\n", ""],
        "own_without_an_identity_no_server_is_believed",
    ),
    spiffe(
        "identity: a JWT-SVID that the store refuses is kept for half of its life",
        JWT,
        [
            "held.again = held.again.min(soon);",
            "held.again = held.again.max(soon);",
        ],
        "own_a_jwt_svid_that_the_store_refuses_is_replaced_before_half_of_its_life",
    ),
    spiffe(
        "identity: the first read does not wait for the agent's first word",
        STREAM,
        [
            "!self.state.has_begun.load(Ordering::Acquire)",
            "!self.state.has_begun.load(Ordering::Acquire) && self.shown.borrow().is_ok()",
        ],
        "own_the_first_read_waits_for_the_agents_first_word",
    ),
    spiffe(
        "identity: a panic is the end of the stream",
        STREAM,
        [
            "            let _ = both.join_next().await;\n",
            "            let _ = both.join_next().await;\n            std::future::pending::<()>().await;\n",
        ],
        "own_a_panic_of_the_applications_clock_is_not_the_end_of_the_identity",
    ),
    spiffe(
        "identity: a user whom the namespace does not have is the agent's",
        GUARD,
        [
            "Some(uid) != self.unmapped && (uid == ROOT || Some(uid) == self.agent)",
            "uid == ROOT || Some(uid) == self.agent",
        ],
        "a_user_without_a_number_in_this_namespace_is_nobody_who_was_named",
    ),
    spiffe(
        "identity: a withdrawal on the stream leaves JWT-SVIDs",
        JWT,
        [
            "|held: &mut Held| held.withdrawals != withdrawals;",
            "|held: &mut Held| held.withdrawals > withdrawals;",
        ],
        "own_an_identity_that_is_withdrawn_on_the_stream_takes_its_jwt_svids_along",
    ),
    spiffe(
        "identity: a withdrawal is reported before it is done",
        STREAM,
        [
            "                ErrorKind::Unauthenticated => self.withdraw(&error),\n",
            "                ErrorKind::Unauthenticated => {\n                    let _ = self.state.identity.clock.now();\n                    self.withdraw(&error);\n                }\n",
        ],
        "own_a_panic_of_the_clock_keeps_no_withdrawn_svid",
    ),
    spiffe(
        "identity: a JWT-SVID that comes after a withdrawal is used",
        JWT,
        [
            "        let withdrawals = self.identity.withdrawals();\n        let client",
            "        let withdrawals = self.identity.withdrawals().max(1);\n        let client",
        ],
        "own_a_jwt_svid_that_was_asked_for_before_a_withdrawal_and_comes_after_it_is_not_used",
    ),
    spiffe(
        "identity: a login waits for an agent that stands still while a JWT-SVID lives",
        JWT,
        [
            "            true => BRIEF,",
            "            true => PATIENCE,",
        ],
        "own_while_one_lives_nobody_waits_for_an_agent_that_stands_still",
    ),
    spiffe(
        "identity: each denial for one audience costs the others their JWT-SVIDs",
        JWT,
        ["if denied && known.is_none() {", "if denied {"],
        "own_an_audience_that_is_denied_again_and_again_costs_another_one_nothing",
    ),
    spiffe(
        "identity: a denial is news to the other audiences once",
        JWT,
        [
            "if denied && known.is_some_and(|known| now >= known) {",
            "if denied && known.is_some_and(|known| now < known) && known.is_none() {",
        ],
        "own_a_denial_for_one_audience_is_news_to_another_from_time_to_time",
    ),
    spiffe(
        "identity: a forked child uses its parent's identity",
        "crates/identity/src/identity.rs",
        [
            "match self.process.is_this() {",
            "match self.process.is_this() || true {",
        ],
        "own_an_identity_that_was_built_before_a_fork_refuses_in_the_child",
    ),
    spiffe(
        "identity: a subscriber stands on the identity's thread",
        "crates/identity/src/worker.rs",
        ["                report_aside();\n", ""],
        "own_a_subscriber_that_panics_or_blocks_keeps_no_withdrawn_svid",
    ),
];

const fn spiffe(
    breaks: &'static str,
    file: &'static str,
    change: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    of("secret-resolver-spiffe", core(breaks, file, change, test))
}
