//! What is broken in the core, except its layers: `src/`.

use super::{Mutant, core, vault};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "1: a stale value is served without a policy for it",
        "src/policy.rs",
        [
            "stale_up_to.is_some_and(|limit| by < limit)",
            "stale_up_to.is_none_or(|limit| by < limit)",
        ],
        "without_a_policy_nothing_that_has_expired_is_served",
    ),
    core(
        "1: our own overload looks like an outage",
        "src/error.rs",
        [
            "            Self::Unavailable | Self::Timeout => (Repeat::Yes, true, true, true),\n            Self::Throttled => (Repeat::AfterDelay, false, true, false),\n            Self::Overloaded\n            | Self::NotFound",
            "            Self::Unavailable | Self::Timeout | Self::Overloaded => (Repeat::Yes, true, true, true),\n            Self::Throttled => (Repeat::AfterDelay, false, true, false),\n            Self::NotFound",
        ],
        "a_flood_of_cold_names_on_a_healthy_store_asks_no_fallback_and_opens_no_breaker",
    ),
    core(
        "1: an answer past its time is taken",
        "src/in_time.rs",
        ["(!limit.is_over()).then_some(answer)", "Some(answer)"],
        "an_answer_that_is_ready_but_late_is_too_late",
    ),
    core(
        "1: a store's code runs on a thread with another's",
        "src/stack/assemble.rs",
        ["let store = OwnThread::start(store)?;", ""],
        "a_store_whose_code_blocks_holds_up_no_other_store",
    ),
    core(
        "2: a stop of the process prolongs a caller's own deadline",
        "src/stack/assemble.rs",
        ["Deadline::strict(layers", "Deadline::new(layers"],
        "a_stop_of_the_process_ends_a_get_at_its_deadline_and_takes_no_time_of_its_fetch",
    ),
    core(
        "2: a waker that blocks stops the clock",
        "src/clock/system.rs",
        [
            "self.aside.run(move || call(sleeper.waker));",
            "call(sleeper.waker);",
        ],
        "a_waker_that_blocks_delays_neither_another_sleeper_nor_a_sweep",
    ),
    core(
        "2: a waker that blocks stops the fetches",
        "src/aside.rs",
        [
            "let aside = self.aside.clone();\n        aside.run(move || {",
            "foreign(move || {",
        ],
        "a_waker_that_blocks_at_a_landing_holds_up_no_other_fetch",
    ),
    core(
        "2: the payload of foreign code's panic is dropped",
        "src/foreign.rs",
        ["std::mem::forget(payload);", "drop(payload);"],
        "a_panic_of_foreign_code_stays_its_own_even_when_its_payload_panics_in_its_drop",
    ),
    core(
        "2: a forked child waits for threads that it does not have",
        "src/fork.rs",
        [
            ".is_none_or(|guard| !guard.clone().detected_fork())",
            ".is_none_or(|guard| !guard.clone().detected_fork() || true)",
        ],
        "in_a_forked_child_every_call_is_refused_at_once_and_nothing_hangs",
    ),
    core(
        "2: a forked child takes locks when it drops a resolver",
        "src/stack/mod.rs",
        ["std::mem::forget(Arc::clone(&self.stack));", ""],
        "in_a_forked_child_nothing_waits_for_a_lock_that_nobody_gives_back",
    ),
    core(
        "5: a buffer is not wiped when it goes",
        "src/secret/buf.rs",
        [
            "    fn drop(&mut self) {\n        self.bytes.zeroize();",
            "    fn drop(&mut self) {",
        ],
        "a_value_is_gone_from_memory_after_invalidation",
    ),
    core(
        "10: a weaker answer is not reported",
        "src/downgrade.rs",
        [
            "foreign(|| audit::downgraded(name, freshness, cause, warns));",
            "",
        ],
        "every_fetch_refusal_downgrade_and_invalidation_is_reported_and_no_value_is",
    ),
    core(
        "limit: a store that is slow times out behind a queue of ours",
        "src/stack/assemble.rs",
        [
            "limit.fair_time = attempt;",
            "limit.fair_time = attempt / 2;",
        ],
        "a_flood_on_a_slow_store_asks_no_fallback_and_opens_no_breaker",
    ),
    core(
        "require: it outlasts its limit",
        "src/stack/mod.rs",
        [
            "match required(self, names, Some(end)).await {",
            "match required(self, names, None).await {",
        ],
        "a_store_that_hangs_is_waited_for_no_longer_than_the_limit",
    ),
    core(
        "require: a breaker that its own tries have opened keeps it from asking",
        "src/stack/mod.rs",
        ["store.breaker.allow_trial();", "let _ = store;"],
        "a_store_that_comes_up_late_is_found_although_its_breaker_is_open",
    ),
    core(
        "bounds: a flood below a prefix takes the fetches of others",
        "src/stack/assemble.rs",
        [
            "cache.max_flights.set(prefix, most);",
            "let _ = (prefix, most);",
        ],
        "a_flood_below_a_prefix_with_its_own_limit_takes_no_fetch_of_others",
    ),
    core(
        "aside: a waker that panics ends the process as it is dropped",
        "src/aside.rs",
        [
            "foreign(|| self.waker.wake_by_ref());",
            "self.waker.wake_by_ref();",
        ],
        "a_waker_that_panics_as_it_is_called_and_dropped_ends_no_thread",
    ),
    core(
        "aside: nobody watches after a quiet time",
        "src/aside.rs",
        [
            "if state.threads <= state.busy.min(Aside::MOST)",
            "if state.threads < 1",
        ],
        "a_job_that_blocks_for_long_holds_up_no_other_after_a_quiet_time_either",
    ),
    core(
        "aside: jobs that each take a little get no second thread",
        "src/aside.rs",
        [
            "let slow = state.begun - begun < Aside::QUICK * state.width as u64;",
            "let slow = state.begun == begun;",
        ],
        "many_jobs_that_each_take_a_little_hold_up_none_for_long",
    ),
    core(
        "aside: threads that have nothing to do stay",
        "src/aside.rs",
        [
            "let surplus = state.rests() && state.threads > state.busy + 2;",
            "let surplus = false;",
        ],
        "the_threads_that_blocking_jobs_needed_end_even_while_other_jobs_come",
    ),
    core(
        "aside: reports fill the memory",
        "src/aside.rs",
        [
            "if lines.waiting.len() >= Self::MOST_WAITING {",
            "if lines.waiting.len() > Self::MOST_WAITING * 2 {",
        ],
        "a_report_is_dropped_while_too_many_wait",
    ),
    vault(
        "logins: a hold is not waited for",
        "src/resolver/require.rs",
        [
            "error.is_held_back()\n                || error.is_our_own_overload()",
            "error.is_our_own_overload()",
        ],
        "require_within_waits_for_a_hold_and_not_for_a_refusal",
    ),
    core(
        "harden: the process stays dumpable",
        "src/harden.rs",
        [
            "set_dumpable_behavior(DumpableBehavior::NotDumpable)",
            "set_dumpable_behavior(DumpableBehavior::Dumpable)",
        ],
        "a_process_that_aborts_leaves_a_core_file_with_the_value_and_none_once_it_is_hardened",
    ),
    core(
        "harden: the memory stays readable, core files alone are forbidden",
        "src/harden.rs",
        [
            "let undumpable = system::make_undumpable();",
            "let undumpable = system::forbid_core_files();",
        ],
        "another_process_of_the_same_user_reads_the_memory_and_not_once_it_is_hardened",
    ),
    core(
        "harden: programs that are started are affected, asked or not",
        "src/harden.rs",
        [
            "false => Ok(()),\n        };\n        Hardened {",
            "false => system::forbid_core_files(),\n        };\n        Hardened {",
        ],
        "a_program_that_a_hardened_process_starts_leaves_core_files_and_is_read_as_before",
    ),
    core(
        "harden: a program that is started may raise the limit again",
        "src/harden.rs",
        ["maximum: Some(0),", "maximum: Some(1 << 30),"],
        "a_program_that_is_started_leaves_no_core_file_where_that_was_asked_for",
    ),
    core(
        "harden: a failure is not reported",
        "src/harden.rs",
        [
            "asked.into_iter().filter_map(failed)",
            "asked.into_iter().filter_map(failed).take(0)",
        ],
        "what_could_not_be_set_is_reported_with_its_reason",
    ),
    core(
        "wiping: a buffer that is cleared keeps its bytes",
        "src/secret/buf.rs",
        [
            "        self.bytes.zeroize();\n        self.len = 0;\n",
            "        self.len = 0;\n",
        ],
        "a_buffer_is_wiped_when_it_is_cleared_and_can_be_used_again",
    ),
    core(
        "wiping: half of a buffer that is dropped is left",
        "src/secret/buf.rs",
        [
            "    fn drop(&mut self) {\n        self.bytes.zeroize();\n",
            "    fn drop(&mut self) {\n        let half = self.bytes.len() / 2;\n        self.bytes[..half].zeroize();\n",
        ],
        "a_buffer_is_wiped_from_end_to_end_when_it_is_dropped",
    ),
    core(
        "clock: a sleep that is polled again wakes the first waker",
        "src/clock/timers.rs",
        [
            "            std::mem::swap(&mut held.waker, &mut new);\n",
            "",
        ],
        "a_sleep_that_is_polled_again_wakes_the_last_waker_and_no_other",
    ),
    core(
        "clock: a waker of our own that takes the place of a foreign one is called with the foreign ones",
        "src/clock/timers.rs",
        ["            held.ours = is_ours();\n", ""],
        "a_waker_of_our_own_is_called_by_the_clock_s_thread_although_all_others_block",
    ),
    core(
        "debug: a version's opaque mark is shown as numbers",
        "src/secret/version.rs",
        [
            "            Repr::Tag(_) => f.write_str(\"Version([tag])\"),",
            "            Repr::Tag(ref tag) => write!(f, \"Version({:?})\", &***tag),",
        ],
        "debug_shows_neither_value_nor_length",
    ),
    core(
        "signals: an invalidator keeps its resolver alive",
        "src/invalidate.rs",
        [
            "            caches: caches.into_iter().collect(),",
            "            caches: (caches.into_iter())\n                .inspect(|cache| std::mem::forget(cache.upgrade()))\n                .collect(),",
        ],
        "an_invalidator_keeps_no_resolver_alive",
    ),
    core(
        "panics: a thread that is ending uses what is gone",
        "src/ending.rs",
        [
            "WHOLE.try_with(|whole| whole.0).unwrap_or(false)",
            "WHOLE.try_with(|whole| whole.0).unwrap_or(true)",
        ],
        "a_thread_that_is_ending_is_answered_from_memory_or_refused_and_panics_nowhere",
    ),
    core(
        "status: a store whose login is held back is ready",
        "src/status.rs",
        ["self.held_back.is_none() && asked.any(", "asked.any("],
        "a_store_whose_reads_are_kept_out_is_not_ready_until_one_is_answered",
    ),
    core(
        "status: names with their own limit take the service down",
        "src/status.rs",
        [
            "store.limit_for.is_none() && !store.is_ready()",
            "!store.is_ready()",
        ],
        "names_with_a_limit_of_their_own_take_no_service_down",
    ),
    core(
        "status: a scope shows where its secrets are",
        "src/stack/health.rs",
        ["Some(_) => error.without_detail(),", "Some(_) => error,"],
        "a_scope_that_is_not_ready_shows_neither_where_nor_what",
    ),
    core(
        "audit: what no store was asked for is no warning",
        "src/audit.rs",
        [
            "let failed = outcome.is_err();",
            "let failed = outcome.as_ref().is_err_and(|error| !error.is_held_back());",
        ],
        "every_fetch_refusal_downgrade_and_invalidation_is_reported_and_no_value_is",
    ),
    core(
        "audit: a breaker stays open after its resolver",
        "src/audit.rs",
        [
            "endpoint.breaker = crate::layers::BreakerState::Closed;",
            "let _ = endpoint;",
        ],
        "every_fetch_refusal_downgrade_and_invalidation_is_reported_and_no_value_is",
    ),
    core(
        "deserialize: a visitor that panics leaves a secret",
        "src/secret/deserialize.rs",
        ["drop(Self::take());", ""],
        "a_visitor_that_panics_leaves_no_secret_behind",
    ),
];
