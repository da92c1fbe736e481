//! What is broken in the other layers: `src/layers/`.

use super::{Mutant, core, of};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "1: the fallback is asked after any error",
        "src/layers/fallback.rs",
        [
            "if !ask_fallback(error.kind()) || !any_version {",
            "if !any_version {",
        ],
        "a_fallback_is_asked_only_in_an_outage_and_its_answer_is_marked",
    ),
    core(
        "1: a stop of this process is an outage of its store",
        "src/layers/attempt.rs",
        [
            "Err(error) if !fair && is_of_time(&error) => {}",
            "Err(error) if fair && !fair && is_of_time(&error) => {}",
        ],
        "a_stop_of_the_process_is_not_an_outage_of_its_store",
    ),
    core(
        "2: a get has no end",
        "src/layers/deadline.rs",
        [
            "        let until = self.moment(request.ends(clock));",
            "        let until = Moment::NEVER;",
        ],
        "no_get_outlives_its_deadline_when_the_backend_hangs",
    ),
    core(
        "2: a wait for a permit has no end",
        "src/layers/limit/mod.rs",
        [
            "let entered = in_time(limit, permit).await;",
            "let entered = { let _ = limit; Some(permit.await) };",
        ],
        "a_deadline_that_passes_in_the_queue_ends_the_wait_as_our_own_overload",
    ),
    core(
        "5: a conditional read keeps the version of a value that is gone",
        "src/resolver/request/owned.rs",
        [
            "Held::By(holder) => OwnedHeld::By(Arc::clone(holder)),",
            "Held::By(holder) => OwnedHeld::Version(holder.version().unwrap_or_default()),",
        ],
        "invalidated_values_and_tags_are_gone_from_memory_while_their_store_blocks",
    ),
    core(
        "10: a fallback's answer is not marked",
        "src/layers/fallback.rs",
        [
            "let answer = record.answer().marked(Freshness::Fallback);",
            "let answer = record.answer();",
        ],
        "a_fallback_is_asked_only_in_an_outage_and_its_answer_is_marked",
    ),
    core(
        "batches: what was fenced while the rest was fetched is answered",
        "src/layers/batch.rs",
        [
            "let fenced = || asked_in != fence && signalled(requests[at].name(), asked_in);",
            "let fenced = || asked_in > fence && signalled(requests[at].name(), asked_in);",
        ],
        "a_batch_answers_nothing_that_was_invalidated_while_it_waited",
    ),
    core(
        "limit: the queue has no bound",
        "src/layers/limit/mod.rs",
        [
            "(queued < most).then_some(queued + 1);",
            "(queued < most || queued < u32::MAX).then_some(queued + 1);",
        ],
        "a_full_queue_refuses_at_once_in_a_way_that_blames_no_store",
    ),
    core(
        "limit: a request that has waited too long is sent with no time left",
        "src/layers/limit/mod.rs",
        [
            "let latest = deadline.before(fair_time);",
            "let latest = deadline;",
        ],
        "a_request_that_waited_until_little_time_is_left_is_refused_before_the_store_is_asked",
    ),
    core(
        "limit: a permit that is taken late is used",
        "src/layers/limit/mod.rs",
        [
            "let entered = in_time(limit, permit).await;",
            "let entered = crate::race::race(async { Some(permit.await) }, async { limit.over().await; None }).await;",
        ],
        "a_permit_that_came_in_time_and_is_taken_late_is_given_back",
    ),
    core(
        "lanes: a prefix does not have its own guards",
        "src/layers/lanes.rs",
        [
            "self.lanes.get(request.name().path())",
            "self.lanes.get(\"\")",
        ],
        "names_below_a_prefix_wait_for_each_other_and_for_nobody_else",
    ),
    core(
        "lanes: a store is shut down and its lanes are not",
        "src/layers/lanes.rs",
        ["let _ = lane.shutdown(deadline).await;", "let _ = lane;"],
        "shutdown_ends_every_wait_on_every_lane_and_the_store_once",
    ),
    core(
        "scope: the path is not put before a name",
        "src/layers/scoped/mod.rs",
        ["format!(\"{}/{below}\", self.0)", "below.to_owned()"],
        "no_name_leaves_the_scope",
    ),
    core(
        "limit: behind a silent store there is an overload",
        "src/layers/limit/mod.rs",
        [
            "match answered < began && long_enough && !self.config.fair_time.is_zero() {",
            "match answered < began && long_enough && self.config.fair_time.is_zero() {",
        ],
        "waiters_behind_a_store_that_is_silent_see_an_outage_too",
    ),
    core(
        "limit: behind a store that answers there is an outage",
        "src/layers/limit/mod.rs",
        [
            "match answered < began && long_enough",
            "match answered != began && long_enough",
        ],
        "to_wait_for_our_own_permit_is_not_an_outage_of_a_store_that_answers",
    ),
    core(
        "own thread: the latest version is forgotten",
        "src/resolver/request/owned.rs",
        [
            "            latest: self.latest,",
            "            latest: false,",
        ],
        "the_store_is_asked_for_everything_that_the_request_asks_for",
    ),
    core(
        "limit: a stop of the process is an outage",
        "src/layers/limit/mod.rs",
        [
            "let lost = self.clock.lost().saturating_sub(lost);",
            "let lost = self.clock.lost().saturating_sub(self.clock.lost() + lost);",
        ],
        "a_stop_of_the_process_in_the_queue_is_not_an_outage",
    ),
    core(
        "routes: a name without a store shares its address with a store's",
        "src/layers/route/mod.rs",
        [
            "format!(\":{}\", name.path())",
            "format!(\"0:{}\", name.path())",
        ],
        "addresses_of_two_stores_never_meet_and_those_of_one_store_do",
    ),
    core(
        "2: a request lengthens its deadline",
        "src/layers/deadline.rs",
        ["|asked| asked.min(limit)", "|asked| asked"],
        "a_request_that_asks_for_a_later_deadline_waits_no_longer_where_signals_keep_it_waiting",
    ),
    core(
        "2: all stores share the permits of one",
        "src/stack/assemble.rs",
        [
            "Arc::new(route.otherwise(primary).build()?)",
            "Arc::new(Limit::new(route.otherwise(primary).build()?, Arc::clone(&clock), *limit.get(\"-\"))?)",
        ],
        "a_store_whose_permits_and_queue_are_full_of_what_hangs_holds_up_no_other_store",
    ),
    core(
        "limit: four times as many wait",
        "src/layers/limit/mod.rs",
        ["max_queued: 16_384,", "max_queued: 65_536,"],
        "by_default_sixteen_thousand_wait_and_one_more_is_refused",
    ),
    core(
        "panics: that of a method which is not async goes to its caller",
        "src/layers/own_thread.rs",
        [
            "foreign(|| self.inner.locate(name)).unwrap_or_else(|| Located::lost(name))",
            "self.inner.locate(name)",
        ],
        "a_panic_in_any_method_of_a_backend_is_an_error_of_that_call_alone",
    ),
    core(
        "panics: a signal whose place is not known drops nothing",
        "src/layers/cache/invalidation.rs",
        ["true => self.invalidate_all(),", "true => 0,"],
        "a_panic_in_any_method_of_a_backend_is_an_error_of_that_call_alone",
    ),
    of(
        "secret-resolver-env",
        core(
            "scope: a name is read that means what others mean",
            "src/layers/scoped/mod.rs",
            [
                "match inside || address.is_lost() {",
                "match inside || address.is_lost() || !inside {",
            ],
            "a_scope_reads_listed_names_and_nothing_that_another_name_means_too",
        ),
    ),
];
