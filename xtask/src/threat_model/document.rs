//! What the check reads from THREAT_MODEL.md: the rows of its tables and the ids that they and the text around them use.
//!
//! A table that starts with a column `Id` holds guarantees. A table that starts with `Limit` holds known limits, which have ids and no
//! tests. There is no other table, so that no claim stands where the check does not see it.

use std::collections::HashMap;

use super::{ENTRIES, Fault, in_document, is_id};

/// A row of a table of guarantees.
pub(super) struct Row {
    pub(super) id: String,
    /// Counted from one.
    pub(super) line: usize,
    pub(super) text: String,
}

pub(super) struct Document {
    pub(super) rows: Vec<Row>,
}

/// What stands under the headings of a table.
#[derive(Clone, Copy, PartialEq)]
enum Table {
    Guarantees,
    Limits,
    /// Reported where it begins.
    Other,
}

pub(super) fn read(text: &str) -> (Document, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    // The line where each id is defined.
    let mut defined = HashMap::new();
    let mut used = Vec::new();
    let mut fenced = false;
    let mut previous = "";
    let mut table: Option<Table> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if !fenced {
            used.extend(ids_in(line).map(|id| (number, id)));
        }
        if fenced || !line.contains('|') {
            table = None;
        } else if let Some(table) = table {
            if table != Table::Other {
                let id = cells(line).into_iter().next().unwrap_or_default();
                let id = id.trim().to_owned();
                faults.extend(fault_of_id(&id, number, &mut defined));
                if table == Table::Guarantees && is_id(&id) {
                    rows.push(Row {
                        id,
                        line: number,
                        text: line.to_owned(),
                    });
                }
            }
        } else if is_delimiter(line) && previous.contains('|') {
            let (kind, fault) = kind_of(&cells(previous));
            faults.extend(fault.map(|what| in_document(number - 1, what)));
            table = Some(kind);
        }
        previous = line;
    }
    for (line, id) in used {
        if !defined.contains_key(id) {
            let what =
                format!("{id} is not a row of this document: write the id of a row, or add it");
            faults.push(in_document(line, what));
        }
    }
    if rows.is_empty() {
        let what = "no table has a row with an id: start each with a column `Id`".to_owned();
        faults.push(in_document(1, what));
    }
    (Document { rows }, faults)
}

fn kind_of(headings: &[String]) -> (Table, Option<String>) {
    let headings: Vec<_> = headings
        .iter()
        .map(|heading| heading.trim().to_lowercase())
        .collect();
    let kind = match headings.first().map(String::as_str) {
        Some("id") => Table::Guarantees,
        Some("limit") => Table::Limits,
        _ => Table::Other,
    };
    let names_tests = headings
        .iter()
        .any(|heading| ["test", "tests"].contains(&heading.as_str()));
    let fault = if kind == Table::Other {
        Some("this table does not start with a column `Id`: add one, with an id in each row, such as N-03".to_owned())
    } else if names_tests {
        Some(format!(
            "this table has a column for tests: name them in {ENTRIES}"
        ))
    } else {
        None
    };
    (kind, fault)
}

fn fault_of_id(id: &str, line: usize, defined: &mut HashMap<String, usize>) -> Option<Fault> {
    let what = if !is_id(id) {
        Some(format!(
            "`{id}` is not an id: start the row with one or two capital letters, a dash and two digits, such as N-03"
        ))
    } else {
        defined
            .get(id)
            .map(|first| format!("{id} is the id of line {first}, too: give this row its own id"))
    };
    defined.entry(id.to_owned()).or_insert(line);
    what.map(|what| in_document(line, what))
}

/// The words of `line` that have the form of an id.
fn ids_in(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !character.is_alphanumeric() && character != '-')
        .filter(|word| is_id(word))
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
