//! One build with all mutants of a sample in it. What does not compile is left out, round by round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::render::{CHOSEN, rendered};
use super::sites::Site;
use crate::workspace::{Result, cargo, target};

/// A mutant of the sample.
pub(super) struct Drawn {
    pub(super) file: String,
    pub(super) site: Site,
}

/// A test program, and where it runs.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) package: PathBuf,
    /// Whether it has the unit tests of a crate.
    pub(super) is_unit: bool,
}

/// Builds the tests with all of `drawn` that compile; returns the programs, and which mutants those are.
pub(super) fn build(tree: &Path, drawn: &[Drawn]) -> Result<(Vec<Program>, BTreeSet<usize>)> {
    let originals = originals(tree, drawn)?;
    // Number 0 is not one of them.
    let mut kept: BTreeSet<usize> = (1..=drawn.len()).collect();
    for _ in 0..40 {
        let places = write(tree, drawn, &originals, &kept)?;
        let mut bad = faults(
            &messages(tree, &["build", "--lib", "--keep-going"])?,
            &places,
        );
        if bad.is_empty() {
            let said = messages(tree, &["test", "--no-run", "--lib", "--tests"])?;
            bad = faults(&said, &places);
            if bad.is_empty() {
                let programs = programs(&said);
                return match programs.is_empty() {
                    false => Ok((programs, kept)),
                    true => Err("the tests of the copy do not compile".to_owned()),
                };
            }
        }
        println!("{} do not compile", bad.len());
        if !bad.iter().any(|number| kept.remove(number)) {
            return Err("the copy does not compile for a reason that no mutant has".to_owned());
        }
        kept.retain(|number| !bad.contains(number));
    }
    Err("there are always more mutants that do not compile".to_owned())
}

fn originals(tree: &Path, drawn: &[Drawn]) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeSet<String> = drawn.iter().map(|drawn| drawn.file.clone()).collect();
    files.extend(libs(drawn));
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(tree.join(&file));
            Ok((
                file.clone(),
                text.map_err(|error| format!("cannot read {file}: {error}"))?,
            ))
        })
        .collect()
}

/// The first file of each crate that has a mutant.
fn libs(drawn: &[Drawn]) -> BTreeSet<String> {
    let lib = |drawn: &Drawn| {
        let (before, _) = drawn.file.split_once("src/").unwrap_or_default();
        format!("{before}src/lib.rs")
    };
    drawn.iter().map(lib).collect()
}

/// Those that have mutants, and the tests that notice them.
const PACKAGES: [&str; 8] = [
    "secret-resolver",
    "secret-resolver-transport",
    "secret-resolver-session",
    "secret-resolver-env",
    "secret-resolver-vault",
    "secret-resolver-conjur",
    "secret-resolver-json",
    "secret-resolver-spiffe",
];

type Places = BTreeMap<String, Vec<(usize, Range<usize>)>>;

/// Writes all files again, with these mutants in them; returns where each stands.
fn write(
    tree: &Path,
    drawn: &[Drawn],
    originals: &BTreeMap<String, String>,
    kept: &BTreeSet<usize>,
) -> Result<Places> {
    let libs = libs(drawn);
    let mut places = Places::new();
    for (file, text) in originals {
        let here = kept
            .iter()
            .filter(|&&number| drawn[number - 1].file == *file);
        let sites: Vec<_> = here
            .map(|&number| (number, &drawn[number - 1].site))
            .collect();
        let (mut out, at) = rendered(text, &sites);
        if libs.contains(file) {
            out.push_str(CHOSEN);
        }
        let path = tree.join(file);
        // What is the same is left alone, so that it is not built again.
        if fs::read_to_string(&path).is_ok_and(|held| held != out) {
            fs::write(&path, out).map_err(|error| format!("cannot write {file}: {error}"))?;
        }
        places.insert(file.clone(), at);
    }
    Ok(places)
}

/// What cargo and the compiler say.
fn messages(tree: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = cargo();
    command
        .current_dir(tree)
        .args(arguments)
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .args(["--locked", "--all-features", "--message-format=json"])
        .env("CARGO_TARGET_DIR", target().join("mutants/target"))
        .env("CARGO_INCREMENTAL", "0")
        .stderr(Stdio::null());
    let output = command.output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The mutants that errors are about.
fn faults(messages: &[Value], places: &Places) -> BTreeSet<usize> {
    let errors = messages.iter().filter(|message| {
        message["reason"] == "compiler-message" && message["message"]["level"] == "error"
    });
    let fault = |message: &Value| {
        let spans = message["message"]["spans"].as_array().into_iter().flatten();
        spans.flat_map(|span| at(span, places)).collect::<Vec<_>>()
    };
    errors.flat_map(fault).collect()
}

/// The innermost mutant that has the place in it; else the nearest, because what is moved in a mutant is missed elsewhere.
fn at(span: &Value, places: &Places) -> Option<usize> {
    let place = |key| usize::try_from(span[key].as_u64()?).ok();
    let (start, end) = (place("byte_start")?, place("byte_end")?);
    let file = span["file_name"].as_str()?;
    let (_, here) = places.iter().find(|(name, _)| same(file, name))?;
    let innermost = here
        .iter()
        .filter(|(_, place)| place.start <= start && end <= place.end);
    let innermost = innermost.min_by_key(|(_, place)| place.len());
    let far = |place: &Range<usize>| place.start.abs_diff(start).min(place.end.abs_diff(start));
    let nearest = || here.iter().min_by_key(|(_, place)| far(place));
    innermost.or_else(nearest).map(|(number, _)| *number)
}

/// Cargo names files from the workspace's folder on, or in full.
fn same(shown: &str, name: &str) -> bool {
    shown == name || shown.ends_with(&format!("mutants/tree/{name}"))
}

fn programs(messages: &[Value]) -> Vec<Program> {
    let artifacts = messages.iter().filter(|message| {
        message["reason"] == "compiler-artifact" && message["profile"]["test"] == true
    });
    let program = |message: &Value| {
        let path = PathBuf::from(message["executable"].as_str()?);
        let manifest = PathBuf::from(message["manifest_path"].as_str()?);
        let kinds = message["target"]["kind"].as_array()?;
        Some(Program {
            path,
            package: manifest.parent()?.to_owned(),
            is_unit: kinds.iter().any(|kind| kind == "lib"),
        })
    };
    artifacts.filter_map(program).collect()
}
