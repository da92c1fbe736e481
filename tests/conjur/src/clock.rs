//! The server's clock: the system's, moved by as much as a test says. It is the only place that reads the system's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, with a shift.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    shift_ms: AtomicI64,
}

impl ServerClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "tokens and JWTs carry wall-clock times, and this is where the server reads it"
    )]
    pub(crate) fn now_ms(&self) -> i64 {
        // A system clock before 1970 is no clock.
        let system = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(system.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_add(self.shift_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn now(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    pub(crate) fn shift(&self, by_ms: i64) {
        self.shift_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// As Rails writes a time: `2026-11-26T15:13:14.000+00:00`.
pub(crate) fn iso8601(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}+00:00")
}

/// The date that is so many days after the first of January 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from the first of March 2000, so that a leap day is the last day of its year, of its four years, and of its 400 years.
    let days = days - 11_017;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let century = (in_era / 36_524).min(3);
    let in_century = in_era - century * 36_524;
    let four = in_century / 1461;
    let in_four = in_century % 1461;
    let year = (in_four / 365).min(3);
    let in_year = in_four - year * 365;
    let month = (in_year * 5 + 2) / 153;
    let day = in_year - (month * 153 + 2) / 5 + 1;
    let year = 2000 + era * 400 + century * 100 + four * 4 + year;
    match month {
        0..=9 => (year, month + 3, day),
        _ => (year + 1, month - 9, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_recorded_server_writes_it() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000+00:00"),
            (951_782_400_123, "2000-02-29T00:00:00.123+00:00"),
            (1_795_330_680_000, "2026-11-22T06:58:00.000+00:00"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999+00:00"),
        ] {
            assert_eq!(iso8601(ms), text);
        }
    }
}
