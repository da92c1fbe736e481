//! Looks for a secret in this process's own memory, as an attacker with its rights would. Linux.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

use crate::error::Error;
use crate::secret::SecretBuf;
use crate::sync::lock;

/// A value that stands nowhere in memory except where it is put, to be looked for there.
///
/// It is itself kept masked, so that the search does not find what it searches with. Each canary has
/// another value: tests of one process do not find each other's.
///
/// ```
/// use secret_resolver::testing::Canary;
///
/// let canary = Canary::new();
/// let value = canary.value()?;
/// assert_eq!(canary.found()?, 1);
/// drop(value);
/// assert_eq!(canary.found()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Canary {
    masked: [u8; Self::LENGTH],
}

impl Canary {
    /// How many bytes the value has: letters, digits, `-` and `_`, so that it may stand in any format.
    pub const LENGTH: usize = 40;

    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    /// No masked letter is a letter.
    const MASK: u8 = 0xda;
    const PAGE: usize = 4096;

    /// What is looked for. An allocator writes over the ends of what was given back to it, so a copy
    /// that was freed and not wiped still has this part.
    const MIDDLE: std::ops::Range<usize> = 16..32;

    /// Draws a value.
    #[must_use]
    pub fn new() -> Self {
        let mut masked = [0; Self::LENGTH];
        for (number, part) in masked.chunks_mut(8).enumerate() {
            // Keys that differ for each; not for cryptography, only for values that differ.
            let drawn = RandomState::new().hash_one(number).to_ne_bytes();
            for (masked, drawn) in part.iter_mut().zip(drawn) {
                *masked = Self::LETTERS[usize::from(drawn % 64)] ^ Self::MASK;
            }
        }
        Self { masked }
    }

    /// Looks for a value that somebody else has made, such as a part of a signature. The caller wipes its own copy.
    #[must_use]
    pub fn of(value: &[u8; Self::LENGTH]) -> Self {
        let mut masked = [0; Self::LENGTH];
        // One by one: a copy of all would stay on the stack.
        for (masked, byte) in masked.iter_mut().zip(value) {
            *masked = byte ^ Self::MASK;
        }
        Self { masked }
    }

    /// The value, in the clear.
    ///
    /// # Errors
    /// As [`SecretBuf::with_capacity`].
    pub fn value(&self) -> Result<SecretBuf, Error> {
        let mut value = SecretBuf::with_capacity(Self::LENGTH)?;
        for byte in self.masked {
            value.push(&[byte ^ Self::MASK])?;
        }
        Ok(value)
    }

    /// How often the value stands in the memory that this process can write. A copy in freed memory
    /// counts, although its ends may be gone.
    ///
    /// It reads all of it, which takes tenths of a second. What another thread copies
    /// meanwhile may be missed or found twice.
    ///
    /// # Errors
    /// When `/proc/self` cannot be read: after [`harden`](crate::harden()) by root alone.
    pub fn found(&self) -> io::Result<usize> {
        // The window of another search holds what it is filled with: one at a time.
        static SEARCH: Mutex<()> = Mutex::new(());
        let _search = lock(&SEARCH);
        let memory = File::open("/proc/self/mem")?;
        let maps = BufReader::new(File::open("/proc/self/maps")?);
        let mut window = vec![0_u8; 1 << 20];
        let mut count = 0;
        for line in maps.lines() {
            if let Some((start, end)) = writable(&line?) {
                let read = |part: &mut [u8], at| memory.read_exact_at(part, at);
                count += self.found_in(read, start, end, &mut window);
            }
        }
        Ok(count)
    }

    /// How often it stands from `start` to `end` of what `read_at` reads, a window at a time.
    fn found_in(
        &self,
        read_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
        start: u64,
        end: u64,
        window: &mut [u8],
    ) -> usize {
        // The window itself is not searched: while it is filled it holds what it is filled with.
        let own = window.as_ptr() as u64..window.as_ptr() as u64 + window.len() as u64;
        let mut at = start;
        let mut count = 0;
        let mut most = window.len();
        while at < end {
            if own.contains(&at) {
                at = own.end;
                continue;
            }
            let stop = if at < own.start {
                end.min(own.start)
            } else {
                end
            };
            // No longer than the window, so it fits.
            let wanted = usize::try_from(stop - at).unwrap_or(usize::MAX);
            let wanted = wanted.min(most);
            let read = &mut window[..wanted];
            // A mapping may have gone since it was listed, and some pages cannot be read at all.
            if read_at(read, at).is_err() {
                match wanted > Self::PAGE {
                    true => most = Self::PAGE,
                    // On to the next page.
                    false => at = (at / Self::PAGE as u64 + 1) * Self::PAGE as u64,
                }
                continue;
            }
            for byte in &mut *read {
                *byte ^= Self::MASK;
            }
            let middle = &self.masked[Self::MIDDLE];
            let places = read.windows(middle.len());
            count += places.filter(|place| *place == middle).count();
            read.fill(0);
            // A value may lie across two windows, except for the last bytes of a mapping.
            let last = at + wanted as u64 >= stop;
            let overlap = if last { 0 } else { middle.len() as u64 - 1 };
            at += wanted as u64 - overlap;
        }
        count
    }
}

