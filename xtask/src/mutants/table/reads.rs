//! What is broken in reads that are not a plain `get`: batches, exact versions, refreshes.

use super::{Mutant, core};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "bounds: a read of an exact version keeps its place for ever",
        "src/layers/cache/exact.rs",
        [
            "            drop(place);\n",
            "            std::mem::forget(place);\n",
        ],
        "an_exact_version_gives_its_place_back_whatever_was_answered",
    ),
    core(
        "batches: a stale value is asked for without end",
        "src/layers/batch.rs",
        [
            "!stale && answer.expires_at()",
            "(stale || !stale) && answer.expires_at()",
        ],
        "a_batch_answers_a_stale_value_that_the_policy_allows_and_asks_for_it_once",
    ),
    core(
        "refresh: one that finds no place is the last",
        "src/layers/cache/slot.rs",
        [
            "let again = (now + Self::REFRESH_AGAIN).nanos();",
            "let again = Moment::NEVER.nanos();",
        ],
        "a_refresh_that_finds_no_place_is_asked_for_again_by_a_read_a_second_later",
    ),
];
