//! What is broken in the choice of endpoints: breakers and retries, `src/layers/breaker/` and `src/layers/retry/`.

use super::{Mutant, core, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "breaker: it never opens",
        "src/layers/breaker/endpoint.rs",
        [
            "let enough = self.failures >= config.failures;",
            "let enough = self.failures == u32::MAX;",
        ],
        "five_failures_in_a_row_open_it_and_four_do_not",
    ),
    core(
        "breaker: a store that is away as a whole is found late",
        "src/layers/breaker/endpoint.rs",
        [
            "BreakerState::Open { until } if alone && self",
            "BreakerState::Open { until } if !alone && self",
        ],
        "while_no_endpoint_answers_each_is_tried_once_a_second",
    ),
    core(
        "breaker: a store may close itself for ever",
        "src/layers/breaker/endpoint.rs",
        [
            "asked.clamp(config.first_open, Self::LONGEST_PAUSE)",
            "asked.max(config.first_open)",
        ],
        "a_store_is_left_alone_for_a_minute_at_most_and_for_a_first_opening_at_least",
    ),
    core(
        "breaker: a store that waits for us cuts its own wish short",
        "src/layers/breaker/endpoint.rs",
        [
            "*until = now.min(*until).max(self.pause);",
            "*until = now.min(*until);",
        ],
        "a_store_that_asks_to_be_left_alone_is_so_from_the_first_answer_on_for_all",
    ),
    core(
        "breaker: a known name breaks into a store's wish",
        "src/layers/breaker/endpoint.rs",
        [
            "if now < self.known_from.max(self.pause) {",
            "if now < self.known_from {",
        ],
        "a_store_that_asks_to_be_left_alone_is_so_from_the_first_answer_on_for_all",
    ),
    core(
        "breaker: one broken record closes its store",
        "src/layers/breaker/endpoint.rs",
        [
            "!self.useless.contains(&name)",
            "self.useless.len() < usize::MAX",
        ],
        "one_broken_record_closes_the_store_for_no_other_name",
    ),
    core(
        "breaker: a store that answers nothing useful is never left alone",
        "src/layers/breaker/endpoint.rs",
        ["enough || self.useless.len() >= most", "enough"],
        "twenty_names_in_a_row_that_get_nothing_useful_open_it",
    ),
    core(
        "breaker: an attempt from before the last answer counts",
        "src/layers/breaker/endpoint.rs",
        [
            "closed && admission.began < self.last_alive =>",
            "closed && admission.began > now =>",
        ],
        "a_failure_of_an_attempt_that_began_before_an_answer_does_not_count",
    ),
    core(
        "breaker: its own refusal counts",
        "src/layers/breaker/endpoint.rs",
        [
            "_ if error.is_held_back() => Self::Nothing,",
            "_ if error.is_held_back() && error.status().is_some() => Self::Nothing,",
        ],
        "an_outer_breaker_does_not_count_the_refusals_of_an_inner_one",
    ),
    core(
        "breaker: a known name does not have its own place",
        "src/layers/breaker/turns.rs",
        [
            "if admitted.is_none() && is_known {",
            "if admitted.is_none() && is_known && name == 0 {",
        ],
        "a_name_that_was_answered_before_tries_beside_the_trial_of_another",
    ),
    core(
        "breaker: a few names with useless answers close a store",
        "src/layers/breaker/endpoint.rs",
        ["const USELESS: usize = 4;", "const USELESS: usize = 1;"],
        "a_few_names_with_useless_answers_close_a_healthy_store_for_no_other",
    ),
    core(
        "breaker: a service of some thousand names is not known",
        "src/layers/breaker/known.rs",
        ["const SETS: usize = 4_096;", "const SETS: usize = 256;"],
        "a_service_of_three_thousand_names_keeps_them_known",
    ),
    core(
        "breaker: what is shown of it waits for its lock",
        "src/layers/breaker/turns.rs",
        [
            "self.state.try_lock().ok().map(|state| state.status())",
            "Some(self.status())",
        ],
        "what_is_shown_of_a_breaker_waits_for_no_lock",
    ),
    core(
        "retry: no budget",
        "src/layers/retry/budget.rs",
        ["held.checked_sub(Self::ONE)", "Some(held)"],
        "a_thousand_failing_requests_are_not_a_storm",
    ),
    core(
        "retry: our own overload hides an outage",
        "src/layers/retry/mod.rs",
        [
            "Some(before) if error.is_our_own_overload() => before,",
            "Some(before) if error.kind() == ErrorKind::Closed => before,",
        ],
        "our_own_overload_hides_no_outage_that_an_attempt_has_shown",
    ),
    vault(
        "retry: a useless endpoint fails a get",
        "src/layers/retry/mod.rs",
        [
            "let kinds = [Unavailable, Timeout, Throttled, Malformed, Refused];",
            "let kinds = [Unavailable, Timeout, Throttled, Refused];\n    let _ = Malformed;",
        ],
        "an_endpoint_that_gives_no_useful_answer_fails_no_get",
    ),
    vault(
        "retry: an outage of one endpoint is the store's",
        "src/layers/retry/tour.rs",
        [
            "Some(before) if !is_outage(&before) || is_outage(&error) => Some(before),",
            "Some(before) if !is_outage(&before) && is_outage(&before) => Some(before),",
        ],
        "where_no_endpoint_gives_a_useful_answer_no_exception_follows",
    ),
    core(
        "retry: a store's wish is waited for although another endpoint is idle",
        "src/layers/retry/mod.rs",
        [
            "let kinds = [Unavailable, Timeout, Throttled, Malformed, Refused];",
            "let kinds = [Unavailable, Timeout, Timeout, Malformed, Refused]; let _ = Throttled;",
        ],
        "an_endpoint_that_asks_to_be_left_alone_is_not_waited_for_where_there_is_another",
    ),
    core(
        "retry: a breaker's refusal is retried",
        "src/layers/retry/mod.rs",
        [
            "None if patient && failed.error.is_held_back() => failed.error.retry_after()?,",
            "None if failed.error.is_held_back() => failed.error.retry_after()?,",
        ],
        "a_breakers_refusal_is_answered_at_once",
    ),
    core(
        "endpoints: all take turns, although the first is preferred",
        "src/layers/breaker/turns.rs",
        [
            "None if self.spreads => state.by_turns(),",
            "None if self.spreads || number > 1 => state.by_turns(),",
        ],
        "the_first_endpoint_that_answers_is_asked_and_the_others_stand_by",
    ),
    core(
        "endpoints: one that is slow gets as many as the others",
        "src/layers/breaker/turns.rs",
        [
            "order.sort_by_key(|&at| busy(&self.endpoints, at) + busy(&self.latest, at));",
            "order.sort_by_key(|&at| busy(&self.endpoints, at).min(busy(&self.latest, at)));",
        ],
        "where_requests_are_spread_a_slow_endpoint_gets_fewer",
    ),
    core(
        "endpoints: nobody waits for a trial",
        "src/layers/breaker/endpoint.rs",
        [
            "BreakerState::HalfOpen { trial: Some(since) } => Some(since + Self::TRIAL),",
            "BreakerState::HalfOpen { trial: Some(since) } => Some(since),",
        ],
        "others_wait_for_the_trial_and_get_what_it_shows",
    ),
    core(
        "endpoints: a wait for a trial passes the deadline",
        "src/layers/breaker/turns.rs",
        [
            "clock.now() < *until && *until < end",
            "clock.now() < *until",
        ],
        "others_wait_for_a_trial_half_a_second_and_never_past_their_own_deadline",
    ),
    core(
        "endpoints: one that fails the latest version fails all",
        "src/layers/breaker/turns.rs",
        [
            "let latest = request.wants_latest();",
            "let latest = false;",
        ],
        "an_endpoint_that_cannot_reach_its_leader_is_passed_over_for_that_alone",
    ),
    core(
        "endpoints: a wish to be left alone holds for some",
        "src/layers/breaker/turns.rs",
        ["state.share_pause(endpoint, now, &self.config);", ""],
        "a_store_that_wants_to_be_left_alone_is_so_by_all",
    ),
    core(
        "endpoints: a silent one has the whole attempt",
        "src/layers/attempt.rs",
        [
            "            true => self.limit / 2,\n",
            "            true => self.limit,\n",
        ],
        "where_another_endpoint_would_be_asked_next_an_attempt_has_half_of_the_time",
    ),
    core(
        "endpoints: an attempt does not know that another is asked next",
        "src/layers/breaker/turns.rs",
        [
            "Ok(attempt.of(latest, other))",
            "Ok(attempt.of(latest, other && number == 0))",
        ],
        "an_attempt_knows_whether_another_endpoint_would_be_asked_next",
    ),
    core(
        "endpoints: a quota that is used up is not a reason",
        "src/layers/breaker/endpoint.rs",
        [
            "self.throttled.len() >= Self::most_useless(config)",
            "self.throttled.len() > 2 * Self::most_useless(config)",
        ],
        "a_quota_that_is_used_up_again_and_again_leaves_the_store_alone_whatever_others_get",
    ),
    core(
        "endpoints: the latest version is given up early",
        "src/layers/retry/mod.rs",
        [
            "2.. if patient => u32::MAX,",
            "2.. if patient => self.config.max_attempts,",
        ],
        "the_latest_version_is_asked_for_until_the_deadline",
    ),
    core(
        "endpoints: the latest version does not wait for a breaker",
        "src/layers/retry/mod.rs",
        [
            "None if patient && failed.error.is_held_back() => failed.error.retry_after()?,",
            "None if patient && attempt == 0 => failed.error.retry_after()?,",
        ],
        "the_latest_version_is_waited_for_where_the_breaker_leaves_the_store_alone",
    ),
    core(
        "endpoints: nonsense of one is an outage beside that of another",
        "src/layers/retry/tour.rs",
        [
            "let keeps = !is_outage(&before) || is_outage(&error) || error.is_our_own_overload();",
            "let keeps = !is_outage(&before) || error.is_held_back();",
        ],
        "nonsense_of_one_endpoint_and_an_outage_of_the_other_is_never_an_outage",
    ),
    core(
        "endpoints: a quota of all is not waited for",
        "src/layers/retry/tour.rs",
        [
            "Some(asked.unwrap_or(Self::THROTTLED))",
            "Some(asked.unwrap_or_default().min(Self::THROTTLED))",
        ],
        "a_quota_of_a_cluster_that_names_no_delay_is_not_stormed",
    ),
    core(
        "endpoints: nonsense of one hides the lost answer of another",
        "src/layers/retry/tour.rs",
        [
            "self.soonest = [self.soonest, wait].into_iter().flatten().min();",
            "self.soonest = [self.soonest, wait].into_iter().flatten().max();",
        ],
        "a_lost_answer_is_asked_for_again_sooner_than_another_endpoint_wants",
    ),
    core(
        "status: an endpoint that refuses every read keeps none out",
        "src/layers/breaker/endpoint.rs",
        [
            "if failure.kind.is_of_access() && !latest {",
            "if latest && !latest {",
        ],
        "a_store_whose_reads_are_kept_out_is_not_ready_until_one_is_answered",
    ),
    core(
        "status: an error stands where it was not given",
        "src/layers/breaker/turns.rs",
        [
            "self.named_by(error).or(asked)",
            "self.named_by(error).and(asked).or(asked)",
        ],
        "an_error_is_booked_to_the_endpoint_that_gave_it_or_to_none",
    ),
];
