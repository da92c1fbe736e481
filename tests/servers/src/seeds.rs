//! The inputs that fuzzing begins with, for the tests that go through them.

use std::fs;

use crate::tools::workspace;

/// Tries the seeds of one of the targets in `fuzz/`, and with them every input that was ever found to fail.
/// `hold` panics where a property does not hold, and says whether the input was taken.
///
/// # Panics
/// They cannot be read; all of them are taken or none is, so that one half of what holds was not tried.
pub fn try_seeds(target: &str, hold: impl Fn(&[u8]) -> bool) {
    let folder = workspace().join("fuzz/corpus").join(target);
    let read = || -> std::io::Result<Vec<_>> {
        let files = fs::read_dir(folder)?;
        files.map(|file| fs::read(file?.path())).collect()
    };
    let Ok(seeds) = read() else {
        panic!("there are no seeds for {target} in fuzz/corpus");
    };
    let taken = seeds.iter().filter(|seed| hold(seed)).count();
    assert!(
        0 < taken && taken < seeds.len(),
        "of {} seeds of {target}, {taken} are taken",
        seeds.len()
    );
}
