//! What is broken in the verdict on a refused read: `crates/session/src/verdict.rs`.

use super::{Mutant, core, of};

pub(super) const MUTANTS: &[Mutant] = &[
    of(
        "secret-resolver-session",
        core(
            "verdicts: that an old token lives is believed about a new one",
            "crates/session/src/verdict.rs",
            [
                ".is_some_and(|(number, at)| number == token.number && at > sent);",
                ".is_some_and(|(_, at)| at > sent);",
            ],
            "an_old_tokens_life_proves_nothing_about_a_new_one",
        ),
    ),
    of(
        "secret-resolver-session",
        core(
            "verdicts: a question about an old token is waited for",
            "crates/session/src/verdict.rs",
            ["            && inquiry.number == token.number\n", ""],
            "a_question_about_an_old_token_is_not_an_answer_about_a_new_one",
        ),
    ),
    of(
        "secret-resolver-session",
        core(
            "verdicts: a token that was replaced is taken for the dead one",
            "crates/session/src/verdict.rs",
            [
                "known.dead.is_some_and(|(number, _)| number == token.number)",
                "known.dead.is_some()",
            ],
            "an_old_tokens_life_proves_nothing_about_a_new_one",
        ),
    ),
];
