//! `threat-model`: checks THREAT_MODEL.md against threat-model-tests.txt, and that file against the last whole run of the tests. It
//! owns the check; `document` reads the one file, `entries` the other, and `test.rs` finds which tests ran.
//!
//! Every row of the document has an id and exactly one entry in the file. An entry names tests, or says `not yet`, or `none:` and a
//! reason; the last two also stand in the row, in words ([`marks_of`]). A test is named by its own name and as much of its path before
//! that as makes it unique: `secret-resolver-vault::openbao::login::a_dead_token_is_renewed` or `login::a_dead_token_is_renewed`.

use std::collections::{HashMap, HashSet};
use std::fs;

use crate::workspace::{Result, root, target};

use document::Document;
use entries::{Entry, Proof};

mod document;
mod entries;

const DOCUMENT: &str = "THREAT_MODEL.md";
const ENTRIES: &str = "threat-model-tests.txt";

/// A test that ran: its binary's id and its path there, joined by `::`, and whether it passed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) path: String,
    pub(crate) passed: bool,
}

pub(crate) fn run() -> Result {
    let ran = recorded()?;
    let faults = faults(&read(DOCUMENT)?, &read(ENTRIES)?, &ran);
    if faults.is_empty() {
        println!("{DOCUMENT}: every test that {ENTRIES} names for its rows ran and passed");
        return Ok(());
    }
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| format!("{}:{}: {}", fault.file, fault.line, fault.what))
        .collect();
    Err(lines.join("\n"))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))
}

/// Keeps what a whole run has shown for [`run`]. Without tests it forgets the run before: a run that does not finish must not
/// leave an older one's results standing.
pub(crate) fn record(ran: &[Ran]) -> Result {
    let path = target().join("xtask/tests-that-ran.txt");
    let lines: String = ran
        .iter()
        .map(|test| {
            format!(
                "{} {}\n",
                if test.passed { "passed" } else { "failed" },
                test.path
            )
        })
        .collect();
    let written = fs::create_dir_all(target().join("xtask")).and_then(|()| fs::write(path, lines));
    written.map_err(|error| format!("cannot record which tests ran: {error}"))
}

