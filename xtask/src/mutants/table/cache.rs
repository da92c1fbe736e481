//! What is broken in the cache, except its handles: `src/layers/cache/`.

use super::{Mutant, core};

pub(super) const MUTANTS: &[Mutant] = &[
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
        "1: a life counts from the landing",
        "src/layers/cache/life.rs",
        [
            "let full = (terms.asked + terms.ttl).min(terms.lease_used);",
            "let full = (now + terms.ttl).min(terms.lease_used);",
        ],
        "a_life_counts_from_the_request_however_late_the_answer",
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
        "src/layers/cache/judge.rs",
        [
            "self.core.clock.lost() > asked.lost",
            "self.core.clock.lost() < asked.lost",
        ],
        "no_schedule_breaks_the_fence_the_single_flight_or_the_expiry",
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
        "3: what was fetched before an invalidation lands",
        "src/layers/cache/judge.rs",
        [
            "flight.is_fenced(asked.epoch)",
            "flight.is_fenced(u64::MAX)",
        ],
        "after_invalidate_no_get_answers_what_was_fetched_before",
    ),
    core(
        "3: an invalidated slot keeps its value for those that were handed it",
        "src/layers/cache/slot.rs",
        [
            "let contents = slot.contents.swap(None);",
            "let contents = slot.contents.load_full();",
        ],
        "an_answer_that_a_waiter_has_not_taken_yet_is_fenced_too",
    ),
    core(
        "3: a signal fences no flight",
        "src/layers/cache/invalidation.rs",
        [
            "if let Some((flight, _)) = self.flights.get(address) {",
            "if let Some((flight, _)) = self.flights.get(\"\") {",
        ],
        "no_schedule_breaks_the_fence_the_single_flight_or_the_expiry",
    ),
    core(
        "3: a signal misses a stale value under a name that was never asked for",
        "src/layers/cache/mod.rs",
        [
            "let Some(slot) = self.core.slot_of(located, request.name()) else {",
            "let Some(slot) = self.core.store.at(located.address().as_str()) else {",
        ],
        "no_stale_value_is_answered_under_a_name_that_was_signalled_before_it_was_asked_for",
    ),
    core(
        "3: a prefix misses a name that was never asked for",
        "src/layers/cache/core.rs",
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
            "latest().is_some_and(|signal| began < signal.epoch)",
            "latest().is_none_or(|signal| began < signal.epoch)",
        ],
        "a_signal_for_strangers_costs_nothing",
    ),
    core(
        "3: a signal that falls off the list is forgotten",
        "src/layers/cache/signals.rs",
        [
            "self.forgotten = oldest.max(self.forgotten);",
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
        "3: an answer that is proved new is distrusted anyway",
        "src/layers/cache/settle.rs",
        [
            "narrow.settled |= narrow.dropped.is_some_and(differs);",
            "narrow.settled &= narrow.dropped.is_some_and(differs);",
        ],
        "a_version_that_is_proved_new_is_trusted_also_after_a_signal_for_everything",
    ),
    core(
        "3: a flood of signals makes an old answer trusted",
        "src/layers/cache/settle.rs",
        [
            "        self.forget(oldest);\n    }\n\n    /// A keyed",
            "        drop(oldest);\n    }\n\n    /// A keyed",
        ],
        "a_flood_of_other_signals_makes_no_old_answer_trusted",
    ),
    core(
        "4: a get does not join the flight of another",
        "src/layers/cache/core.rs",
        [
            "if let Some((flight, _)) = state.flights.get(address) {",
            "if let Some((flight, _)) = state.flights.get(\"\") {",
        ],
        "the_assembled_resolver_keeps_all_laws_of_caching",
    ),
    core(
        "5: the sweeper does not learn of a value's end",
        "src/layers/cache/landing.rs",
        ["core.sweeper.due_at(slot.life.ends);", ""],
        "a_cached_value_stands_once_in_memory_and_not_at_all_after_expiry",
    ),
    core(
        "5: a shutdown leaves the values",
        "src/layers/cache/core.rs",
        [
            "let values = self.store.take_all();",
            "let values: Vec<crate::layers::cache::slot::Detached> = Vec::new();",
        ],
        "a_value_is_gone_from_memory_after_shutdown",
    ),
    core(
        "5: a shutdown is taken for an outage",
        "src/layers/cache/core.rs",
        [
            "        ErrorKind::Closed,\n        \"the resolver was shut down; build a new one\",",
            "        ErrorKind::Unavailable,\n        \"the resolver was shut down; build a new one\",",
        ],
        "a_shutdown_is_not_an_outage_and_lets_no_fallback_answer",
    ),
    core(
        "11: a lower version is taken",
        "src/layers/cache/seen.rs",
        [
            "Some(entry) if version < entry.version => {",
            "Some(entry) if version < entry.version && version == u64::MAX => {",
        ],
        "a_version_that_was_rolled_back_is_refused_until_it_counts_as_a_new_life",
    ),
    core(
        "11: other endpoints are not asked for what one is behind with",
        "src/layers/cache/landing.rs",
        [
            "self.core.inner.endpoints().saturating_sub(1);",
            "self.core.inner.endpoints().min(0);",
        ],
        "an_endpoint_that_is_behind_is_passed_over_for_the_next",
    ),
    core(
        "12: a refresh that is refused leaves the value",
        "src/layers/cache/landing.rs",
        ["out.extend(core.store.take(address));", "let _ = address;"],
        "a_refresh_that_is_refused_drops_the_value_at_once",
    ),
    core(
        "refresh: a hot name waits for its refresh",
        "src/layers/cache/life.rs",
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
            "if (any || !kept) && !self.pinned.contains_key(&*slot.address) {",
            "if any || !kept {",
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
        "src/layers/cache/core.rs",
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
            "self.make_room(&mut table, slot)?;",
            "let _ = self.make_room(&mut table, slot);",
        ],
        "a_value_that_finds_no_room_costs_no_other_value_its_place",
    ),
    core(
        "bounds: a value is evicted before its waiter has read it",
        "src/layers/cache/store.rs",
        [
            "let kept = held.is_awaited() || slot.take_visited();",
            "let kept = slot.take_visited();",
        ],
        "a_burst_of_cold_names_on_a_full_cache_is_one_fetch_a_name",
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
        "negatives: a refusal soon after a signal is trusted",
        "src/layers/cache/negative.rs",
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
        "routes: a signal in a store's own ids reaches nobody",
        "src/layers/cache/invalidation.rs",
        [
            "let mut addresses = self.inner.addresses(address);",
            "let mut addresses = Vec::new();",
        ],
        "a_signal_in_a_stores_own_ids_reaches_every_route_and_every_scope",
    ),
    core(
        "back-off: what is useless is asked for at every get",
        "src/layers/cache/negative.rs",
        [
            "held.min(Self::LONGEST).max(asked)",
            "held.min(Duration::ZERO).max(asked)",
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
        "handles: a landing that another has asked for is not noticed",
        "src/layers/cache/landing.rs",
        [
            "core.keeper.landed(slot, |name| {",
            "let _ = (slot, |name: &SecretName| {",
        ],
        "every_landing_is_heard_however_it_was_asked_for",
    ),
    core(
        "settle: a prefix revives what an old signal has dropped",
        "src/layers/cache/settle.rs",
        [
            "narrow.filter(|narrow| now < narrow.own.came + time);",
            "narrow.filter(|narrow| narrow.own.came < now + time);",
        ],
        "nor_does_one_for_a_prefix",
    ),
    core(
        "batches: a record that was signalled under another name is answered",
        "src/layers/cache/invalidation.rs",
        ["for slot in &taken {", "for slot in taken.iter().take(0) {"],
        "a_batch_answers_no_record_that_was_signalled_under_another_name_while_it_waited",
    ),
    core(
        "11: an endpoint that is behind is asked again",
        "src/layers/cache/landing.rs",
        [
            ".for_each(|endpoint| behind.add(endpoint));",
            ".for_each(drop);",
        ],
        "an_endpoint_that_is_behind_is_asked_once_and_then_each_other_by_its_number",
    ),
    core(
        "3: after a signal a replica may answer",
        "src/layers/cache/settle.rs",
        [
            "lately && (settling || seen.is_none_or(|epoch| epoch < signal.epoch))",
            "lately && settling",
        ],
        "for_a_minute_after_a_signal_the_latest_version_is_wanted",
    ),
    core(
        "status: what a breaker refused is a fetch",
        "src/layers/cache/core.rs",
        [
            "if audit::was_asked(&answer) {",
            "if true || audit::was_asked(&answer) {",
        ],
        "the_status_counts_as_fetches_only_what_asked_the_store",
    ),
    core(
        "11: that others are away hides a lower version",
        "src/layers/cache/landing.rs",
        [
            "Some(refused) if error.kind().permits().stale => Error::clone(refused),",
            "Some(refused) if Error::kind(refused).permits().stale => Error::clone(refused),",
        ],
        "a_rollback_while_the_other_endpoint_is_left_alone_is_refused",
    ),
    core(
        "3: a later signal has settled with an earlier one",
        "src/layers/cache/settle.rs",
        [
            "narrow.settled && is_latest(narrow)",
            "narrow.settled || is_latest(narrow) && narrow.settled",
        ],
        "a_later_signal_for_a_prefix_wants_the_latest_version_until_it_has_settled",
    ),
    core(
        "memory: only the largest field of a record counts",
        "src/secret/record.rs",
        [
            "name.len() + value.capacity())\n            .sum()",
            "name.len() + value.capacity())\n            .max()\n            .unwrap_or_default()",
        ],
        "many_small_fields_are_one_record_that_is_too_large",
    ),
    core(
        "bounds: a time to live of two days is taken",
        "src/layers/cache/config.rs",
        [
            "const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);",
            "const LONGEST_TTL: Duration = Duration::from_secs(48 * 3600);",
        ],
        "a_time_to_live_is_from_a_second_to_a_day_for_a_prefix_too",
    ),
    core(
        "negatives: what is not there is forgotten after a second",
        "src/layers/cache/negative.rs",
        [
            "let word = Self::LONGEST;",
            "let word = Duration::from_secs(1);",
        ],
        "what_is_not_there_is_asked_for_once_in_five_seconds",
    ),
    core(
        "12: a refresh that fails counts as one that found nothing new",
        "src/layers/cache/judge.rs",
        [
            "        let answer = answer?;\n",
            "        let answer = match answer {\n            Err(error) if !error.kind().is_of_the_secret() && asked.held.is_some() => Record::unchanged(\"mock\"),\n            answer => answer?,\n        };\n",
        ],
        "neither_a_hit_nor_a_refresh_that_fails_lengthens_a_life",
    ),
    core(
        "shutdown: the caller's waker is called on the thread of all fetches",
        "src/layers/cache/mod.rs",
        ["self.core.aside.woken(wait)", "wait"],
        "a_waker_that_blocks_at_a_shutdown_holds_up_no_fetch_of_another_resolver",
    ),
];
