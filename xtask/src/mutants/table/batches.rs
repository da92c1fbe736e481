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
        "conjur: a name that spoiled a batch is not asked alone",
        "backends/conjur/src/batch.rs",
        [
            "            self.bad.note(&id, self.clock.now());\n",
            "            self.bad.note(\"\", self.clock.now());\n            return Err(error::malformed(\"\"));\n",
        ],
        "one_denied_among_two_hundred_costs_ten_requests_and_fails_alone",
    ),
    conjur(
        "conjur: the administrator logs in",
        "backends/conjur/src/auth.rs",
        [
            "self.login.as_deref() == Some(\"admin\") && !allow_admin",
            "self.login.as_deref() == Some(\"admin\") && !allow_admin && has_certificate",
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
        ["claims.exp?.checked_sub(claims.iat?)", "claims.exp"],
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
];
