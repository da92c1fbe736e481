//! What is broken in how sessions, the transport and the backends take what a source of credentials does.

use super::{Mutant, conjur, core, of, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    spiffe(
        "identity: a login to Conjur is not made again for another certificate",
        "backends/conjur/src/auth.rs",
        [
            "Method::Certificate { .. } => self.client.endpoints().client().certificate(),",
            "Method::Certificate { .. } => 0,",
        ],
        "a_login_to_conjur_by_x509_svid_is_made_again_at_each_rotation_and_never_past_its_end",
    ),
    spiffe(
        "identity: an agent that is away is an outage of the store",
        "src/error.rs",
        [
            "            Misconfigured | Overloaded | Closed => return same,\n",
            "            Misconfigured | Overloaded | Closed | ErrorKind::Unavailable => return same,\n",
        ],
        "own_an_agent_that_is_away_is_said_by_each_source_and_is_no_outage_of_a_store",
    ),
    spiffe(
        "identity: an agent that hangs is an outage of the store",
        "crates/session/src/attempt.rs",
        [
            "waits.why.filter(|_| much)?;",
            "waits.why.filter(|_| much && waits.took.is_zero())?;",
        ],
        "own_an_agent_that_hangs_brings_no_fallback_into_use",
    ),
    vault(
        "identity: a source that hangs now is an outage where the store took the time before",
        "crates/session/src/attempt.rs",
        [
            "let much = waits.lasts ||",
            "let much = waits.lasts && !waits.lasts ||",
        ],
        "a_source_that_hangs_when_most_of_the_time_is_gone_is_no_outage",
    ),
    vault(
        "identity: a credential that came late costs the read",
        "src/layers/retry/tour.rs",
        [
            "error.was_not_sent() || (zero",
            "error.was_not_sent() && self.asked || (zero",
        ],
        "a_credential_that_comes_late_in_an_attempt_costs_no_name_its_answer",
    ),
    vault(
        "identity: a try of what was not sent takes from the retry budget",
        "src/layers/retry/tour.rs",
        [
            "is_free: error.was_not_sent() && !self.asked,",
            "is_free: error.was_not_sent() && self.asked,",
        ],
        "a_credential_that_comes_late_in_an_attempt_costs_no_name_its_answer",
    ),
    of(
        "secret-resolver",
        core(
            "identity: a try that waits for a credential begins at any time",
            "src/layers/retry/mod.rs",
            ["|end| at + needs < end", "|end| at + needs / 99 < end"],
            "what_waited_for_us_is_sent_again_while_there_is_time",
        ),
    ),
    vault(
        "identity: what a source refuses counts for the store's breaker",
        "src/error.rs",
        [
            "Refused => return same.held_back(),",
            "Refused => return same,",
        ],
        "whatever_a_source_says_opens_no_breaker_and_ends_with_it",
    ),
    vault(
        "identity: looks that hang take one thread after another",
        "crates/transport/src/looks.rs",
        [
            "if !due || state.under_way {",
            "if !due || state.under_way && due && !due {",
        ],
        "looks_for_a_certificate_that_hang_hold_up_nothing",
    ),
    vault(
        "identity: a look that hangs holds up the login",
        "crates/transport/src/identity.rs",
        [
            "first(join_all(looks), clock.sleep_until(now + LOOK)).await;",
            "let _ = (join_all(looks).await, LOOK);",
        ],
        "looks_for_a_certificate_that_hang_hold_up_nothing",
    ),
    of(
        "secret-resolver-session",
        core(
            "identity: reads of a credential that hang take one thread after another",
            "crates/session/src/credential.rs",
            ["Semaphore::new(Credential::READS)", "Semaphore::new(99)"],
            "of_reads_that_hang_there_are_few",
        ),
    ),
    of(
        "secret-resolver-session",
        core(
            "identity: what a login waited for before a read came is the read's, too",
            "crates/session/src/attempt.rs",
            [
                "waits.took.saturating_sub(*before)",
                "waits.took.max(*before)",
            ],
            "a_read_that_comes_late_to_a_login_has_waited_little_for_its_source",
        ),
    ),
    vault(
        "identity: a token that nobody could ask about is dead",
        "backends/vault/src/auth/store.rs",
        [
            "error.kind() == ErrorKind::Unauthenticated && !error.is_held_back() => {",
            "error.kind() == ErrorKind::Unauthenticated => {",
        ],
        "what_could_not_be_sent_for_want_of_a_certificate_says_nothing_about_a_token",
    ),
    vault(
        "identity: a revocation that was not sent says that a token is gone",
        "crates/session/src/error.rs",
        [
            "may_pass || is_outage(error) || error.is_held_back()",
            "may_pass || is_outage(error)",
        ],
        "what_could_not_be_sent_for_want_of_a_certificate_says_nothing_about_a_token",
    ),
    vault(
        "identity: a shutdown does not wait for its lines",
        "src/layers/own_thread.rs",
        [
            "                let _ = tokio::time::timeout(WRITTEN, aside.written()).await;\n",
            "                drop(aside);\n",
        ],
        "the_lines_of_a_session_are_written_in_their_order_before_a_shutdown_ends",
    ),
    spiffe(
        "identity: each connection waits for the agent's first word",
        "crates/transport/src/client.rs",
        [
            "*self.first_word_until.get_or_init(until);",
            "*std::sync::OnceLock::new().get_or_init(until);",
        ],
        "own_an_agent_that_hangs_at_the_start_is_no_outage_however_short_the_time",
    ),
    spiffe(
        "identity: what the agent lacked holds back logins",
        "crates/session/src/state.rs",
        [
            "let refused = !error.is_held_back()\n            && matches!(",
            "let refused = (!error.is_held_back() || error.is_held_back())\n            && matches!(",
        ],
        "own_what_the_agent_lacked_holds_back_no_login_once_it_is_there",
    ),
    spiffe(
        "identity: a login that was not sent counts",
        "crates/session/src/login.rs",
        [
            "self.counts.logins.fetch_sub(1, Ordering::Relaxed);",
            "self.counts.logins.fetch_sub(0, Ordering::Relaxed);",
        ],
        "own_what_the_agent_lacked_holds_back_no_login_once_it_is_there",
    ),
    spiffe(
        "identity: a login by certificate is sent before there is one",
        "crates/transport/src/client.rs",
        ["            self.0.first_word(until).await;\n", ""],
        "own_a_start_by_certificate_takes_one_login",
    ),
    spiffe(
        "identity: the first SVID is shown to its end",
        "crates/transport/src/identity.rs",
        [
            "let certificate = self.shown.as_ref().map(offered).transpose();",
            "let first = |shown: &Shown| { static FIRST: Mutex<Option<ClientCertificate>> = Mutex::new(None); let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner); if !first.as_ref().is_some_and(ClientCertificate::is_good) { *first = offered(shown).ok(); } first.clone().map_or_else(|| offered(shown), Ok) };\n        let certificate = self.shown.as_ref().map(first).transpose();",
        ],
        "svids_rotate_twenty_times_under_load_without_a_failed_get",
    ),
    vault(
        "identity: a source that hangs is waited for until the login's end",
        "crates/session/src/login.rs",
        [
            "const LOAD: Duration = Duration::from_secs(12);",
            "const LOAD: Duration = Duration::from_secs(60);",
        ],
        "a_source_that_hangs_is_no_outage_at_any_time_and_its_questions_do_not_pile_up",
    ),
    vault(
        "identity: a credential that comes late is the store's fault",
        "crates/session/src/waiting.rs",
        [
            "|now| now.since(since));",
            "|now| now.since(now.max(since)));",
        ],
        "a_source_that_leaves_the_store_too_little_time_is_no_outage_of_the_store",
    ),
    of(
        "secret-resolver-session",
        core(
            "identity: a store that is silent is taken for a source that is late",
            "crates/session/src/attempt.rs",
            ["now.since(began) / 2;", "now.since(began) / 99;"],
            "a_read_that_comes_late_to_a_login_has_waited_little_for_its_source",
        ),
    ),
    vault(
        "identity: a stop of this process is a missing credential",
        "src/layers/attempt.rs",
        ["    waited || error", "    waited && false || error"],
        "a_process_that_is_stopped_while_it_waits_for_a_credential_goes_on_waiting",
    ),
    vault(
        "identity: a subscriber stands on the store's thread",
        "src/threads.rs",
        [
            "                attends.attend();\n",
            "                if !foreign { attends.attend(); }\n",
        ],
        "a_subscriber_that_panics_or_blocks_makes_no_outage_of_a_refused_login",
    ),
    conjur(
        "identity: a refusal that is tried again looks like a store that is late",
        "backends/conjur/src/auth.rs",
        [
            "waiting.wait(&*self.clock, early, pause).await;",
            "{ drop((early, waiting)); pause.await; }",
        ],
        "a_refused_jwt_is_no_outage_however_short_the_time",
    ),
    conjur(
        "identity: what a source of credentials says is taken for the store's word",
        "crates/session/src/login.rs",
        ["loaded.map_err(Error::of_credential)", "loaded"],
        "a_source_of_jwts_that_has_none_says_nothing_of_a_secret_and_nothing_of_the_store",
    ),
    of(
        "secret-resolver-transport",
        core(
            "identity: a source of certificates that is away is an outage of the server",
            "crates/transport/src/identity.rs",
            ["certificate.map_err(Error::of_credential)", "certificate"],
            "a_source_of_certificates_that_cannot_reach_its_agent_is_no_outage_of_the_server",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "identity: a server is believed where the look at its certificate panics",
            "crates/transport/src/tls.rs",
            [
                "foreign(|| server.is_in(end_entity)) != Some(true)",
                "foreign(|| server.is_in(end_entity)) == Some(false)",
            ],
            "what_an_identity_of_the_application_does_wrong_is_no_outage_of_the_server",
        ),
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
