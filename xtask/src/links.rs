//! `links`: whether what the Markdown files refer to is there: files, headings, our own crates. Nothing is fetched, so a link to somebody
//! else's page is not looked at.
//!
//! A crate's README is also its page in the registry, and may be its page in the documentation. It leads nowhere from there with a link
//! relative to this repository, so it may have none.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{Result, packages, root};

/// How a whole link to one of our own files begins.
const OURS: &str = "https://github.com/secret-resolver/secret-resolver/blob/main/";
const DOCUMENTATION: &str = "https://docs.rs/";
const CRATES: &str = "secret-resolver";

pub(crate) fn run() -> Result {
    let root = fs::canonicalize(root()).map_err(|error| format!("no workspace: {error}"))?;
    let mut crates = HashSet::new();
    let mut front_pages = HashSet::new();
    for package in packages()? {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        crates.extend(text("name"));
        if let (Some(manifest), Some(readme)) = (text("manifest_path"), text("readme")) {
            front_pages.insert(Path::new(&manifest).with_file_name(readme));
        }
    }
    let mut files = Vec::new();
    markdown_in(&root, &mut files)?;
    let (mut links, mut broken) = (0, Vec::new());
    for file in &files {
        let page = Page {
            file,
            root: &root,
            crates: &crates,
            is_front: front_pages.contains(file),
        };
        for (line, link) in links_in(&read(file)?) {
            links += 1;
            if let Err(why) = page.check(&link) {
                let file = file.strip_prefix(&root).unwrap_or(file).display();
                broken.push(format!("{file}:{line}: {link}: {why}"));
            }
        }
    }
    println!(
        "{links} links in {} files, {} broken",
        files.len(),
        broken.len()
    );
    match broken.is_empty() {
        true => Ok(()),
        false => Err(broken.join("\n")),
    }
}

struct Page<'a> {
    file: &'a Path,
    root: &'a Path,
    crates: &'a HashSet<String>,
    is_front: bool,
}

impl Page<'_> {
    fn check(&self, link: &str) -> Result {
        if let Some(path) = link.strip_prefix(OURS) {
            return target(self.root, path);
        }
        if let Some(path) = link.strip_prefix(DOCUMENTATION) {
            let name = path.split('/').next().unwrap_or_default();
            let is_there = !name.starts_with(CRATES) || self.crates.contains(name);
            return is_there
                .then_some(())
                .ok_or("there is no such crate here".to_owned());
        }
        if link.contains("://") || link.starts_with("mailto:") {
            return Ok(());
        }
        if let Some(heading) = link.strip_prefix('#') {
            return heading_in(self.file, heading);
        }
        if self.is_front {
            return Err(format!(
                "a crate's README is read elsewhere, too: write {OURS}…"
            ));
        }
        target(self.file.parent().unwrap_or(self.root), link)
    }
}

/// A file or folder, and the heading behind a `#`.
fn target(from: &Path, link: &str) -> Result {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let file = from.join(path);
    if !file.exists() {
        return Err("there is no such file".to_owned());
    }
    match heading {
        "" => Ok(()),
        heading => heading_in(&file, heading),
    }
}

fn heading_in(file: &Path, wanted: &str) -> Result {
    let text = read(file)?;
    let mut headings = outside_of_code(&text).filter(|(_, line)| line.starts_with('#'));
    let found = headings.any(|(_, line)| anchor(line) == wanted);
    found
        .then_some(())
        .ok_or("there is no such heading".to_owned())
}

/// As the forge makes it of a heading: in lower case, `-` for a blank, other punctuation left out.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of `[text](target)` and `[text]: target`, with the numbers of their lines.
fn links_in(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in outside_of_code(text) {
        let defined = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("]: "));
        if let Some((_, target)) = defined {
            links.push((number, target.trim().to_owned()));
            continue;
        }
        // Between two backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split(')').next().unwrap_or_default();
            links.push((number, target.to_owned()));
        }
    }
    links
}

/// The lines that are in no fenced block, with their numbers.
fn outside_of_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!in_code && !fence).then_some((index + 1, line))
    })
}

fn markdown_in(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            // What is built, and what is hidden, is not ours to check.
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                markdown_in(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let text = "see [a](one.md) and [b](two.md#part), `[c](no.md)`\n```\n[d](no.md)\n```\n[e]: three.md\n";
        let links = [(1, "one.md"), (1, "two.md#part"), (5, "three.md")];
        assert_eq!(
            links_in(text),
            links.map(|(line, link)| (line, link.to_owned()))
        );
    }

    #[test]
    fn a_heading_has_the_anchor_that_the_forge_gives_it() {
        assert_eq!(anchor("## Known limits"), "known-limits");
        assert_eq!(
            anchor("# What it's for: `get`, and more"),
            "what-its-for-get-and-more"
        );
    }

    #[test]
    fn what_is_not_there_is_distinguished_from_what_is() {
        let folder = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("a.md"), "# One\n").unwrap();
        let crates = HashSet::from(["secret-resolver".to_owned()]);
        let is_good = |link: &str, is_front| {
            let page = Page {
                file: &folder.join("a.md"),
                root: &folder,
                crates: &crates,
                is_front,
            };
            page.check(link).is_ok()
        };
        for good in [
            "a.md",
            "sub",
            "a.md#one",
            "#one",
            "https://elsewhere.example/x",
            "https://docs.rs/secret-resolver/latest",
        ] {
            assert!(is_good(good, false), "{good}");
        }
        for bad in [
            "b.md",
            "a.md#two",
            "#two",
            "https://docs.rs/secret-resolver-none",
        ] {
            assert!(!is_good(bad, false), "{bad}");
        }
        assert!(is_good(&format!("{OURS}a.md"), true));
        assert!(!is_good(&format!("{OURS}b.md"), true));
        assert!(!is_good("a.md", true), "relative, on a front page");
        fs::remove_dir_all(&folder).unwrap();
    }
}
