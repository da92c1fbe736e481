//! `api`: what each crate makes public stands in `api/<crate>.txt`, and a change of it is a change of that file.
//!
//! rustdoc describes a crate in JSON, which is not stable yet: so its form is that of the pinned toolchain, and the version of
//! `public-api` in this package's manifest is the one that reads it.

use std::fs;
use std::path::PathBuf;

use public_api::Builder;

use crate::workspace::{Result, cargo, root, run as run_command, target};

const CRATES: [&str; 8] = [
    "secret-resolver",
    "secret-resolver-json",
    "secret-resolver-session",
    "secret-resolver-transport",
    "secret-resolver-env",
    "secret-resolver-vault",
    "secret-resolver-conjur",
    "secret-resolver-spiffe",
];

/// Compares, or with `--bless` writes.
pub(crate) fn run(arguments: &[String]) -> Result {
    let bless = match arguments {
        [] => false,
        [one] if one == "--bless" => true,
        _ => return Err("usage: cargo xtask api [--bless]".to_owned()),
    };
    let mut changes = Vec::new();
    for name in CRATES {
        let now = api_of(name)?;
        let path = root().join("api").join(format!("{name}.txt"));
        if bless {
            let written =
                fs::create_dir_all(root().join("api")).and_then(|()| fs::write(&path, now));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            continue;
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        changes.extend(difference(&before, &now).map(|line| format!("{name}: {line}")));
    }
    if changes.is_empty() {
        println!("the public API of {} crates stands in api/", CRATES.len());
        return Ok(());
    }
    Err(format!(
        "{}\nthe public API differs from what stands in api/: if that is meant, run `cargo xtask api --bless` and commit it",
        changes.join("\n")
    ))
}

/// What a crate makes public, an item a line.
fn api_of(name: &str) -> Result<String> {
    let folder = target().join("xtask/api");
    let mut rustdoc = cargo();
    rustdoc.args([
        "rustdoc",
        "--quiet",
        "--locked",
        "--lib",
        "--all-features",
        "--package",
        name,
        "--target-dir",
    ]);
    rustdoc.arg(&folder);
    rustdoc.args([
        "--",
        "-Z",
        "unstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "allow",
    ]);
    // The pinned compiler, with the form of output that is not stable yet.
    rustdoc.env("RUSTC_BOOTSTRAP", "1");
    run_command(&mut rustdoc)?;
    let json: PathBuf = folder
        .join("doc")
        .join(format!("{}.json", name.replace('-', "_")));
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .map_err(|error| {
            format!("{name}: {error}; after a change of the toolchain choose the version of public-api that reads its output")
        })?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The lines that only one of two texts has, marked.
fn difference<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = String> + 'a {
    let only = |one: &'a str, other: &'a str, mark: char| {
        let known: std::collections::HashSet<_> = other.lines().collect();
        let lines = one.lines().filter(move |line| !known.contains(line));
        lines.map(move |line| format!("{mark} {line}"))
    };
    only(before, now, '-').chain(only(now, before, '+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_and_what_was_removed_is_reported_and_order_is_not() {
        let lines: Vec<_> = difference("a\nb\nc\n", "c\na\nd\n").collect();
        assert_eq!(lines, ["- b", "+ d"]);
        assert_eq!(difference("a\nb\n", "b\na\n").count(), 0);
    }
}
