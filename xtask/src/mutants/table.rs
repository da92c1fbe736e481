//! What is broken, one guarantee at a time, and the test that has to notice. The numbers are those of the invariants in THREAT_MODEL.md.

/// One change to one place.
pub(crate) struct Mutant {
    /// The guarantee that it breaks.
    pub(crate) breaks: &'static str,
    pub(crate) file: &'static str,
    /// Stands in the file exactly once.
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// The package of the test, and the test's own name.
    pub(crate) package: &'static str,
    pub(crate) test: &'static str,
}

const CORE: &str = "secret-resolver";
const VAULT: &str = "secret-resolver-vault";

const fn core(
    breaks: &'static str,
    file: &'static str,
    [from, to]: [&'static str; 2],
    test: &'static str,
) -> Mutant {
    Mutant {
        breaks,
        file,
        from,
        to,
        package: CORE,
        test,
    }
}

const fn of(package: &'static str, mutant: Mutant) -> Mutant {
    Mutant { package, ..mutant }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    core(
        "1: a stale value is served without a policy for it",
        "src/policy.rs",
        [
            "if permits.stale && policy.stale_up_to.is_some_and(|limit| by < limit) => {",
            "if permits.stale && policy.stale_up_to.is_none_or(|limit| by < limit) => {",
        ],
        "the_default_policy_serves_nothing_that_has_expired_and_asks_nobody_else",
    ),
    core(
        "1: a hit does not look at the expiry",
        "src/layers/cache/slot.rs",
        [
            "        if now >= self.life.expires {",
            "        if false {",
        ],
        "a_stale_limit_holds_for_its_prefix_alone",
    ),
    core(
        "1: the fallback is asked after any error",
        "src/layers/fallback.rs",
        [
            "if decision != Decision::AskFallback || !any_version {",
            "if decision == Decision::KeepFresh || !any_version {",
        ],
        "a_fallback_is_asked_only_in_an_outage_and_its_answer_is_marked",
    ),
    core(
        "1: our own overload looks like an outage",
        "src/error.rs",
        [
            "            Self::Unavailable | Self::Timeout => (Retry::Yes, true, true, true),\n            Self::Throttled => (Retry::AfterDelay, false, true, false),\n            Self::Overloaded\n            | Self::NotFound",
            "            Self::Unavailable | Self::Timeout | Self::Overloaded => (Retry::Yes, true, true, true),\n            Self::Throttled => (Retry::AfterDelay, false, true, false),\n            Self::NotFound",
        ],
        "a_flood_of_cold_names_on_a_healthy_store_asks_no_fallback_and_opens_no_breaker",
    ),
    core(
        "2: a get has no end",
        "src/layers/deadline.rs",
        [
            "        let deadline = self.moment(request.deadline());",
            "        let deadline = Moment::NEVER;",
        ],
        "no_get_outlives_its_deadline_when_the_backend_hangs",
    ),
    core(
        "2: a wait for a permit has no end",
        "src/layers/limit/gate.rs",
        [
            "clock.sleep_until(latest).await;",
            "std::future::pending::<()>().await;",
        ],
        "a_deadline_that_passes_in_the_queue_ends_the_wait_as_our_own_overload",
    ),
    core(
        "3: what was fetched before an invalidation lands",
        "src/layers/cache/landing.rs",
        [
            "if flight.generation() != fetched.generation {",
            "if flight.generation() == u64::MAX {",
        ],
        "after_invalidate_no_get_answers_what_was_fetched_before",
    ),
    core(
        "3: an invalidated slot keeps its value for who was handed it",
        "src/layers/cache/slot.rs",
        [
            "let contents = slot.contents.swap(None);",
            "let contents = slot.contents.load_full();",
        ],
        "an_answer_that_a_waiter_has_not_taken_yet_is_fenced_too",
    ),
    core(
        "3: a signal fences no flight",
        "src/layers/cache/fence.rs",
        [
            "        if let Some(flight) = self.flights.get(address) {\n            flight.fence();",
            "        if let Some(flight) = self.flights.get(\"\") {\n            flight.fence();",
        ],
        "no_schedule_breaks_the_fence_the_single_flight_or_the_expiry",
    ),
    core(
        "3: a prefix misses what was answered as a stale value",
        "src/layers/cache/mod.rs",
        [
            ".link(request.name(), address, located.field());",
            ".link(request.name(), \"\", located.field());",
        ],
        "a_signal_for_a_prefix_finds_what_was_answered_as_a_stale_value",
    ),
    core(
        "3: a prefix misses what was answered by the long way",
        "src/layers/cache/store.rs",
        ["held.names.more |= !held.keeps(name.path());", ""],
        "a_signal_for_a_prefix_finds_what_was_answered_below_it_in_any_way",
    ),
    core(
        "3: an answer soon after a signal is trusted",
        "src/layers/cache/settle.rs",
        ["        !settled || all", "        false"],
        "after_a_signal_an_unchanged_answer_is_not_trusted_for_long",
    ),
    core(
        "4: a get does not join the flight of another",
        "src/layers/cache/flights.rs",
        [
            "if let Some(flight) = flying.flights.get(address) {",
            "if let Some(flight) = flying.flights.get(\"\") {",
        ],
        "the_assembled_resolver_keeps_all_laws_of_caching",
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
        "5: the sweeper is not told of a value's end",
        "src/layers/cache/landing.rs",
        ["flights.sweeper.due_at(slot.life.ends);", ""],
        "a_cached_value_stands_once_in_memory_and_not_at_all_after_expiry",
    ),
    core(
        "5: a shutdown leaves the values",
        "src/layers/cache/flights.rs",
        [
            "let values = self.store.take_all();",
            "let values: Vec<crate::layers::cache::slot::Detached> = Vec::new();",
        ],
        "a_value_is_gone_from_memory_after_shutdown",
    ),
    core(
        "5: a shutdown is taken for an outage",
        "src/layers/cache/landing.rs",
        [
            "let closed = Outcome::Failed(closed_error(), self.flights.epoch());",
            "let closed = Outcome::Failed(lost(), self.flights.epoch());",
        ],
        "a_shutdown_is_no_outage_and_lets_no_fallback_answer",
    ),
    of(
        VAULT,
        core(
            "7: a token is sent after its end",
            "backends/vault/src/auth/life.rs",
            [
                "self.until.is_some_and(|until| now >= until.dies)",
                "self.until.is_some_and(|until| now < until.dies && now > until.dies)",
            ],
            "a_token_that_is_not_used_is_not_renewed_and_not_sent_after_its_end",
        ),
    ),
    of(
        VAULT,
        core(
            "7: a denial is kept for the next token",
            "backends/vault/src/auth/session.rs",
            [
                "        self.0.lock().issued\n",
                "        self.0.counts.logins.load(Ordering::Relaxed)\n",
            ],
            "a_denial_during_a_login_is_not_remembered_for_the_token_that_it_brings",
        ),
    ),
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
        "10: a weaker answer is not told",
        "src/downgrade.rs",
        ["audit::downgraded(name, freshness, cause);", ""],
        "every_fetch_refusal_downgrade_and_invalidation_is_told_and_no_value_is",
    ),
    core(
        "11: a lower version is taken",
        "src/layers/cache/seen.rs",
        [
            "Some(entry) if version < entry.version => {",
            "Some(entry) if version < entry.version && entry.touch == u64::MAX => {",
        ],
        "a_version_that_was_rolled_back_is_refused_until_it_counts_as_a_new_life",
    ),
    core(
        "11: other endpoints are not asked for what one is behind with",
        "src/layers/cache/landing.rs",
        [
            "self.flights.inner.endpoints().saturating_sub(1);",
            "self.flights.inner.endpoints().min(0);",
        ],
        "an_endpoint_that_is_behind_is_passed_over_for_the_next",
    ),
    core(
        "12: a refresh that is refused leaves the value",
        "src/layers/cache/landing.rs",
        [
            "return flights.store.take(&flight.address);",
            "return None;",
        ],
        "a_refresh_that_is_refused_drops_the_value_at_once",
    ),
    core(
        "refresh: a hot name waits for its refresh",
        "src/layers/cache/landing.rs",
        [
            "refresh: now + expires.since(now) / 5 * 4,",
            "refresh: expires,",
        ],
        "a_value_in_use_is_refreshed_before_anybody_has_to_wait",
    ),
    core(
        "bounds: required secrets are evicted",
        "src/layers/cache/store.rs",
        [
            "let kept = slot.is_awaited() || self.pinned.contains_key(&*slot.address);",
            "let kept = slot.is_awaited();",
        ],
        "a_flood_of_names_does_not_evict_what_is_pinned_or_in_use",
    ),
    core(
        "bounds: bytes are not counted",
        "src/layers/cache/store.rs",
        [
            "entries > self.max_entries || bytes > self.max_bytes",
            "entries > self.max_entries || bytes == usize::MAX",
        ],
        "entries_and_bytes_are_bounded",
    ),
    core(
        "bounds: a record of any size is held",
        "src/layers/cache/flights.rs",
        [
            "if record.weight() > self.config.max_record_bytes as usize {",
            "if record.weight() == usize::MAX {",
        ],
        "a_record_that_is_too_large_is_refused_and_not_held",
    ),
    core(
        "bounds: a value that does not fit evicts the others first",
        "src/layers/cache/store.rs",
        [
            "if !self.has_room(&table, &slot) {",
            "if self.max_entries == 0 {",
        ],
        "a_value_that_finds_no_room_costs_nobody_else_his_own",
    ),
    core(
        "bounds: a value is evicted before who waits for it has read it",
        "src/layers/cache/store.rs",
        [
            "let kept = slot.is_awaited() || self.pinned.contains_key(&*slot.address);",
            "let kept = self.pinned.contains_key(&*slot.address);",
        ],
        "a_burst_of_cold_names_on_a_full_cache_is_one_fetch_a_name",
    ),
    core(
        "bounds: a handle's record is evicted",
        "src/layers/cache/handle.rs",
        ["self.store.retain(located.address().as_str())?;", ""],
        "a_handle_keeps_its_record_from_eviction_until_it_is_dropped",
    ),
    core(
        "negatives: a refusal soon after a signal is trusted",
        "src/layers/cache/landing.rs",
        [
            "if flying.settling.is_unsettled(&flight.address, now) {",
            "if flying.settling.is_unsettled(\"\", now) {",
        ],
        "soon_after_a_signal_a_refusal_is_remembered_for_a_moment_only",
    ),
    core(
        "negatives: a refusal outlives the login that met it",
        "src/layers/cache/negative.rs",
        [
            "let good = now < negative.until && negative.identity == identity;",
            "let good = now < negative.until && identity < u64::MAX;",
        ],
        "a_refusal_is_forgotten_by_invalidation_and_by_a_new_login",
    ),
    core(
        "batches: what was fenced while the rest was fetched is answered",
        "src/layers/batch.rs",
        [
            "let fenced = epoch() != asked_in;",
            "let fenced = epoch() < asked_in;",
        ],
        "a_batch_answers_nothing_that_was_invalidated_while_it_waited",
    ),
    core(
        "handles: the same value again is told as a change",
        "src/layers/cache/handle.rs",
        [
            "if self.print.swap(print, Ordering::Relaxed) != print {",
            "if self.print.swap(print, Ordering::Relaxed) != 0 || print > 0 {",
        ],
        "a_refresh_that_brings_the_same_value_is_no_change_of_a_handle",
    ),
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
        "retry: no budget",
        "src/layers/retry/budget.rs",
        ["held.checked_sub(Self::ONE)", "Some(held)"],
        "a_thousand_failing_requests_are_no_storm",
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
    core(
        "limit: the queue has no bound",
        "src/layers/limit/gate.rs",
        [
            "(queued < most).then_some(queued + 1);",
            "(queued < most || queued < u32::MAX).then_some(queued + 1);",
        ],
        "a_full_queue_refuses_at_once_in_a_way_that_blames_no_store",
    ),
    core(
        "limit: who has waited too long is sent with no time left",
        "src/layers/limit/gate.rs",
        [
            "let latest = deadline.before(self.config.fair_time);",
            "let latest = deadline;",
        ],
        "who_has_waited_until_little_time_is_left_is_refused_before_the_store_is_asked",
    ),
    core(
        "limit: a prefix has none of its own",
        "src/layers/limit/mod.rs",
        [
            "let gate = self.gates.get(request.name().path());",
            "let gate = self.gates.get(\"\");",
        ],
        "names_below_a_prefix_wait_for_each_other_and_for_nobody_else",
    ),
    core(
        "limit: a store that is slow times out behind a queue of ours",
        "src/stack/assemble.rs",
        [
            "limit.fair_time = limit.fair_time.max(attempt);",
            "limit.fair_time = limit.fair_time.max(attempt / 2);",
        ],
        "nor_does_a_flood_on_a_store_that_is_slow",
    ),
    core(
        "require: it outlasts its limit",
        "src/stack/mod.rs",
        [
            "required(&self.stack.layers, names, Some(end))",
            "required(&self.stack.layers, names, None)",
        ],
        "a_store_that_hangs_is_waited_for_no_longer_than_the_limit",
    ),
    core(
        "require: a breaker that its own tries have opened keeps it from asking",
        "src/stack/mod.rs",
        ["breaker.allow_trial();", "let _ = breaker;"],
        "a_store_that_comes_up_late_is_found_though_its_breaker_is_open",
    ),
    core(
        "routes: a signal in a store's own ids reaches nobody",
        "src/layers/cache/fence.rs",
        [
            "let mut addresses = self.inner.addresses(address);",
            "let mut addresses = Vec::new();",
        ],
        "a_signal_in_a_stores_own_ids_reaches_every_route_and_every_scope",
    ),
    core(
        "scope: the path is not put before a name",
        "src/layers/scoped/mod.rs",
        ["format!(\"{}/{below}\", self.path)", "below.to_owned()"],
        "no_name_leaves_the_scope",
    ),
];
