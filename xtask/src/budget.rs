//! `budget`: how many crates a user of ours compiles. Every one of them is code that could read a secret, so the numbers are limits
//! and not a report; to raise one is a decision, made here.

use std::collections::BTreeSet;

use crate::workspace::{Result, cargo, output_of};

/// A package and the most crates that may stand in its tree, itself included, on the machine that checks.
const LIMITS: [(&str, usize); 4] = [
    ("secret-resolver", 40),
    ("secret-resolver-vault", 62),
    ("secret-resolver-conjur", 70),
    // Vault and what it shares with it are two crates more.
    ("secret-resolver-spiffe", 158),
];

pub(crate) fn run() -> Result {
    let mut beyond = Vec::new();
    for (package, limit) in LIMITS {
        let tree = [
            "tree",
            "--locked",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ];
        let count = crates_in(&output_of(cargo().args(tree))?).len();
        println!("{package}: {count} crates, of at most {limit}");
        if count > limit {
            beyond.push(package);
        }
    }
    if beyond.is_empty() {
        Ok(())
    } else {
        Err(format!("over the budget: {}", beyond.join(", ")))
    }
}

/// Names with versions, each once: two versions of a crate are two crates to compile.
fn crates_in(tree: &str) -> BTreeSet<(&str, &str)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_a_version() {
        let tree =
            "root v0.1.0 (/somewhere)\na v1.0.0\nb v1.0.0 (proc-macro)\na v1.0.0 (*)\n\na v2.0.0\n";
        assert_eq!(crates_in(tree).len(), 4);
    }
}
