//! `mutants --sample N [--seed S] [folder…]`: tries N mutants that nobody chose, from every folder. All of them are in one build,
//! and a variable chooses one, so that trying it takes the time of the tests that reach it.
//!
//! What survives either changes nothing that anybody can see, and is explained in `xtask/mutants-survivors.md`, or lacks a test.

mod build;
mod render;
mod runs;
mod sites;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{copy, rust_below};
use crate::workspace::{Result, root};
use build::Drawn;
use runs::Fate;

/// Tries a sample: `arguments` are those of the command after `--sample`.
pub(super) fn run(arguments: &[String]) -> Result {
    let options = Options::parse(arguments)?;
    let drawn = draw(all(&options.folders)?, options.number, options.seed);
    println!("{} mutants are drawn", drawn.len());
    let tree = copy()?;
    let (programs, kept) = build::build(&tree, &drawn)?;
    println!("{} of them compile", kept.len());
    let tests = runs::tests(&programs, options.workers)?;
    #[allow(clippy::disallowed_methods, reason = "a tool's own patience")]
    let until = Instant::now() + options.patience;
    let count = Mutex::new(0_usize);
    let progress = |number: usize, fate: &Fate| {
        let drawn = &drawn[number - 1];
        let mut count = count
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *count += 1;
        let (file, line, what) = (&drawn.file, drawn.site.line, &drawn.site.what);
        println!("{count} | {number} | {file}:{line} | {what} | {fate:?}");
    };
    let mut numbers: Vec<usize> = kept.into_iter().collect();
    // In no order, so that those that are tried in time are of every folder.
    shuffle(&mut numbers, &mut Random(options.seed));
    let fates = runs::fates(
        &programs,
        &tests,
        &numbers,
        options.workers,
        until,
        progress,
    );
    report(&drawn, &fates);
    Ok(())
}

struct Options {
    number: usize,
    seed: u64,
    workers: usize,
    patience: Duration,
    folders: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            number: 0,
            seed: 1,
            workers: 3,
            patience: Duration::from_secs(3600),
            folders: Vec::new(),
        };
        let usage = "usage: cargo xtask mutants --sample N [--seed S] [--minutes M] [folder…]";
        let number = |text: Option<&String>| -> Result<u64> {
            let number = text.and_then(|text| text.parse().ok());
            number.ok_or_else(|| usage.to_owned())
        };
        let mut arguments = arguments.iter();
        options.number = usize::try_from(number(arguments.next())?).unwrap_or(usize::MAX);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seed" => options.seed = number(arguments.next())?,
                "--minutes" => {
                    options.patience = Duration::from_secs(60 * number(arguments.next())?);
                }
                folder => options.folders.push(folder.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Every possible mutant of what is delivered, by folder.
fn all(folders: &[String]) -> Result<BTreeMap<String, Vec<Drawn>>> {
    let mut all: BTreeMap<String, Vec<Drawn>> = BTreeMap::new();
    for part in ["src", "crates", "backends"] {
        for path in rust_below(&root().join(part)) {
            let file = path
                .strip_prefix(root())
                .unwrap_or(&path)
                .display()
                .to_string();
            let chosen =
                folders.is_empty() || folders.iter().any(|folder| file.starts_with(folder));
            if !chosen || is_of_tests(&file) {
                continue;
            }
            let text = fs::read_to_string(&path);
            let text = text.map_err(|error| format!("cannot read {file}: {error}"))?;
            let sites = sites::sites(&text).map_err(|error| format!("{file}: {error}"))?;
            let drawn = sites.into_iter().map(|site| Drawn {
                file: file.clone(),
                site,
            });
            all.entry(folder(&file)).or_default().extend(drawn);
        }
    }
    Ok(all)
}

fn is_of_tests(file: &str) -> bool {
    let parts = Path::new(file)
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    let of_tests = [
        "tests",
        "tests.rs",
        "properties.rs",
        "model",
        "model.rs",
        "examples",
    ];
    let mut parts = parts.peekable();
    parts.any(|part| of_tests.contains(&&*part))
}

/// What the report counts together.
fn folder(file: &str) -> String {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    folder.display().to_string()
}

/// This many of all, each folder by its size and none without one.
fn draw(all: BTreeMap<String, Vec<Drawn>>, number: usize, seed: u64) -> Vec<Drawn> {
    let mut random = Random(seed);
    let total: usize = all.values().map(Vec::len).sum();
    println!("{total} mutants are possible");
    let mut drawn = Vec::new();
    for (_, mut of_folder) in all {
        let part = (of_folder.len() * number).div_ceil(total.max(1));
        shuffle(&mut of_folder, &mut random);
        of_folder.truncate(part);
        drawn.extend(of_folder);
    }
    drawn
}

/// SplitMix64: the same sample for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap_or(0) % bound
    }
}

fn shuffle<T>(all: &mut [T], random: &mut Random) {
    for last in (1..all.len()).rev() {
        all.swap(last, random.below(last + 1));
    }
}

fn report(drawn: &[Drawn], fates: &BTreeMap<usize, Fate>) {
    let mut folders: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for (&number, fate) in fates {
        let counts = folders.entry(folder(&drawn[number - 1].file)).or_default();
        let at = match fate {
            Fate::Noticed(_) => 0,
            Fate::Survived(_) => 1,
            Fate::NotReached => 2,
        };
        counts[at] += 1;
    }
    println!("folder | tried | noticed | survived | not reached");
    let mut sum = [0; 3];
    for (folder, counts) in &folders {
        let [noticed, survived, unreached] = counts;
        let tried = noticed + survived + unreached;
        println!("{folder} | {tried} | {noticed} | {survived} | {unreached}");
        sum.iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    let [noticed, survived, unreached] = sum;
    println!(
        "in all | {} | {noticed} | {survived} | {unreached}",
        noticed + survived + unreached
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_sample_again_and_of_every_folder() {
        let drawn = |seed| {
            let drawn = draw(all(&[]).unwrap(), 200, seed);
            let places = drawn
                .iter()
                .map(|drawn| (drawn.file.clone(), drawn.site.range.start));
            places.collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        for folder in [
            "src/layers/cache/",
            "crates/session/src/",
            "backends/env/src/",
        ] {
            assert!(drawn(7).iter().any(|(file, _)| file.starts_with(folder)));
        }
        assert!(drawn(7).iter().all(|(file, _)| !file.contains("tests")));
    }
}
