//! What is broken in the session: `crates/session/`. A backend is needed to notice most of it.

use super::{Mutant, core, of, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    vault(
        "7: a token is sent after its end",
        "crates/session/src/life.rs",
        [
            "self.ends().is_some_and(|end| now >= end)",
            "self.ends().is_some_and(|end| now < end && now > end)",
        ],
        "a_token_that_is_not_used_is_not_renewed_and_not_sent_after_its_end",
    ),
    vault(
        "7: a denial is kept for the next token",
        "crates/session/src/session.rs",
        [
            "        self.0.lock().issued\n",
            "        self.0.counts.logins.load(Ordering::Relaxed)\n",
        ],
        "a_denial_during_a_login_is_not_remembered_for_the_token_that_it_brings",
    ),
    vault(
        "logins: an outage holds back the next",
        "crates/session/src/state.rs",
        [
            "Kind::Unavailable | Kind::Timeout | Kind::Closed => {}",
            "Kind::Closed => {}",
        ],
        "an_outage_uses_up_no_cap_and_holds_back_no_login",
    ),
    vault(
        "logins: an outage uses up the cap",
        "crates/session/src/state.rs",
        [
            "        match error.kind() {\n            Kind::Unavailable",
            "        self.pace.answered(now);\n        match error.kind() {\n            Kind::Unavailable",
        ],
        "an_outage_uses_up_no_cap_and_holds_back_no_login",
    ),
    vault(
        "logins: a hold hides why",
        "crates/session/src/state.rs",
        [
            "let error = held.error.clone().with_retry_after(held.until.since(now));",
            "let error = error::dead_again().with_retry_after(held.until.since(now));",
        ],
        "a_login_that_is_held_back_says_what_it_was_refused_for",
    ),
    vault(
        "logins: a proxy's page counts as a refusal",
        "crates/session/src/state.rs",
        [
            "_ => self.hold(credentials, error, now + Pace::MOMENT),",
            "_ => self.refused(credentials, error, now),",
        ],
        "an_answer_that_is_not_the_stores_holds_logins_back_for_a_second_and_never_for_longer",
    ),
    vault(
        "logins: a wrong secret id is sent until the store locks the role out",
        "crates/session/src/pace.rs",
        ["const QUICK: u32 = 3;", "const QUICK: u32 = 30;"],
        "a_wrong_secret_id_is_sent_three_times_and_then_more_rarely_than_the_store_remembers_it",
    ),
    vault(
        "logins: a wrong secret id is sent while the store still counts the last",
        "crates/session/src/pace.rs",
        [
            "const RARE_WAIT: Duration = Duration::from_secs(18 * 60);",
            "const RARE_WAIT: Duration = Duration::from_secs(5 * 60);",
        ],
        "a_wrong_secret_id_is_sent_three_times_and_then_more_rarely_than_the_store_remembers_it",
    ),
    vault(
        "logins: another wrong secret id does not count with the first",
        "crates/session/src/pace.rs",
        [
            "        if self.remembered(now) == 0 {\n",
            "        if self.remembered(now) < u32::MAX {\n",
        ],
        "a_wrong_id_after_others_counts_with_them",
    ),
    vault(
        "logins: a changed secret id waits for the one before",
        "crates/session/src/state.rs",
        [
            "if same && now < held.until {",
            "if (same || !same) && now < held.until {",
        ],
        "a_changed_secret_id_is_tried_at_once_however_long_the_one_before_is_held_back",
    ),
    vault(
        "logins: a missing file is final",
        "crates/session/src/error.rs",
        [
            "in_file(unauthenticated(what).held_back(), path)",
            "in_file(unauthenticated(what), path)",
        ],
        "require_within_waits_for_a_credentials_file_and_a_get_sees_it_at_once",
    ),
    vault(
        "logins: another endpoint's outage fails a request",
        "crates/session/src/attempt.rs",
        [
            "Some(Ok(())) if is_own => deaths += 1,",
            "Some(_) if !is_own => deaths += 1,\n                Some(Ok(())) => deaths += 1,",
        ],
        "an_outage_of_many_endpoints_is_an_outage_for_every_read",
    ),
    vault(
        "logins: one that hangs holds up all endpoints",
        "crates/session/src/session.rs",
        [
            "const PATIENCE: Duration = Duration::from_millis(500);",
            "const PATIENCE: Duration = Duration::from_secs(500);",
        ],
        "a_login_that_hangs_at_one_endpoint_holds_up_no_request_for_another",
    ),
    vault(
        "logins: a late one takes the place of a token in use",
        "crates/session/src/state.rs",
        [
            "if new.given.is_none() && self.live.as_ref().is_some_and(quicker) {",
            "if new.given.is_some() && self.live.as_ref().is_some_and(quicker) {",
        ],
        "a_login_that_is_late_gives_its_token_back_where_another_was_quicker",
    ),
    vault(
        "logins: one endpoint's refusal is enough",
        "crates/session/src/login.rs",
        ["let most = if calm { 2 } else { 1 };", "let most = 1;"],
        "a_login_that_one_endpoint_refuses_is_tried_at_another",
    ),
    vault(
        "logins: a refused credential is shown to every endpoint",
        "crates/session/src/login.rs",
        ["let most = if calm { 2 } else { 1 };", "let most = number;"],
        "a_refusal_is_confirmed_once_and_a_refused_credential_is_not_shown_to_all",
    ),
    vault(
        "logins: what says nothing about a credential is passed over at some endpoints",
        "crates/session/src/login.rs",
        [
            "let mut others = 1..number;",
            "let mut others = 1..number.min(3);",
        ],
        "one_endpoint_of_five_that_is_well_is_found_and_fails_no_get",
    ),
    vault(
        "logins: a quota at one endpoint is the credential's refusal",
        "crates/session/src/error.rs",
        [
            "matches!(error.kind(), Malformed | Overloaded | Refused | Throttled);",
            "matches!(error.kind(), Malformed | Overloaded | Refused) && Throttled != Refused;",
        ],
        "what_says_nothing_of_a_credential_is_asked_once_and_its_refusal_no_more_than_twice",
    ),
    vault(
        "logins: a silent endpoint holds up a login",
        "crates/session/src/login.rs",
        [
            "const ALONE: Duration = Duration::from_millis(500);",
            "const ALONE: Duration = Duration::from_secs(60);",
        ],
        "an_endpoint_that_is_silent_holds_up_no_login_for_long",
    ),
    vault(
        "logins: a refusal that nobody confirms is held for long",
        "crates/session/src/state.rs",
        [
            "_ if refused && failed.unconfirmed => {",
            "_ if refused && failed.unconfirmed && failed.refusals > 9 => {",
        ],
        "a_refusal_that_no_other_endpoint_could_confirm_is_not_held_for_long",
    ),
    vault(
        "logins: a renewal that hangs holds up reads",
        "crates/session/src/session.rs",
        [
            "let own = |errand: &&Errand| errand.is_login && errand.endpoint == endpoint;",
            "let own = |errand: &&Errand| !errand.is_login || errand.endpoint == endpoint;",
        ],
        "a_renewal_that_hangs_holds_up_no_read",
    ),
    vault(
        "logins: a late refusal holds back after a success",
        "crates/session/src/state.rs",
        [
            "let overtaken = |live: &Live<C>| live.token.since > asked;",
            "let overtaken = |live: &Live<C>| live.token.since < asked && live.token.since > asked;",
        ],
        "a_read_whose_own_login_fails_takes_the_token_that_another_has_brought",
    ),
    vault(
        "verdicts: one endpoint's word is enough",
        "crates/session/src/verdict.rs",
        [
            "Some(Some((_, Ok(true)))) => return Ok(Answer::KnownElsewhere),",
            "Some(Some((_, Ok(true)))) => unknown = true,",
        ],
        "one_endpoint_that_knows_a_token_settles_it_however_many_do_not",
    ),
    vault(
        "verdicts: a given token dies for ever",
        "crates/session/src/state.rs",
        [
            "self.refused(given, &error::given_is_dead(), now);",
            "self.hold(given, &error::given_is_dead(), now + Self::UNFIT);",
        ],
        "a_given_token_that_is_called_dead_is_tried_again_and_again",
    ),
    vault(
        "verdicts: a lookup that is slow is the endpoint's outage",
        "crates/session/src/verdict.rs",
        [
            "return Err(error::no_verdict().held_back());",
            "return Err(error::no_verdict());",
        ],
        "a_verdict_goes_on_without_the_read_that_asked_for_it_and_is_shared",
    ),
    vault(
        "verdicts: a silent endpoint keeps a dead token in use",
        "crates/session/src/verdict.rs",
        [
            "const ALL: Duration = Duration::from_secs(2);",
            "const ALL: Duration = Duration::from_secs(2000);",
        ],
        "another_endpoint_that_is_silent_keeps_no_dead_token_in_use",
    ),
    vault(
        "verdicts: each read asks for itself when lookups fail",
        "crates/session/src/verdict.rs",
        [
            "if !inquiry.task.is_over(now) {",
            "if inquiry.task.is_over(now) && inquiry.at > u64::MAX - 1 {",
        ],
        "a_lookup_that_fails_is_one_for_all_reads_that_wait_for_it",
    ),
    vault(
        "verdicts: a role that may not look costs a login each second",
        "crates/session/src/verdict.rs",
        [
            "let mute = self.mute == Some(token.number) && token.has_worked();",
            "let mute = self.mute == Some(u64::MAX) && token.has_worked();",
        ],
        "a_role_that_loses_the_right_to_look_costs_a_few_logins_and_what_lives_is_counted",
    ),
    vault(
        "verdicts: the end of a given life is a refusal",
        "crates/session/src/state.rs",
        ["Some(_) if over.life.is_renewable() => {}\n", ""],
        "a_given_token_that_somebody_may_have_renewed_is_asked_about_when_its_life_is_over",
    ),
    vault(
        "verdicts: a lookup that hangs is asked of no other endpoint",
        "crates/session/src/verdict.rs",
        [
            "const ALONE: Duration = Duration::from_millis(500);",
            "const ALONE: Duration = Duration::from_secs(500);",
        ],
        "a_lookup_that_hangs_at_the_reads_endpoint_is_answered_by_another",
    ),
    vault(
        "leaving: a token that is given up lives on",
        "crates/session/src/state.rs",
        [
            "            left.suspected = true;\n            self.leaving.push(left);",
            "            left.suspected = true;\n            drop(left);",
        ],
        "a_token_of_ours_that_is_given_up_is_revoked",
    ),
    vault(
        "leaving: a token that is replaced lives on",
        "crates/session/src/state.rs",
        [
            "self.leaving.extend(before.and_then(|live| live.left(now)));",
            "drop(before);",
        ],
        "a_token_that_is_replaced_is_revoked_once_no_read_uses_it",
    ),
    vault(
        "leaving: a token is revoked under its reads",
        "crates/session/src/revocation.rs",
        [
            "first(left.unused(), self.clock.sleep_until(end)).await;",
            "let _ = end;",
        ],
        "a_token_that_is_replaced_is_revoked_once_no_read_uses_it",
    ),
    vault(
        "leaving: a token of limited use lives on",
        "crates/session/src/login.rs",
        [
            "if issues && revocable && !state.ended {",
            "if issues && !revocable && !state.ended {",
        ],
        "tokens_for_a_limited_number_of_uses_are_refused_and_given_back",
    ),
    vault(
        "leaving: what an outage has kept from its end is forgotten",
        "crates/session/src/revocation.rs",
        [
            "state.leaving.failed(&left, &error, can_look, now);",
            "let _ = (can_look, now);\n                    state.leaving.revoked(&left);",
        ],
        "what_could_not_be_revoked_is_tried_again_when_the_store_is_back",
    ),
    vault(
        "leaving: any answer to a revocation is final",
        "crates/session/src/leaving.rs",
        [
            "        kept.refusals += u32::from(!outage);\n",
            "        kept.refusals += u32::from(!outage);\n        if !outage {\n            self.remove(left);\n            return;\n        }\n",
        ],
        "a_revocation_that_is_answered_by_somebody_else_is_tried_again",
    ),
    vault(
        "leaving: the shutdown asks one endpoint",
        "crates/session/src/revocation.rs",
        [
            "        for endpoint in 0..number {\n            let now",
            "        for endpoint in 0..1 {\n            let now",
        ],
        "the_shutdown_revokes_at_any_endpoint_that_answers",
    ),
    vault(
        "leaving: an unfit token lives on after the shutdown",
        "crates/session/src/login.rs",
        ["true => Installed::Ended,", "true => Installed::Surplus,"],
        "an_unfit_token_that_comes_during_the_shutdown_is_revoked",
    ),
    vault(
        "leaving: a token whose renewal was not answered lives on",
        "crates/session/src/life.rs",
        [
            "let lease = self.grant.lease.filter(|_| self.may_be_longer);",
            "let lease = self.grant.lease.filter(|_| false);",
        ],
        "a_token_whose_renewal_was_not_answered_is_revoked_after_its_end",
    ),
    vault(
        "leaving: an unanswered revocation counts as living",
        "crates/session/src/leaving.rs",
        ["self.unanswered || self.suspected", "self.suspected"],
        "a_revocation_whose_answer_was_lost_counts_for_nothing",
    ),
    of(
        "secret-resolver-session",
        core(
            "leaving: a token called dead is forgotten after one refusal",
            "crates/session/src/leaving.rs",
            ["const BELIEVED: u32 = 4;", "const BELIEVED: u32 = 1;"],
            "what_may_be_gone_is_so_after_some_refusals_and_not_where_tokens_may_not_end_themselves",
        ),
    ),
    vault(
        "leaving: one endpoint's refusal ends the shutdown's search",
        "crates/session/src/revocation.rs",
        [
            "Some(Err(error)) => error,",
            "Some(Err(_)) => return Ending::Done(Some(false)),",
        ],
        "the_shutdown_revokes_at_any_endpoint_that_answers",
    ),
    vault(
        "leaving: the shutdown asks a store that is away once",
        "crates/session/src/revocation.rs",
        [
            "if passes && !(gone && refused && left.refusals >= Left::BELIEVED) {",
            "if passes && refused && left.refusals < Left::BELIEVED {",
        ],
        "a_shutdown_asks_again_until_the_store_is_back",
    ),
    vault(
        "leaving: the shutdown asks a store that is away without a pause",
        "crates/session/src/revocation.rs",
        [
            "const PAUSE: Duration = Duration::from_millis(250);",
            "const PAUSE: Duration = Duration::from_millis(1);",
        ],
        "a_shutdown_asks_a_store_that_is_away_in_moderation_and_ends_by_its_deadline",
    ),
    vault(
        "leaving: what will not be revoked is asked for until the deadline",
        "crates/session/src/error.rs",
        [
            "may_pass || is_outage(error)",
            "may_pass || !matches!(error.kind(), ErrorKind::Closed)",
        ],
        "a_shutdown_ends_at_once_where_the_store_will_not_revoke",
    ),
    vault(
        "leaving: a refusal beside an endpoint that is away ends a shutdown",
        "crates/session/src/revocation.rs",
        [
            "if passes && !(gone && refused && left.refusals >= Left::BELIEVED) {",
            "if passes && !(refused && left.refusals >= Left::BELIEVED) {",
        ],
        "a_refusal_beside_an_endpoint_that_is_away_ends_nothing_before_the_deadline",
    ),
    vault(
        "leaving: a token that an unanswered revocation of the shutdown ended counts as living",
        "crates/session/src/revocation.rs",
        [
            "left.unanswered |= away && !refused;",
            "left.unanswered |= away && refused && !refused;",
        ],
        "a_token_that_is_gone_when_the_store_is_back_counts_for_nothing",
    ),
    vault(
        "leaving: a token in use at the shutdown is revoked twice",
        "crates/session/src/revocation.rs",
        [
            "                if state.ended {\n                    // The shutdown does it.\n                    return Ok(());\n                }\n",
            "",
        ],
        "a_token_that_a_read_still_uses_at_the_shutdown_is_revoked_and_counted_once",
    ),
    vault(
        "logins: an endpoint that is silent is not waited for alone",
        "crates/session/src/login.rs",
        [
            "const ALONE: Duration = Duration::from_millis(500);",
            "const ALONE: Duration = Duration::from_millis(1);",
        ],
        "an_endpoint_that_is_silent_holds_up_no_login_for_long",
    ),
];
