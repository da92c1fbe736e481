//! `threat-model`: THREAT_MODEL.md may name only tests that ran and passed in the last whole run. It owns the check; which tests ran
//! is `test.rs`' to tell.
//!
//! A test is named in a table, in back quotes, by its own name and as much of its path before that as tells it apart:
//! `` `secret-resolver-vault::openbao::login::a_dead_token_is_renewed` `` or `` `login::a_dead_token_is_renewed` ``. Where a table has
//! a column headed `Test` (or `Tests`), that column alone names tests, and none of its cells is empty: there is a test, or `not yet`,
//! or `none: ` and a reason. In other tables every back-quoted path counts.

use std::fs;

use crate::workspace::{Result, root, target};

/// A test that ran: its binary's id and its path there, joined by `::`, and whether it passed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) path: String,
    pub(crate) passed: bool,
}

pub(crate) fn run() -> Result {
    let ran = recorded()?;
    let document = fs::read_to_string(root().join("THREAT_MODEL.md"))
        .map_err(|error| format!("THREAT_MODEL.md: {error}"))?;
    let faults = faults(&document, &ran);
    if faults.is_empty() {
        println!("THREAT_MODEL.md: every test that it names ran and passed");
        return Ok(());
    }
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| format!("THREAT_MODEL.md:{}: {}", fault.line, fault.what))
        .collect();
    Err(lines.join("\n"))
}

/// Keeps what a whole run has shown for [`run`]. Without tests it forgets the run before: a run that does not come to its end must not
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
    line: usize,
    what: String,
}

fn faults(document: &str, ran: &[Ran]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut named = 0;
    for row in rows(document) {
        let tests = tests_named_in(row.tests.as_deref().unwrap_or(&row.whole));
        named += tests.len();
        let cell = row.tests.as_deref().map(str::trim);
        if tests.is_empty() && cell.is_some_and(|cell| !says_why_there_is_no_test(cell)) {
            let what = "the Test cell names no test: write one as `crate::path::test`, or `not yet`, or `none: ` and the reason";
            faults.push(Fault {
                line: row.line,
                what: what.to_owned(),
            });
        }
        for test in tests {
            if let Some(what) = fault_of(test, ran) {
                faults.push(Fault {
                    line: row.line,
                    what,
                });
            }
        }
    }
    if named == 0 {
        faults.push(Fault {
            line: 1,
            what: "no table names any test".to_owned(),
        });
    }
    faults
}

fn fault_of(test: &str, ran: &[Ran]) -> Option<String> {
    let mut matching = ran
        .iter()
        .filter(|ran| is_suffix(test, &ran.path))
        .peekable();
    if matching.peek().is_none() {
        return Some(format!("`{test}` did not run"));
    }
    // A name that fits several tests claims each of them.
    matching
        .find(|ran| !ran.passed)
        .map(|failed| format!("`{test}` did not pass ({})", failed.path))
}

/// Whether `name`'s segments are the last ones of `path`. A crate's name may be written either way, as a package or as a path.
fn is_suffix(name: &str, path: &str) -> bool {
    let (name, path) = (name.replace('-', "_"), path.replace('-', "_"));
    path.strip_suffix(&name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

fn says_why_there_is_no_test(cell: &str) -> bool {
    cell == "not yet"
        || cell
            .strip_prefix("none:")
            .is_some_and(|reason| !reason.trim().is_empty())
}

/// The back-quoted paths in `text`.
fn tests_named_in(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2).map(str::trim);
    quoted.filter(|quoted| is_path(quoted)).collect()
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

struct Row {
    /// Counted from one.
    line: usize,
    whole: String,
    /// The cell in the column headed `Test`, where the table has one.
    tests: Option<String>,
}

/// The body rows of all tables outside code blocks. A table is a heading, a line of dashes, and rows until a line without a bar.
fn rows(document: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut fenced = false;
    let mut previous = "";
    // Inside a table: the place of its Test column, if it has one.
    let mut table: Option<Option<usize>> = None;
    for (index, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || !line.contains('|') {
            table = None;
        } else if let Some(column) = table {
            let tests = column.map(|column| cells(line).get(column).cloned().unwrap_or_default());
            rows.push(Row {
                line: index + 1,
                whole: line.to_owned(),
                tests,
            });
        } else if is_delimiter(line) && previous.contains('|') {
            let headings = cells(previous);
            table = Some(headings.iter().position(|heading| {
                ["test", "tests"].contains(&heading.trim().to_lowercase().as_str())
            }));
        }
        previous = line;
    }
    rows
}

fn is_delimiter(line: &str) -> bool {
    line.contains('-')
        && line
            .trim()
            .chars()
            .all(|character| "|-: ".contains(character))
}

/// The cells of a row; a bar after a backslash is text.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().replace("\\|", "\u{0}");
    let line = line.strip_prefix('|').unwrap_or(&line);
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split('|')
        .map(|cell| cell.replace('\u{0}', "|"))
        .collect()
}

#[cfg(test)]
mod tests;
