//! What is broken in the handles of the cache: its `handle.rs` and `keeper.rs`.

use super::{Mutant, core};

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "bounds: a handle's record is evicted",
        "src/layers/cache/handle.rs",
        ["core.store.pin(&[(address.clone(), 0)])?;", ""],
        "a_handle_keeps_its_record_from_eviction_until_it_is_dropped",
    ),
    core(
        "handles: the same value again is reported as a change",
        "src/layers/cache/handle.rs",
        [
            "if self.print.replace(print) != Some(print) {",
            "if self.print.replace(print) != Some(print) || self.print.is_some() {",
        ],
        "a_refresh_that_brings_the_same_value_is_not_a_change_of_a_handle",
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
        "handles: a signal between a landing and its news is forgotten",
        "src/layers/cache/keeper.rs",
        ["match taken || names.any(&concerned) {", "match false {"],
        "a_signal_between_a_landing_and_its_news_is_not_forgotten",
    ),
    core(
        "handles: a read of a handle asks the store",
        "src/layers/cache/handle.rs",
        [
            "Some(hit.record)",
            "if hit.refresh { self.cache.keeper.due_now(&self.address); } Some(hit.record)",
        ],
        "a_handle_that_is_read_often_asks_no_more_often",
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
        "handles: the first of two that is dropped lets their record be evicted",
        "src/layers/cache/store.rs",
        [
            "let users = known.users + more;",
            "let users = more.max(known.users);",
        ],
        "a_record_is_exempt_from_eviction_until_its_last_handle_is_dropped",
    ),
    core(
        "handles: what the last one was for is never evicted",
        "src/layers/cache/store.rs",
        ["if pin.users == 0 {", "if pin.users == usize::MAX {"],
        "a_record_is_exempt_from_eviction_until_its_last_handle_is_dropped",
    ),
];
