//! What is broken in the backends: `backends/`.

use super::{Mutant, core, of, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    of(
        "secret-resolver-env",
        core(
            "9: any variable can be read",
            "backends/env/src/config.rs",
            [
                "if prefix.is_none() && names.is_empty() && aliases.is_empty() {",
                "if prefix.is_none() && !names.is_empty() && names.is_empty() {",
            ],
            "without_a_prefix_or_names_it_is_not_built",
        ),
    ),
    vault(
        "settings: a prefix may have a star",
        "backends/vault/src/path.rs",
        [
            "    if text.contains('*') {\n",
            "    if text.contains('*') && text.is_empty() {\n",
        ],
        "a_setting_that_leaves_no_way_to_read_is_refused_when_the_backend_is_built",
    ),
    vault(
        "verdicts: a proxy's page is a refusal",
        "backends/vault/src/answers.rs",
        ["403 => body() != Body::Foreign,", "403 => true,"],
        "a_proxys_403_ends_no_token_and_is_not_a_denial",
    ),
    vault(
        "leaving: a batch token is asked to end",
        "backends/vault/src/auth/store.rs",
        ["revocable: !login.is_batch,", "revocable: true,"],
        "a_batch_token_is_not_asked_to_end_and_is_not_a_failure",
    ),
    vault(
        "answers: a server that wants the request again is not asked again",
        "backends/vault/src/answers.rs",
        [
            "(408, _, _) => (\n            Unavailable,",
            "(408, _, _) => (\n            Malformed,",
        ],
        "what_passes_is_tried_again_within_a_get",
    ),
    vault(
        "answers: an upgrade of the store is for ever",
        "backends/vault/src/answers.rs",
        [
            "\"from non-versioned to versioned data\"",
            "\"from version 1 to version 2\"",
        ],
        "what_passes_is_tried_again_within_a_get",
    ),
    vault(
        "answers: any page counts as a word about a secret",
        "backends/vault/src/answers.rs",
        ["(_, Body::Foreign, _) => (", "(600, Body::Foreign, _) => ("],
        "only_the_stores_own_form_speaks_of_a_secret_a_token_or_a_credential",
    ),
    vault(
        "endpoints: one that redirects is asked first for ever",
        "crates/transport/src/endpoints.rs",
        [
            "if directed.is_some() {",
            "if directed.is_some() && self.origins.is_empty() {",
        ],
        "an_endpoint_that_redirects_is_passed_over_after_a_few_reads",
    ),
    vault(
        "endpoints: a standby that redirects is not its own outage",
        "backends/vault/src/error.rs",
        [
            "if error.status() != Some(307) {",
            "if error.status() != Some(399) {",
        ],
        "a_directed_read_that_meets_a_redirect_is_that_endpoints_error",
    ),
    vault(
        "leader: a signal does not reach it",
        "backends/vault/src/resolver.rs",
        [
            "of_leader: self.of_leader || request.wants_latest(),",
            "of_leader: self.of_leader,",
        ],
        "after_a_signal_a_secret_is_read_at_the_leader_until_it_has_settled",
    ),
    vault(
        "leader: it is asked only after a signal",
        "backends/vault/src/resolver.rs",
        [
            "of_leader: self.of_leader || request.wants_latest(),",
            "of_leader: request.wants_latest(),",
        ],
        "every_read_is_the_leaders_where_that_was_chosen",
    ),
    vault(
        "leader: an index of any length is read",
        "backends/vault/src/leader.rs",
        [
            "const LONGEST: usize = 1 << 10;",
            "const LONGEST: usize = 1 << 20;",
        ],
        "an_index_of_another_form_is_not_sent_back_and_breaks_nothing",
    ),
    vault(
        "answers: a proxy's page is a sealed store",
        "backends/vault/src/answers.rs",
        [
            "_ if says(SEALED) => Self::Sealed,",
            "_ if says(SEALED) || says(\"\") => Self::Sealed,",
        ],
        "a_503_says_what_is_to_be_done",
    ),
    vault(
        "records: a field that stands twice, once as null, is taken",
        "backends/vault/src/wire.rs",
        [
            "if keys.windows(2).any(|pair| pair[0] == pair[1])",
            "if keys.windows(2).all(|pair| pair[0] == pair[1]) && keys.is_empty()",
        ],
        "other_shapes_are_malformed",
    ),
    vault(
        "records: an array is taken for an object",
        "crates/json/src/object.rs",
        [
            "deserializer.deserialize_map(AsStruct(PhantomData))",
            "T::deserialize(deserializer).map(Object)",
        ],
        "an_array_is_not_accepted_where_an_object_belongs",
    ),
    vault(
        "answers: metadata without the number of a version counts as a word about a secret",
        "backends/vault/src/answers.rs",
        ["    _version: u64,", "    _version: serde::de::IgnoredAny,"],
        "they_hold_for_the_seeds_of_statuses",
    ),
    vault(
        "paths: an escape is sent as it is",
        "crates/transport/src/encode.rs",
        ["b\"-._~\".contains(&byte)", "b\"-._~%\".contains(&byte)"],
        "they_hold_for_the_seeds_of_paths",
    ),
    of(
        "secret-resolver-env",
        core(
            "env: with a prefix, names that were not listed are answered",
            "backends/env/src/config.rs",
            [
                "let rule = prefix.filter(|_| names.is_empty());",
                "let rule = prefix;",
            ],
            "with_a_prefix_and_names_only_those_are_answered_and_behind_the_prefix",
        ),
    ),
    of(
        "secret-resolver-env",
        core(
            "env: a listed name is read without the prefix",
            "backends/env/src/config.rs",
            [
                "variable::variable(prefix.as_deref(), name.borrowed())",
                "variable::variable(None, name.borrowed())",
            ],
            "with_a_prefix_and_names_only_those_are_answered_and_behind_the_prefix",
        ),
    ),
];