fn recorded() -> Result<Vec<Ran>> {
    let text = fs::read_to_string(target().join("xtask/tests-that-ran.txt")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let ran: Vec<_> = lines
        .map(|(verdict, path)| Ran {
            path: path.to_owned(),
            passed: verdict == "passed",
        })
        .collect();
    if ran.is_empty() {
        Err("no whole run of the tests is on record: run `cargo xtask test`".to_owned())
    } else {
        Ok(ran)
    }
}

#[derive(Debug)]
struct Fault {
    file: &'static str,
    /// Counted from one.
    line: usize,
    what: String,
}

fn faults(document: &str, entries: &str, ran: &[Ran]) -> Vec<Fault> {
    let (document, mut faults) = document::read(document);
    let (entries, of_entries) = entries::read(entries);
    faults.extend(of_entries);
    faults.extend(faults_between(&document, &entries));
    faults.extend(faults_of_order(&document, &entries));
    let tests = entries.iter().flat_map(|entry| &entry.tests);
    let mut named = 0;
    for test in tests {
        named += 1;
        if let Some(what) = fault_of(&test.path, ran) {
            faults.push(in_entries(test.line, what));
        }
    }
    if named == 0 {
        faults.push(in_entries(1, "no entry names any test".to_owned()));
    }
    faults
}

/// Rows without their entry, entries without their row, and rows that do not say what their entry says.
fn faults_between(document: &Document, entries: &[Entry]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for row in &document.rows {
        match entries.iter().find(|entry| entry.id == row.id) {
            None => {
                let what = format!(
                    "{} has no entry: add it to {ENTRIES}, with the tests that prove it, or `not yet`, or `none:` and the reason",
                    row.id
                );
                faults.push(in_document(row.line, what));
            }
            Some(entry) => {
                let of_marks = faults_of_marks(&row.text, entry);
                faults.extend(of_marks.into_iter().map(|what| in_document(row.line, what)));
            }
        }
    }
    let ids: HashSet<_> = document.rows.iter().map(|row| row.id.as_str()).collect();
    for entry in entries {
        if !ids.contains(entry.id.as_str()) {
            let what = format!(
                "{} is not a row of {DOCUMENT}: add the row, or remove the entry and keep its tests where they prove something",
                entry.id
            );
            faults.push(in_entries(entry.line, what));
        }
    }
    faults
}

const NOT_YET: &str = "**Not yet.**";
const NO_TEST: &str = "**No test:**";

/// What a row has to say because of its entry, so that a reader of the document alone does not think that it is proved.
fn marks_of(proof: &Proof) -> Option<String> {
    match proof {
        Proof::Tests | Proof::Unclear => None,
        Proof::NotYet => Some(NOT_YET.to_owned()),
        Proof::None(reason) => Some(format!("{NO_TEST} {reason}")),
    }
}

fn faults_of_marks(row: &str, entry: &Entry) -> Vec<String> {
    let mark = marks_of(&entry.proof);
    let mut faults = Vec::new();
    if let Some(mark) = &mark
        && !row.contains(mark.as_str())
    {
        faults.push(format!(
            "{} has to say `{mark}`, as its entry in {ENTRIES} does",
            entry.id
        ));
    }
    for other in [NOT_YET, NO_TEST] {
        let is_right = mark.as_ref().is_some_and(|mark| mark.starts_with(other));
        if row.contains(other) && !is_right {
            faults.push(format!(
                "{} says `{other}`, and its entry in {ENTRIES} does not: correct one of them",
                entry.id
            ));
        }
    }
    faults
}

/// Entries that stand in another order than their rows.
fn faults_of_order(document: &Document, entries: &[Entry]) -> Vec<Fault> {
    let places: HashMap<_, _> = document
        .rows
        .iter()
        .enumerate()
        .map(|(place, row)| (row.id.as_str(), place))
        .collect();
    let placed: Vec<_> = entries
        .iter()
        .filter_map(|entry| places.get(entry.id.as_str()).map(|place| (place, entry)))
        .collect();
    let pairs = placed.windows(2).filter(|pair| pair[1].0 < pair[0].0);
    pairs
        .map(|pair| {
            let (before, entry) = (&pair[0].1.id, pair[1].1);
            let what = format!(
                "{} stands after {before}, and before it in {DOCUMENT}: put the entries in the order of the rows",
                entry.id
            );
            in_entries(entry.line, what)
        })
        .collect()
}

fn in_document(line: usize, what: String) -> Fault {
    Fault {
        file: DOCUMENT,
        line,
        what,
    }
}

fn in_entries(line: usize, what: String) -> Fault {
    Fault {
        file: ENTRIES,
        line,
        what,
    }
}

/// Whether `text` is one or two capital letters, a dash and two digits.
fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(section, number)| {
        (1..=2).contains(&section.len())
            && section.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn fault_of(test: &str, ran: &[Ran]) -> Option<String> {
    let mut matching = ran
        .iter()
        .filter(|ran| is_suffix(test, &ran.path))
        .peekable();
    if matching.peek().is_none() {
        return Some(format!(
            "`{test}` did not run: correct its path, or write the test"
        ));
    }
    // A name that fits several tests claims each of them.
    matching.find(|ran| !ran.passed).map(|failed| {
        format!(
            "`{test}` did not pass ({}): repair it, or withdraw the claim",
            failed.path
        )
    })
}

/// Whether `name`'s segments are the last ones of `path`. A crate's name may be written either way, as a package or as a path.
fn is_suffix(name: &str, path: &str) -> bool {
    let (name, path) = (name.replace('-', "_"), path.replace('-', "_"));
    path.strip_suffix(&name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

#[cfg(test)]
mod tests;
