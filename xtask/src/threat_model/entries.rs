//! What the check reads from threat-model-tests.txt: one entry for each row of the document.
//!
//! ```text
//! # a comment
//! N-01: none: we do not hide it
//! N-02:
//!   login::a_dead_token_is_renewed
//!   layers::cache::tests::expired_entry_is_refetched_once
//! N-03: not yet
//! ```

use std::collections::HashMap;

use super::{Fault, in_entries, is_id};

pub(super) struct Entry {
    pub(super) id: String,
    /// Counted from one.
    pub(super) line: usize,
    pub(super) proof: Proof,
    pub(super) tests: Vec<Test>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Proof {
    Tests,
    NotYet,
    /// There can be none, for this reason.
    None(String),
    /// Reported where it stands.
    Unclear,
}

pub(super) struct Test {
    pub(super) path: String,
    pub(super) line: usize,
}

const WHAT_TO_WRITE: &str = "write its tests below it, one a line and indented, or `not yet` or `none:` and the reason after the colon";

pub(super) fn read(text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let what = if line.starts_with(char::is_whitespace) {
            add_test(entries.last_mut(), content, number)
        } else {
            add_entry(&mut entries, content, number)
        };
        faults.extend(what.map(|what| in_entries(number, what)));
    }
    faults.extend(entries.iter().filter_map(fault_of_proof));
    faults.extend(faults_of_doubles(&entries));
    (entries, faults)
}

fn add_test(entry: Option<&mut Entry>, path: &str, line: usize) -> Option<String> {
    let Some(entry) = entry else {
        return Some(format!(
            "`{path}` stands before the first entry: write the id of its row above it, such as `N-03:`"
        ));
    };
    if !is_path(path) {
        return Some(format!(
            "`{path}` is not a path of a test: write `crate::path::test`, and nothing else in the line"
        ));
    }
    let is_double = entry.tests.iter().any(|test| test.path == path);
    entry.tests.push(Test {
        path: path.to_owned(),
        line,
    });
    is_double.then(|| format!("{} names `{path}` twice: remove one", entry.id))
}

fn add_entry(entries: &mut Vec<Entry>, content: &str, line: usize) -> Option<String> {
    let (id, after) = content.split_once(':').unwrap_or((content, ""));
    let (proof, what) = match (after.trim(), after.trim().strip_prefix("none:")) {
        ("", _) => (Proof::Tests, None),
        ("not yet", _) => (Proof::NotYet, None),
        (_, Some(reason)) if !reason.trim().is_empty() => {
            (Proof::None(reason.trim().to_owned()), None)
        }
        (after, _) => {
            let what = format!("`{after}` says nothing about  {id}: {WHAT_TO_WRITE}");
            (Proof::Unclear, Some(what))
        }
    };
    if !is_id(id) || !content.contains(':') {
        return Some(format!(
            "`{content}` does not begin an entry: write the id of a row and a colon, such as `N-03:`, and indent tests"
        ));
    }
    entries.push(Entry {
        id: id.to_owned(),
        line,
        proof,
        tests: Vec::new(),
    });
    what
}

fn fault_of_proof(entry: &Entry) -> Option<Fault> {
    let what = match (&entry.proof, entry.tests.is_empty()) {
        (Proof::Tests, true) => format!("{} names no test: {WHAT_TO_WRITE}", entry.id),
        (Proof::NotYet | Proof::None(_), false) => format!(
            "{} says that there is no test, and names some: keep one of the two",
            entry.id
        ),
        _ => return None,
    };
    Some(in_entries(entry.line, what))
}

fn faults_of_doubles(entries: &[Entry]) -> Vec<Fault> {
    let mut first = HashMap::new();
    let mut faults = Vec::new();
    for entry in entries {
        if let Some(line) = first.get(&entry.id) {
            let what = format!(
                "{} has an entry in line {line}, too: make them one",
                entry.id
            );
            faults.push(in_entries(entry.line, what));
        } else {
            first.insert(&entry.id, entry.line);
        }
    }
    faults
}

fn is_path(text: &str) -> bool {
    let mut segments = text.split("::");
    let fits = |segment: &str| {
        !segment.is_empty()
            && segment
                .chars()
                .all(|character| character.is_alphanumeric() || "_-/.".contains(character))
    };
    text.contains("::") && segments.all(fits)
}
