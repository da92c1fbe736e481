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
        "3: what was fetched before an invalidation lands",
        "src/layers/cache/landing.rs",
        [
            "let fenced = flight.generation() != asked.generation",
            "let fenced = flight.generation() == u64::MAX",
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
        "3: a signal misses a stale value under a name that was never asked for",
        "src/layers/cache/mod.rs",
        [
            "let Some(slot) = self.flights.slot_of(located, request.name()) else {",
            "let Some(slot) = self.flights.store.at(located.address().as_str()) else {",
        ],
        "no_stale_value_is_answered_under_a_name_that_was_signalled_before_it_was_asked_for",
    ),
    core(
        "3: a prefix misses a name that was never asked for",
        "src/layers/cache/flights.rs",
        [
            "(!signals.concern(slot.epoch, name.path(), address)).then_some(slot)",
            "(!signals.concern(slot.epoch, \"-\", address)).then_some(slot)",
        ],
        "a_name_that_was_never_asked_for_is_concerned_too",
    ),
    core(
        "3: a prefix misses a name of the read path",
        "src/layers/cache/index.rs",
        [
            "signals.concern(self.slot.epoch, path_of(name), &self.slot.address);",
            "signals.concern(self.slot.epoch, \"-\", &self.slot.address);",
        ],
        "no_schedule_breaks_the_fence_the_single_flight_or_the_expiry",
    ),
    core(
        "3: a waiter that a prefix concerns is answered",
        "src/layers/cache/mod.rs",
        [
            "Ok(record.filter(|_| !concerned))",
            "Ok(record.filter(|_| !concerned || true))",
        ],
        "a_waiter_that_is_concerned_gets_the_next_fetch_and_another_this_one",
    ),
    core(
        "3: what was fetched before a prefix was signalled is held",
        "src/layers/cache/store.rs",
        [
            "        if epoch >= self.signals.last() {\n            return false;",
            "        if epoch < u64::MAX {\n            return false;",
        ],
        "a_fetch_for_a_concerned_address_leaves_nothing_behind",
    ),
    core(
        "3: a signal costs strangers what they have",
        "src/layers/cache/signals.rs",
        [
            "latest.is_some_and(|signal| began < signal.epoch)",
            "latest.is_none_or(|signal| began < signal.epoch)",
        ],
        "a_signal_for_strangers_costs_nothing",
    ),
    core(
        "3: a signal that falls off the list is forgotten",
        "src/layers/cache/signals.rs",
        [
            "self.forgotten = oldest.or(self.forgotten);",
            "self.forgotten = self.forgotten.filter(|_| oldest.is_none());",
        ],
        "what_falls_off_the_list_concerns_everything_that_was_fetched_before",
    ),
    core(
        "3: an answer soon after a signal is trusted",
        "src/layers/cache/settle.rs",
        [
            "(past < self.time).then_some(past.max(Self::MOMENT))",
            "(past < self.time && past > self.time).then_some(past.max(Self::MOMENT))",
        ],
        "after_a_signal_an_unchanged_answer_is_not_trusted_for_long",
    ),
    core(
        "3: an answer that is proved new is distrusted all the same",
        "src/layers/cache/settle.rs",
        [
            "narrow.settled |= narrow.dropped.is_some_and(differs);",
            "narrow.settled &= narrow.dropped.is_some_and(differs);",
        ],
        "a_version_that_is_proved_new_is_trusted_also_after_a_signal_for_everything",
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
        "src/layers/cache/flights.rs",
        [
            "        ErrorKind::Closed,\n        \"the resolver was shut down; build a new one\",",
            "        ErrorKind::Unavailable,\n        \"the resolver was shut down; build a new one\",",
        ],
        "a_shutdown_is_no_outage_and_lets_no_fallback_answer",
    ),
    core(
        "3: a flood of signals makes an old answer trusted",
        "src/layers/cache/settle.rs",
        [
            "self.all_until = self.order.front().map(|(until, _)| *until);",
            "",
        ],
        "a_flood_of_other_signals_makes_no_old_answer_trusted",
    ),
    core(
        "5: a conditional read keeps the version of a value that is gone",
        "src/layers/own_thread.rs",
        [
            "Held::By(holder) => OwnedHeld::By(Arc::clone(holder)),",
            "Held::By(holder) => OwnedHeld::Version(holder.version().unwrap_or_default()),",
        ],
        "invalidated_values_and_tags_are_gone_from_memory_while_their_store_blocks",
    ),
    of(
        VAULT,
        core(
            "7: a token is sent after its end",
            "session/src/life.rs",
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
            "session/src/session.rs",
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
        ["foreign(|| audit::downgraded(name, freshness, cause));", ""],
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
            "out.extend(flights.store.take(address));",
            "let _ = address;",
        ],
        "a_refresh_that_is_refused_drops_the_value_at_once",
    ),
    core(
        "refresh: a hot name waits for its refresh",
        "src/layers/cache/life.rs",
        ["refresh: now + full.since(now) / 5 * 4,", "refresh: full,"],
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
            "if let Err(error) = self.make_room(&mut table, &slot) {",
            "if let (Err(error), 0) = (self.make_room(&mut table, &slot), self.max_entries) {",
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
        ["self.store.retain(&address)?;", ""],
        "a_handle_keeps_its_record_from_eviction_until_it_is_dropped",
    ),
    core(
        "negatives: a refusal soon after a signal is trusted",
        "src/layers/cache/landing.rs",
        [
            "unsettled.map_or(word, |trusted| word.min(trusted))",
            "unsettled.map_or(word, |trusted| word.max(trusted))",
        ],
        "soon_after_a_signal_a_refusal_is_remembered_for_a_moment_only",
    ),
    core(
        "negatives: a refusal outlives the login that met it",
        "src/layers/cache/negative.rs",
        [
            "(now < said.until && said.identity == identity).then_some(said)",
            "(now < said.until && identity < u64::MAX).then_some(said)",
        ],
        "a_refusal_is_forgotten_by_invalidation_and_by_a_new_login",
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
        "handles: the same value again is told as a change",
        "src/layers/cache/handle.rs",
        [
            "if self.print.replace(print) != Some(print) {",
            "if self.print.replace(print) != Some(print) || self.print.is_some() {",
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
        "src/layers/limit/mod.rs",
        [
            "(queued < most).then_some(queued + 1);",
            "(queued < most || queued < u32::MAX).then_some(queued + 1);",
        ],
        "a_full_queue_refuses_at_once_in_a_way_that_blames_no_store",
    ),
    core(
        "limit: who has waited too long is sent with no time left",
        "src/layers/limit/mod.rs",
        [
            "let latest = deadline.before(self.config.fair_time);",
            "let latest = deadline;",
        ],
        "who_has_waited_until_little_time_is_left_is_refused_before_the_store_is_asked",
    ),
    core(
        "lanes: a prefix has no guards of its own",
        "src/layers/lanes.rs",
        [
            "self.lanes.get(request.name().path())",
            "self.lanes.get(\"\")",
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
            "match required(self, names, Some(end)).await {",
            "match required(self, names, None).await {",
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
    core(
        "1: a life counts from the landing",
        "src/layers/cache/life.rs",
        [
            "let full = (terms.asked + terms.ttl).min(terms.lease_used);",
            "let full = (now + terms.ttl).min(terms.lease_used);",
        ],
        "a_life_counts_from_the_request_however_late_the_answer",
    ),
    core(
        "1: an answer past its time is taken",
        "src/in_time.rs",
        ["(!limit.is_over()).then_some(answer)", "Some(answer)"],
        "an_answer_that_is_ready_but_late_is_too_late",
    ),
    core(
        "1: a lease that is over on arrival looks like an outage",
        "src/layers/cache/life.rs",
        [
            "                    ErrorKind::Refused,",
            "                    ErrorKind::Timeout,",
        ],
        "a_lease_that_is_over_on_arrival_is_an_error_and_no_outage",
    ),
    core(
        "1: a value that was late by our own stop is an outage",
        "src/layers/cache/landing.rs",
        [
            "self.flights.clock.lost() > asked.lost",
            "self.flights.clock.lost() < asked.lost",
        ],
        "no_schedule_breaks_the_fence_the_single_flight_or_the_expiry",
    ),
    core(
        "1: a stop of this process is an outage of its store",
        "src/layers/attempt.rs",
        [
            "Err(error) if !fair && error",
            "Err(error) if fair && !fair && error",
        ],
        "a_stop_of_the_process_is_no_outage_of_its_store",
    ),
    core(
        "1: a store's code runs on a thread with another's",
        "src/stack/assemble.rs",
        ["let store = OwnThread::start(store)?;", ""],
        "a_store_whose_code_blocks_holds_up_no_other_store",
    ),
    core(
        "1: a resolver is another's store",
        "src/layers/cache/mod.rs",
        [
            "if inner.remembers() {",
            "if inner.remembers() && inner.endpoints() == 0 {",
        ],
        "a_resolver_is_refused_as_a_store_a_route_and_a_fallback_of_another_scoped_or_not",
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
        "2: what foreign code panics with is dropped",
        "src/foreign.rs",
        ["std::mem::forget(payload);", "drop(payload);"],
        "a_panic_of_foreign_code_stays_its_own_also_when_its_payload_panics_in_its_drop",
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
        "back-off: what is no good is asked for at every get",
        "src/layers/cache/negative.rs",
        [
            "saying.now + held.min(Self::LONGEST)",
            "saying.now + held.min(Duration::ZERO)",
        ],
        "an_answer_that_is_no_good_is_asked_for_again_less_and_less_often",
    ),
    core(
        "back-off: a store's wish is cut short",
        "src/layers/cache/negative.rs",
        [
            "let asked = asked.min(Self::LONGEST_ASKED);",
            "let asked = asked.min(Self::LONGEST);",
        ],
        "a_name_is_left_alone_for_as_long_as_the_store_asks_and_no_longer_than_a_minute",
    ),
    core(
        "bounds: pins do not count bytes",
        "src/layers/cache/store.rs",
        [
            "if bytes > self.max_bytes.div_ceil(2) && bytes > table.pinned_bytes {",
            "if bytes == usize::MAX {",
        ],
        "what_is_pinned_counts_its_bytes_and_leaves_room_for_others",
    ),
    core(
        "bounds: a flood below a prefix takes the fetches of others",
        "src/stack/assemble.rs",
        [
            "cache = cache.with_max_flights_for(prefix, most);",
            "let _ = (prefix, most);",
        ],
        "a_flood_below_a_prefix_with_a_limit_of_its_own_takes_no_fetch_of_others",
    ),
    core(
        "handles: a lease that is over at once is asked for without end",
        "src/layers/cache/keeper.rs",
        [
            "false => slot.life.refresh.max(now + Self::SOONEST),",
            "false => slot.life.refresh.min(now + Self::SOONEST),",
        ],
        "a_handle_asks_a_few_times_a_second_however_short_a_lease_is",
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
            "while state.threads <= state.busy.min(Aside::MOST)",
            "while state.threads < 1",
        ],
        "who_blocks_for_long_holds_up_nobody_after_a_quiet_time_either",
    ),
    core(
        "handles: a landing that another has asked for is not heard",
        "src/layers/cache/landing.rs",
        [
            "flights.keeper.landed(slot, |name| {",
            "let _ = (slot, |name: &SecretName| {",
        ],
        "every_landing_is_heard_however_it_was_asked_for",
    ),
    core(
        "handles: a signal between a landing and its news is forgotten",
        "src/layers/cache/keeper.rs",
        [
            "match taken || names.any(|(name, _)| concerned(name)) {",
            "match false {",
        ],
        "a_signal_between_a_landing_and_its_news_is_not_forgotten",
    ),
    core(
        "handles: a read of a handle asks the store",
        "src/layers/cache/handle.rs",
        [
            "Some(hit.record)",
            "if hit.refresh { self.keeper.due_now(self.inner.locate(name.as_ref()).address().as_str()); } Some(hit.record)",
        ],
        "a_handle_that_is_read_often_asks_no_more_often",
    ),
    core(
        "settle: a prefix revives what an old signal has dropped",
        "src/layers/cache/settle.rs",
        ["self.forget_settled(now);\n        let print", "let print"],
        "nor_does_one_for_a_prefix",
    ),
    core(
        "batches: a record that was signalled under another name is answered",
        "src/layers/cache/fence.rs",
        [
            "self.store.addressed.below(signal, None, &out);",
            "let _ = out;",
        ],
        "a_batch_answers_no_record_that_was_signalled_under_another_name_while_it_waited",
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
        "the_threads_that_blocking_jobs_needed_end_also_while_other_jobs_come",
    ),
    core(
        "aside: reports fill the memory",
        "src/aside.rs",
        [
            "Some(aside) if aside.is_full() => {}",
            "Some(aside) if aside.is_full() && aside.0.is_none() => {}",
        ],
        "a_report_is_dropped_while_too_many_wait",
    ),
    of(
        VAULT,
        core(
            "logins: an outage holds back the next",
            "session/src/state.rs",
            [
                "Kind::Unavailable | Kind::Timeout | Kind::Closed => {}",
                "Kind::Closed => {}",
            ],
            "an_outage_uses_up_no_cap_and_holds_back_no_login",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: an outage uses up the cap",
            "session/src/state.rs",
            [
                "        match error.kind() {\n            Kind::Unavailable",
                "        self.gate.answered(now);\n        match error.kind() {\n            Kind::Unavailable",
            ],
            "an_outage_uses_up_no_cap_and_holds_back_no_login",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a hold hides why",
            "session/src/state.rs",
            [
                "let error = held.error.clone().with_retry_after(held.until.since(now));",
                "let error = error::dead_again().with_retry_after(held.until.since(now));",
            ],
            "a_login_that_is_held_back_says_what_it_was_refused_for",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a proxy's page counts as a refusal",
            "session/src/state.rs",
            [
                "_ => self.hold(credentials, error, now + Gate::MOMENT),",
                "_ => self.refused(credentials, error, now),",
            ],
            "an_answer_that_is_not_the_stores_holds_logins_back_for_a_second_and_never_for_longer",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a missing file is final",
            "session/src/error.rs",
            [
                "in_file(unauthenticated(what).held_back(), path)",
                "in_file(unauthenticated(what), path)",
            ],
            "require_within_waits_for_a_credentials_file_and_a_get_sees_it_at_once",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a hold is not waited for",
            "src/resolver/require.rs",
            [
                "error.is_held_back()\n                || error.is_our_own_overload()",
                "error.is_our_own_overload()",
            ],
            "require_within_waits_for_a_hold_and_not_for_a_refusal",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: another endpoint's outage fails a request",
            "session/src/session.rs",
            [
                "Some(Ok(())) if is_own => deaths += 1,",
                "Some(_) if !is_own => deaths += 1,\n                Some(Ok(())) => deaths += 1,",
            ],
            "an_outage_of_many_endpoints_is_an_outage_for_every_read",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: a proxy's page is a refusal",
            "backends/vault/src/answers.rs",
            [
                "reply.status() == 403 && Body::of(reply.body()) != Body::Foreign",
                "reply.status() == 403",
            ],
            "a_proxys_403_ends_no_token_and_is_no_denial",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: one endpoint's word is enough",
            "session/src/verdict.rs",
            [
                "Some(Some((_, Ok(true)))) => return Ok(Answer::KnownElsewhere),",
                "Some(Some((_, Ok(true)))) => unknown = true,",
            ],
            "one_endpoint_that_knows_a_token_settles_it_however_many_do_not",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: a given token dies for ever",
            "session/src/state.rs",
            [
                "self.refused(given, &error::given_is_dead(), now);",
                "self.hold(given, &error::given_is_dead(), now + Self::UNFIT);",
            ],
            "a_given_token_that_is_called_dead_is_tried_again_and_again",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token that is given up lives on",
            "session/src/state.rs",
            [
                "            left.suspected = true;\n            self.leaving.push(left);",
                "            left.suspected = true;\n            drop(left);",
            ],
            "a_token_of_ours_that_is_given_up_is_revoked",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token that is replaced lives on",
            "session/src/state.rs",
            [
                "self.leaving.extend(before.and_then(|live| live.left(now)));",
                "drop(before);",
            ],
            "a_token_that_is_replaced_is_revoked_once_no_read_uses_it",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token is revoked under its reads",
            "session/src/revocation.rs",
            [
                "race::first(left.unused(), self.clock.sleep_until(end)).await;",
                "let _ = end;",
            ],
            "a_token_that_is_replaced_is_revoked_once_no_read_uses_it",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token of limited use lives on",
            "session/src/login.rs",
            [
                "if issues && revocable && !state.ended {",
                "if issues && !revocable && !state.ended {",
            ],
            "tokens_for_a_limited_number_of_uses_are_refused_and_given_back",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: what an outage has kept from its end is forgotten",
            "session/src/revocation.rs",
            [
                "state.leaving.failed(&left, &error, can_look, now);",
                "let _ = (can_look, now);\n                    state.leaving.revoked(&left);",
            ],
            "what_could_not_be_revoked_is_tried_again_when_the_store_is_back",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a batch token is asked to end",
            "backends/vault/src/auth/mod.rs",
            ["revocable: !login.is_batch,", "revocable: true,"],
            "a_batch_token_is_not_asked_to_end_and_is_no_failure",
        ),
    ),
    of(
        VAULT,
        core(
            "answers: a server that wants the request again is not asked again",
            "backends/vault/src/answers.rs",
            [
                "(408, _, _) => (\n            Unavailable,",
                "(408, _, _) => (\n            Malformed,",
            ],
            "what_passes_is_tried_again_within_a_get",
        ),
    ),
    of(
        VAULT,
        core(
            "answers: an upgrade of the store is for ever",
            "backends/vault/src/answers.rs",
            [
                "\"from non-versioned to versioned data\"",
                "\"from version 1 to version 2\"",
            ],
            "what_passes_is_tried_again_within_a_get",
        ),
    ),
    of(
        VAULT,
        core(
            "answers: any page speaks of a secret",
            "backends/vault/src/answers.rs",
            ["(_, Body::Foreign, _) => (", "(600, Body::Foreign, _) => ("],
            "only_the_stores_own_form_speaks_of_a_secret_a_token_or_a_credential",
        ),
    ),
    of(
        VAULT,
        core(
            "answers: an unasked 304 is a redirect",
            "transport/src/engine/connection.rs",
            [
                "if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {",
                "if head.status.is_redirection() && head.status != StatusCode::OK {",
            ],
            "an_unasked_304_is_no_redirect_and_no_answer",
        ),
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
    of(
        VAULT,
        core(
            "verdicts: a lookup that is slow is the endpoint's outage",
            "session/src/verdict.rs",
            [
                "return Err(error::no_verdict().held_back());",
                "return Err(error::no_verdict());",
            ],
            "a_verdict_goes_on_without_the_read_that_asked_for_it_and_is_shared",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: a silent endpoint keeps a dead token in use",
            "session/src/verdict.rs",
            [
                "const ALL: Duration = Duration::from_secs(2);",
                "const ALL: Duration = Duration::from_secs(2000);",
            ],
            "another_endpoint_that_is_silent_keeps_no_dead_token_in_use",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: each read asks for itself when lookups fail",
            "session/src/verdict.rs",
            [
                "if !inquiry.flight.is_over(now) {",
                "if inquiry.flight.is_over(now) && inquiry.at > u64::MAX - 1 {",
            ],
            "a_lookup_that_fails_is_one_for_all_reads_that_wait_for_it",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: a role that may not look costs a login each second",
            "session/src/verdict.rs",
            [
                "let mute = self.mute == Some(token.number) && token.has_worked();",
                "let mute = self.mute == Some(u64::MAX) && token.has_worked();",
            ],
            "a_role_that_loses_the_right_to_look_costs_a_few_logins_and_what_lives_is_counted",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: the end of a given life is a refusal",
            "session/src/state.rs",
            ["Some(_) if over.life.is_renewable() => {}\n", ""],
            "a_given_token_that_somebody_may_have_renewed_is_asked_about_when_its_life_is_over",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: one that hangs holds up all endpoints",
            "session/src/session.rs",
            [
                "const PATIENCE: Duration = Duration::from_millis(500);",
                "const PATIENCE: Duration = Duration::from_secs(500);",
            ],
            "a_login_that_hangs_at_one_endpoint_holds_up_no_request_for_another",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a late one takes the place of a token in use",
            "session/src/state.rs",
            [
                "if new.given.is_none() && self.live.as_ref().is_some_and(quicker) {",
                "if new.given.is_some() && self.live.as_ref().is_some_and(quicker) {",
            ],
            "a_login_that_is_late_gives_its_token_back_where_another_was_quicker",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: one endpoint's refusal is enough",
            "session/src/login.rs",
            [
                "true => (number.saturating_sub(1)).min(Self::OPINIONS),",
                "true => (number.saturating_sub(1)).min(Self::OPINIONS) * 0,",
            ],
            "a_login_that_one_endpoint_refuses_is_tried_at_another",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: any answer to a revocation is final",
            "session/src/leaving.rs",
            [
                "        kept.refusals += u32::from(!outage);\n",
                "        kept.refusals += u32::from(!outage);\n        if !outage {\n            self.remove(left);\n            return;\n        }\n",
            ],
            "a_revocation_that_is_answered_by_somebody_else_is_tried_again",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: the shutdown asks one endpoint",
            "session/src/revocation.rs",
            [
                "        for endpoint in 0..number {\n            let now",
                "        for endpoint in 0..1 {\n            let now",
            ],
            "the_shutdown_revokes_at_any_endpoint_that_answers",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: an unfit token lives on after the shutdown",
            "session/src/login.rs",
            ["true => Installed::Ended,", "true => Installed::Surplus,"],
            "an_unfit_token_that_comes_during_the_shutdown_is_revoked",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token whose renewal was not answered lives on",
            "session/src/life.rs",
            [
                "let lease = self.grant.lease.filter(|_| self.may_be_longer);",
                "let lease = self.grant.lease.filter(|_| false);",
            ],
            "a_token_whose_renewal_was_not_answered_is_revoked_after_its_end",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: an unanswered revocation counts as living",
            "session/src/leaving.rs",
            ["self.unanswered || self.suspected", "self.suspected"],
            "a_revocation_whose_answer_was_lost_counts_for_nothing",
        ),
    ),
    of(
        "secret-resolver-session",
        core(
            "leaving: a token called dead is forgotten after one refusal",
            "session/src/leaving.rs",
            ["const BELIEVED: u32 = 4;", "const BELIEVED: u32 = 1;"],
            "what_may_be_gone_is_so_after_some_refusals_and_not_where_tokens_may_not_end_themselves",
        ),
    ),
    of(
        VAULT,
        core(
            "answers: a failing server with a large page is malformed",
            "transport/src/engine/connection.rs",
            [
                "Err(error) if status >= 500 && error.kind()",
                "Err(error) if status >= 600 && error.kind()",
            ],
            "a_failing_server_is_an_outage_however_large_its_page_is",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a section is passed over",
            "transport/src/trust/pem.rs",
            [
                "        check(label).map_err(located)?;\n",
                "        if check(label).map_err(located).is_err() {\n            at = body_at;\n            continue;\n        }\n",
            ],
            "no_section_of_a_file_is_passed_over",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a pin believes anybody",
            "transport/src/trust/mod.rs",
            [
                "pins.any(|pin| pin.der == certificate && pin.validity.contains(now))",
                "pins.any(|pin| pin.der.len() + certificate.len() > 0 && pin.validity.contains(now))",
            ],
            "a_server_that_signed_itself_as_an_authority_is_believed_as_a_pin_alone",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "trust: a file is never read again",
            "transport/src/trust/source.rs",
            [
                "            Some(read) => now >= read + wait,",
                "            Some(read) => now >= read + wait * 1000,",
            ],
            "a_new_authority_needs_no_restart",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: two lengths are taken",
            "transport/src/engine/connection.rs",
            [
                "                    && head.headers.contains_key(CONTENT_LENGTH)\n",
                "                    && head.headers.contains_key(\"x-none\")\n",
            ],
            "an_answer_with_two_lengths_is_malformed_and_its_connection_closed",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: older connections outlive one that is dead",
            "transport/src/engine/pool.rs",
            [
                "        if !self.answered {\n",
                "        if self.answered {\n",
            ],
            "when_a_kept_connection_falls_silent_the_older_ones_are_not_tried",
        ),
    ),
    of(
        "secret-resolver-transport",
        core(
            "transport: an address that was good is not remembered",
            "transport/src/engine/connect.rs",
            ["*self.good() = Some(address);", "let _ = address;"],
            "an_address_that_is_away_silent_or_false_holds_up_no_other",
        ),
    ),
    of(
        VAULT,
        core(
            "retry: an endpoint of no use fails a get",
            "src/layers/retry/mod.rs",
            [
                "let kinds = [Unavailable, Timeout, Throttled, Malformed, Refused];",
                "let kinds = [Unavailable, Timeout, Throttled, Refused];\n    let _ = Malformed;",
            ],
            "an_endpoint_that_gives_no_answer_of_use_fails_no_get",
        ),
    ),
    of(
        VAULT,
        core(
            "retry: an outage of one endpoint is the store's",
            "src/layers/retry/mod.rs",
            [
                "if !before.kind().permits().counts_for_breaker || outage =>",
                "if before.kind().permits().counts_for_breaker && outage =>",
            ],
            "where_no_endpoint_gives_an_answer_of_use_no_exception_follows",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a refused credential is shown to every endpoint",
            "session/src/login.rs",
            [
                "match is_nonsense(&first) || self.lock().is_calm() {",
                "match is_nonsense(&first) || number > 0 {",
            ],
            "a_refusal_is_confirmed_once_and_a_refused_credential_is_not_shown_to_all",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a refusal that nobody confirms is held for long",
            "session/src/state.rs",
            [
                "_ if refused && failed.unconfirmed => {",
                "_ if refused && failed.unconfirmed && failed.answers > 9 => {",
            ],
            "a_refusal_that_no_other_endpoint_could_confirm_is_not_held_for_long",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a renewal that hangs holds up reads",
            "session/src/session.rs",
            [
                "let own = |errand: &&Errand| errand.is_login && errand.endpoint == endpoint;",
                "let own = |errand: &&Errand| !errand.is_login || errand.endpoint == endpoint;",
            ],
            "a_renewal_that_hangs_holds_up_no_read",
        ),
    ),
    of(
        VAULT,
        core(
            "logins: a late refusal holds back after a success",
            "session/src/state.rs",
            [
                "let overtaken = |live: &Live<C>| live.token.since > asked;",
                "let overtaken = |live: &Live<C>| live.token.since < asked && live.token.since > asked;",
            ],
            "a_read_whose_own_login_fails_takes_the_token_that_another_has_brought",
        ),
    ),
    of(
        VAULT,
        core(
            "verdicts: a lookup that hangs is asked of no other endpoint",
            "session/src/verdict.rs",
            [
                "const ALONE: Duration = Duration::from_millis(500);",
                "const ALONE: Duration = Duration::from_secs(500);",
            ],
            "a_lookup_that_hangs_at_the_reads_endpoint_is_answered_by_another",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: one endpoint's refusal ends the shutdown's search",
            "session/src/revocation.rs",
            [
                "Some(Err(error)) => gone |= left.is_gone(&error, self.verdicts.can_look()),",
                "Some(Err(_)) => return Some(false),",
            ],
            "the_shutdown_revokes_at_any_endpoint_that_answers",
        ),
    ),
    of(
        VAULT,
        core(
            "leaving: a token in use at the shutdown is revoked twice",
            "session/src/revocation.rs",
            [
                "                if state.ended {\n                    // The shutdown does it.\n                    return Ok(());\n                }\n",
                "",
            ],
            "a_token_that_a_read_still_uses_at_the_shutdown_is_revoked_and_counted_once",
        ),
    ),
    core(
        "handles: an outage is asked about each second for ever",
        "src/layers/cache/keeper.rs",
        [
            "let wait = (Self::AGAIN * doubled).min(Self::LONGEST);",
            "let wait = Self::AGAIN.min(Self::LONGEST * doubled);",
        ],
        "in_an_outage_a_handle_asks_less_and_less_often",
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
        "breaker: a store that answers no good is never left alone",
        "src/layers/breaker/endpoint.rs",
        ["enough || self.useless.len() >= most", "enough"],
        "twenty_names_in_a_row_that_are_answered_nothing_of_use_open_it",
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
        "breaker: a known name has no place of its own",
        "src/layers/breaker/mod.rs",
        [
            "if admitted.is_none() && is_known {",
            "if admitted.is_none() && is_known && name == 0 {",
        ],
        "a_name_that_was_answered_before_tries_beside_the_trial_of_another",
    ),
    core(
        "breaker: a few names that bring no good close a store",
        "src/layers/breaker/endpoint.rs",
        ["const USELESS: usize = 4;", "const USELESS: usize = 1;"],
        "a_few_names_that_bring_no_good_close_a_healthy_store_for_no_other",
    ),
    core(
        "breaker: a service of some thousand names is not known",
        "src/layers/breaker/known.rs",
        ["const SETS: usize = 4_096;", "const SETS: usize = 256;"],
        "a_service_of_three_thousand_names_keeps_them_known",
    ),
    core(
        "breaker: what is shown of it waits for its lock",
        "src/layers/breaker/mod.rs",
        [
            "self.state.try_lock().ok().map(|state| state.status())",
            "Some(self.status())",
        ],
        "what_is_shown_of_a_breaker_waits_for_no_lock",
    ),
    core(
        "lanes: a store is shut down and its lanes are not",
        "src/layers/lanes.rs",
        ["let _ = lane.shutdown(deadline).await;", "let _ = lane;"],
        "shutdown_ends_every_wait_on_every_lane_and_the_store_once",
    ),
    core(
        "stack: a fair time leaves no time to wait",
        "src/stack/assemble.rs",
        [
            "limit.fair_time >= budget)",
            "limit.fair_time >= budget && budget.is_zero())",
        ],
        "what_leaves_no_time_or_no_room_is_refused_by_the_names_of_its_settings",
    ),
    core(
        "retry: a store's wish is waited for though another endpoint is idle",
        "src/layers/retry/mod.rs",
        [
            "_ if others => Duration::ZERO,",
            "_ if others && !others => Duration::ZERO,",
        ],
        "an_endpoint_that_asks_to_be_left_alone_is_not_waited_for_where_there_is_another",
    ),
    core(
        "retry: a breaker's refusal is retried",
        "src/layers/retry/mod.rs",
        [" || error.is_held_back()", ""],
        "a_breakers_refusal_is_answered_at_once",
    ),
];
