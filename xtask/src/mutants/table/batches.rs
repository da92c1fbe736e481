//! What is broken in reads of many names in one request: the layer that puts them together, and Conjur's batches and logins.

use super::{Mutant, conjur, core};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "gather: each name goes alone",
        "src/layers/gather.rs",
        [
            "if state.under_way == 0 {",
            "if state.under_way < usize::MAX {",
        ],
        "the_first_read_goes_at_once_and_those_that_come_meanwhile_go_together_next",
    ),
    core(
        "gather: a slow read holds up others without an end",
        "src/layers/gather.rs",
        ["                under_way.end();\n", ""],
        "a_read_that_hangs_holds_up_the_others_for_a_quarter_of_a_second",
    ),
    core(
        "gather: a request has more names than there is room for",
        "src/layers/gather.rs",
        [
            "if waiting.share > room {",
            "if waiting.share > room && room == 0 {",
        ],
        "no_request_has_more_names_than_the_store_reads_at_once",
    ),
    core(
        "gather: the error of the name that leads is that of all",
        "src/layers/gather.rs",
        [
            "(None, Err(error)) if !error.kind().is_of_the_secret() => {",
            "(None, Err(error)) => {",
        ],
        "a_name_that_the_backend_leaves_out_is_asked_alone",
    ),
    core(
        "gather: an answer of a batch is of any version",
        "src/layers/gather.rs",
        [
            "return answer.and_then(|record| request.admit(record));",
            "return answer;",
        ],
        "an_answer_of_a_batch_is_as_old_as_its_request_and_is_a_version_that_was_accepted",
    ),
    conjur(
        "conjur: an id may stand twice in the answer to a batch",
        "backends/conjur/src/wire.rs",
        [
            "Some(empty @ None) => *empty = Some(value),",
            "Some(empty) => *empty = Some(value),",
        ],
        "a_batch_with_other_ids_is_believed_for_none",
    ),
    conjur(
        "conjur: base64 goes on after its end",
        "backends/conjur/src/wire.rs",
        ["ended = written < out.len();", "ended = false;"],
        "base64_is_decoded_exactly_or_not_at_all",
    ),
    conjur(
        "conjur: a token is sent with its line breaks",
        "backends/conjur/src/wire.rs",
        [
            "for piece in base64.split(u8::is_ascii_whitespace) {",
            "for piece in [base64] {",
        ],
        "they_hold_for_the_seeds_of_tokens_batches_and_metadata",
    ),
    conjur(
        "conjur: another program's page denies",
        "backends/conjur/src/answers.rs",
        [
            "        _ if !is_own => (",
            "        _ if !is_own && status == 999 => (",
        ],
        "a_page_of_another_program_speaks_of_no_secret_and_no_token",
    ),
    conjur(
        "conjur: a name that spoiled a batch goes with others again",
        "backends/conjur/src/batch.rs",
        [
            "        bad.insert(Box::from(id), now + APART);\n",
            "        let _ = (id, now + APART);\n",
        ],
        "one_denied_among_two_hundred_costs_ten_requests_and_fails_alone",
    ),
    conjur(
        "conjur: the administrator logs in",
        "backends/conjur/src/auth.rs",
        [
            "if user == Some(\"admin\") && !allow_admin {",
            "if user == Some(\"admin\") && !allow_admin && has_certificate {",
        ],
        "what_is_wrong_with_a_target_is_said_when_it_is_built",
    ),
    conjur(
        "conjur: a JWT is tried again as often as it is refused",
        "backends/conjur/src/auth.rs",
        [
            "if !refused.may_be_early || !self.is_new(jwt) {",
            "if !refused.may_be_early && self.is_new(jwt) {",
        ],
        "a_jwt_that_is_refused_twice_is_an_error_and_an_expired_one_is_not_tried_again",
    ),
    conjur(
        "conjur: a token lives by its end alone",
        "backends/conjur/src/wire.rs",
        ["exp.checked_sub(iat)", "Some(exp.max(iat))"],
        "a_tokens_life_is_its_own_or_eight_minutes",
    ),
    conjur(
        "conjur: a refresh is a whole read",
        "backends/conjur/src/client.rs",
        [
            "Some(mark) => get(path, token)?.with_secret_header(\"If-None-Match\", mark),",
            "Some(_) => get(path, token),",
        ],
        "a_refresh_is_conditional_and_carries_no_value_unless_it_has_changed",
    ),
    conjur(
        "conjur: an answer that is too large is the error of all its names",
        "backends/conjur/src/batch.rs",
        [
            "matches!(error.status(), Some(200 | 207))",
            "matches!(error.status(), Some(200))",
        ],
        "large_values_and_a_bad_name_of_the_service_come_in_more_answers",
    ),
    conjur(
        "conjur: an id may stand twice in the answer of the service",
        "backends/conjur/src/wire.rs",
        [
            "Some(empty @ None) => *empty = Some(each),",
            "Some(empty) => *empty = Some(each),",
        ],
        "a_service_that_answers_other_ids_is_believed_for_none",
    ),
    conjur(
        "conjur: a record is believed after one look",
        "backends/conjur/src/moment.rs",
        [
            "if before != after {",
            "if before != after && before.is_empty() {",
        ],
        "a_record_that_is_written_while_it_is_read_is_read_again",
    ),
    conjur(
        "conjur: a signal for a variable does not concern its record",
        "backends/conjur/src/names.rs",
        [
            "std::iter::once(own).chain(record).collect()",
            "std::iter::once(own).chain(record.filter(|_| false)).collect()",
        ],
        "a_signal_for_one_variable_concerns_its_record",
    ),
    conjur(
        "conjur: a version is read at another endpoint than its number",
        "backends/conjur/src/resolver.rs",
        [
            "        let request = request.at_endpoint(endpoint);\n",
            "        let _ = endpoint;\n",
        ],
        "a_version_and_its_value_are_read_at_one_endpoint",
    ),
    conjur(
        "conjur: a follower that takes no logins stays in use",
        "backends/conjur/src/client.rs",
        ["if reply.status() == 405 {", "if reply.status() == 999 {"],
        "an_endpoint_that_does_not_take_a_request_is_passed_over",
    ),
    conjur(
        "conjur: a sidecar's token that is still the same is called dead",
        "backends/conjur/src/sidecar.rs",
        ["renewable: true,", "renewable: false,"],
        "a_token_that_is_the_same_after_a_quiet_while_is_used_on",
    ),
    conjur(
        "conjur: the life of a sidecar's token begins at each look",
        "backends/conjur/src/sidecar.rs",
        [
            "is_none_or(|seen| seen.text != text)",
            "is_none_or(|_| true)",
        ],
        "a_token_whose_life_is_over_is_not_sent_until_the_sidecar_writes_another",
    ),
    conjur(
        "conjur: another program's page is a value",
        "backends/conjur/src/resolver.rs",
        ["200 if answers::is_value(&reply) => {", "200 => {"],
        "where_no_endpoint_of_conjur_gives_a_useful_answer_no_exception_follows",
    ),
    conjur(
        "conjur: another program's page knows a token",
        "backends/conjur/src/auth.rs",
        [
            "200 if wire::is_identity(reply.body()) => Ok(true),",
            "200 => Ok(true),",
        ],
        "one_endpoint_of_five_that_is_well_is_found_and_fails_no_get_of_conjur",
    ),
    conjur(
        "conjur: a database that is away is a wrong setting",
        "backends/conjur/src/answers.rs",
        [
            "(500, _) => (Unavailable, \"the store failed; is its database there?\"),",
            "(500, _) => (Misconfigured, \"the store failed; is its database there?\"),",
        ],
        "a_database_that_is_away_for_a_while_is_an_outage_and_nothing_else",
    ),
    conjur(
        "conjur: a proxy's page refuses a token",
        "backends/conjur/src/answers.rs",
        [
            "reply.status() == 401 && is_conjurs_own(reply.body())",
            "reply.status() == 401",
        ],
        "a_proxys_401_and_403_end_no_token_of_conjur_and_are_no_denials",
    ),
    conjur(
        "conjur: what passes at a proxy is nonsense",
        "backends/conjur/src/answers.rs",
        ["(408 | 421 | 501..=599, _) => (", "(501..=599, _) => ("],
        "what_passes_at_conjur_is_tried_again_within_a_get",
    ),
    conjur(
        "conjur: an empty answer is a value",
        "backends/conjur/src/resolver.rs",
        [
            "0 => Err(error::malformed(",
            "usize::MAX => Err(error::malformed(",
        ],
        "a_huge_or_empty_answer_to_a_read_is_no_value",
    ),
    conjur(
        "conjur: tokens are to be revoked",
        "backends/conjur/src/auth.rs",
        ["revocable: false,", "revocable: true,"],
        "a_shutdown_ends_reads_of_conjur_that_are_under_way_and_sends_nothing",
    ),
    conjur(
        "conjur: a renewed client certificate makes no login",
        "backends/conjur/src/auth.rs",
        [
            "Method::Certificate { .. } => self.client.endpoints().client().certificate(),",
            "Method::Certificate { .. } => 0,",
        ],
        "a_certificate_of_conjur_that_is_renewed_logs_in_again_and_the_old_one_is_shown_no_more",
    ),
    conjur(
        "conjur: a token outlasts its JWT",
        "backends/conjur/src/auth.rs",
        ["Secret::Jwt(jwt) => jwt.ends(),", "Secret::Jwt(_) => None,"],
        "a_token_of_conjur_is_replaced_before_the_end_of_the_jwt_that_it_was_given_for",
    ),
    conjur(
        "conjur: a dynamic secret lives as long as any other",
        "backends/conjur/src/resolver.rs",
        [
            "if id.starts_with(DYNAMIC) {\n            record",
            "if id.starts_with(\"/\") {\n            record",
        ],
        "a_dynamic_secret_is_used_for_no_longer_than_it_says_and_for_a_moment_where_it_says_nothing",
    ),
    conjur(
        "conjur: the error of the name that leads is that of the others",
        "backends/conjur/src/batch.rs",
        [
            "None => Err(batch.leave_out()),",
            "None => self.read_one(token, request, id, None).await,",
        ],
        "the_error_of_the_name_that_leads_is_no_other_names",
    ),
    conjur(
        "conjur: at a slow store spoilers are looked for one after the other",
        "backends/conjur/src/batch.rs",
        [
            "const SEARCH_TIME: Duration = Duration::from_millis(600);",
            "const SEARCH_TIME: Duration = Duration::from_secs(60);",
        ],
        "a_slow_store_with_a_few_bad_names_answers_all_others",
    ),
    conjur(
        "conjur: the administrator's token is taken from a file",
        "backends/conjur/src/auth.rs",
        [
            "let unfit = self.unfit(token.of_admin());",
            "let unfit = self.unfit(false);",
        ],
        "the_administrator_reads_nothing_by_whichever_spelling_or_token_unless_it_is_allowed",
    ),
];
