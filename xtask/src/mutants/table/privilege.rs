//! What is broken in the look at the rights of a store's identity.

use super::{Mutant, conjur, core, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "privilege: more rights than needed are refused for the root alone",
        "src/stack/privilege.rs",
        [
            "Ok(Some(found)) if privilege.refuses => {",
            "Ok(Some(found)) if privilege.refuses && found.root => {",
        ],
        "a_start_with_more_rights_than_it_needs_is_refused_where_that_is_wanted",
    ),
    core(
        "privilege: a store that cannot be asked has given no rights",
        "src/stack/privilege.rs",
        [
            "Err(error) if privilege.refuses => return Err(error),",
            "Err(error) if privilege.refuses && error.is_held_back() => return Err(error),",
        ],
        "what_cannot_be_asked_is_an_error_only_where_it_matters",
    ),
    core(
        "privilege: only new names are asked about",
        "src/stack/privilege.rs",
        [
            "let mut all = declared.names.clone();",
            "let mut all = BTreeSet::new();",
        ],
        "a_store_is_asked_once_for_all_that_was_declared_so_far",
    ),
    core(
        "privilege: a store's positions are those of all names",
        "src/layers/route/mod.rs",
        [
            "Excess::Write(own) => positions.get(own).copied().map(Excess::Write),",
            "Excess::Write(own) => Some(Excess::Write(own)),",
        ],
        "each_store_is_asked_about_its_own_names_and_only_about_these",
    ),
    core(
        "privilege: a scope is shown where the secrets are",
        "src/stack/mod.rs",
        ["Some(_) => error.without_detail(),", "Some(_) => error,"],
        "a_scope_is_not_shown_where_the_secrets_are",
    ),
    conjur(
        "privilege: an endpoint without the paths gives no rights",
        "backends/conjur/src/privilege.rs",
        [
            "200 => wire::count(reply.body()).map(Read::Done),",
            "200 => wire::count(reply.body()).map(Read::Done),\n            404 => Ok(Read::Done(0)),",
        ],
        "an_endpoint_that_does_not_say_it_is_no_proof_of_few_rights",
    ),
    vault(
        "privilege: neighbours count at the first level alone",
        "backends/vault/src/privilege.rs",
        ["for at in 0..segments.len() {", "for at in 0..1 {"],
        "every_form_of_a_right_on_other_secrets_is_found",
    ),
    vault(
        "privilege: to undelete a version changes nothing",
        "backends/vault/src/privilege.rs",
        [
            "[\"data\", \"metadata\", \"delete\", \"undelete\", \"destroy\"]",
            "[\"data\", \"metadata\", \"delete\", \"destroy\"]",
        ],
        "every_way_to_change_a_declared_secret_is_found",
    ),
];