/// The bounds of a mapping that can be read and written, from its line in `/proc/self/maps`.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut parts = line.split_whitespace();
    let (range, rights) = (parts.next()?, parts.next()?);
    let (start, end) = range.split_once('-').filter(|_| rights.starts_with("rw"))?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canary([masked])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_is_found_and_what_is_wiped_is_not() {
        let canary = Canary::new();
        let copies: Vec<_> = (0..3).map(|_| canary.value().unwrap()).collect();
        assert_eq!(canary.found().unwrap(), 3);
        let plain = copies[0].expose().to_vec();
        assert_eq!(canary.found().unwrap(), 4);
        drop(copies);
        assert_eq!(canary.found().unwrap(), 1);
        drop(zeroize::Zeroizing::new(plain));
        assert_eq!(canary.found().unwrap(), 0);
    }

    #[test]
    fn a_page_that_cannot_be_read_hides_no_other() {
        let canary = Canary::new();
        let value = canary.value().unwrap();
        let page = Canary::PAGE as u64;
        // Of six pages three cannot be read, two of them side by side; a copy begins at each of the others.
        let read_at = |part: &mut [u8], at: u64| {
            for (place, byte) in (at..).zip(part) {
                if [0, 2, 3].contains(&(place / page)) {
                    return Err(io::ErrorKind::Other.into());
                }
                let within = usize::try_from(place % page).unwrap();
                *byte = value.expose().get(within).copied().unwrap_or_default();
            }
            Ok(())
        };
        let mut window = vec![0; 3 * Canary::PAGE];
        assert_eq!(canary.found_in(read_at, 0, 6 * page, &mut window), 3);
    }

    #[test]
    fn what_is_freed_and_not_wiped_is_found() {
        let canary = Canary::new();
        let value = canary.value().unwrap();
        // Filled by hand: nothing wipes it. Of a size that the search itself does not ask for.
        let mut plain = vec![0_u8; 640];
        plain[300..300 + Canary::LENGTH].copy_from_slice(value.expose());
        drop(value);
        assert_eq!(canary.found().unwrap(), 1);
        drop(plain);
        assert_eq!(canary.found().unwrap(), 1);
    }

    #[test]
    fn a_value_across_two_windows_is_found_once() {
        let canary = Canary::new();
        // Larger than the window, so that some offset lies across its end wherever it begins.
        let mut large = zeroize::Zeroizing::new(vec![0_u8; 3 << 20]);
        let value = canary.value().unwrap();
        for at in [
            0,
            (1 << 20) - 20,
            (1 << 20) + 77,
            large.len() - Canary::LENGTH,
        ] {
            large.fill(0);
            large[at..at + Canary::LENGTH].copy_from_slice(value.expose());
            assert_eq!(canary.found().unwrap(), 2, "at {at}");
        }
        let page = 4096;
        for at in (page - 20..(2 << 20)).step_by(64 * page) {
            large.fill(0);
            large[at..at + Canary::LENGTH].copy_from_slice(value.expose());
            assert_eq!(canary.found().unwrap(), 2, "at {at}");
        }
    }

    #[test]
    fn a_value_that_somebody_else_has_made_is_looked_for_as_well() {
        let canary = Canary::new();
        let value = canary.value().unwrap();
        let same = Canary::of(value.expose().try_into().unwrap());
        assert_eq!(same.found().unwrap(), canary.found().unwrap());
        drop(value);
        assert_eq!(same.found().unwrap(), 0);
    }

    #[test]
    fn two_canaries_are_not_taken_for_each_other() {
        let (one, other) = (Canary::new(), Canary::new());
        let _value = one.value().unwrap();
        assert_eq!((one.found().unwrap(), other.found().unwrap()), (1, 0));
    }
}
