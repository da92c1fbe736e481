//! `mutants`: shows that the tests of our guarantees can fail. In a copy of the workspace it breaks one guarantee at a time, by one
//! change to one place, and runs the test that has to notice. What is broken is in `table`; that each change still fits the code is
//! checked with every run of the tests, that it is noticed only here, because it takes minutes.

mod sample;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workspace::{Result, cargo, output_of, root, target};
use table::Mutant;

/// Breaks what the filter names, or everything: a part of what is broken, of the file's or of the test's name.
pub(crate) fn run(filter: &[String]) -> Result {
    if let [first, rest @ ..] = filter
        && first == "--sample"
    {
        return sample::run(rest);
    }
    let chosen: Vec<&Mutant> = table::all().filter(|m| is_chosen(m, filter)).collect();
    if chosen.is_empty() {
        return Err("no mutant has this in its name: leave the filter out to see all".to_owned());
    }
    let tree = copy()?;
    let mut faults = Vec::new();
    for mutant in &chosen {
        let verdict = verdict(&tree, mutant)?;
        println!("{} | {} | {}", mutant.breaks, mutant.test, verdict.text());
        if verdict != Verdict::Noticed {
            faults.push(mutant.breaks);
        }
    }
    match faults.is_empty() {
        true => {
            println!("all {} are noticed", chosen.len());
            Ok(())
        }
        false => Err(format!("not noticed: {}", faults.join("; "))),
    }
}

fn is_chosen(mutant: &Mutant, filter: &[String]) -> bool {
    let Mutant {
        breaks, file, test, ..
    } = mutant;
    let has = |part: &String| [breaks, file, test].iter().any(|text| text.contains(part));
    filter.is_empty() || filter.iter().any(has)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Noticed,
    /// The test passes on broken code.
    Missed,
    /// Nothing is shown by what does not compile.
    DoesNotCompile,
    /// Nothing is shown by a test that fails on the code as it is.
    FailsAnyway,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::Missed => "MISSED",
            Self::DoesNotCompile => "DOES NOT COMPILE",
            Self::FailsAnyway => "FAILS ANYWAY",
        }
    }
}

fn verdict(tree: &Path, mutant: &Mutant) -> Result<Verdict> {
    let file = tree.join(mutant.file);
    let fault = |error| format!("{}: {error}", mutant.file);
    let text = fs::read_to_string(&file).map_err(fault)?;
    let broken = broken(&text, mutant)?;
    // Built apart, so that only the test's own time counts against its limit.
    if !compiles(tree, mutant)? || !passes(tree, mutant)? {
        return Ok(Verdict::FailsAnyway);
    }
    fs::write(&file, broken).map_err(fault)?;
    let verdict = match compiles(tree, mutant)? {
        false => Verdict::DoesNotCompile,
        true if passes(tree, mutant)? => Verdict::Missed,
        true => Verdict::Noticed,
    };
    fs::write(&file, text).map_err(fault)?;
    Ok(verdict)
}

/// The file's text with the change in it.
fn broken(text: &str, mutant: &Mutant) -> Result<String> {
    let Mutant {
        breaks,
        file,
        from,
        to,
        ..
    } = mutant;
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        number => Err(format!(
            "{breaks}: what is to be changed stands {number} times in {file}; write the mutant again"
        )),
    }
}

fn compiles(tree: &Path, mutant: &Mutant) -> Result<bool> {
    succeeds(in_copy(tree, mutant)?.arg("--no-run"))
}

/// Whether the mutant's test ran and passed. A test that does not end is ended by `timeout`, and has not passed.
fn passes(tree: &Path, mutant: &Mutant) -> Result<bool> {
    let mut command = in_copy(tree, mutant)?;
    command.arg(mutant.test).env("RUST_BACKTRACE", "0");
    let mut limited = Command::new("timeout");
    limited
        .arg("100")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(tree)
        .stderr(Stdio::null());
    let output = limited.output();
    let output = output.map_err(|error| format!("cannot start timeout: {error}"))?;
    // Even one that `timeout` ended, or that ended its process: such a test never names itself.
    if !output.status.success() {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.lines().any(|line| {
        let name = line
            .strip_prefix("test ")
            .and_then(|line| line.split(' ').next());
        name.is_some_and(|name| name.rsplit("::").next() == Some(mutant.test))
    });
    match ran {
        true => Ok(true),
        false => Err(format!("{} did not run", mutant.test)),
    }
}

/// The command for the mutant's test, which builds nothing beside it.
fn in_copy(tree: &Path, mutant: &Mutant) -> Result<Command> {
    let mut command = cargo();
    command
        .current_dir(tree)
        .args(["test", "--locked", "--all-features"])
        .args(["--package", mutant.package])
        .args(program_of(mutant.test)?)
        .env("CARGO_TARGET_DIR", target().join("mutants/target"));
    Ok(command)
}

/// Which of its package's test programs has the test.
fn program_of(test: &str) -> Result<Vec<String>> {
    let begins = format!("fn {test}()");
    let has = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(&begins));
    let file = ["src", "tests", "backends", "crates"]
        .iter()
        .find_map(|folder| rust_below(&root().join(folder)).into_iter().find(has))
        .ok_or_else(|| format!("there is no test {test}"))?;
    let below = file.strip_prefix(root()).unwrap_or(&file);
    if below.components().any(|part| part.as_os_str() == "src") {
        return Ok(vec!["--lib".to_owned()]);
    }
    // A file in the folder of tests is a program, or a folder there.
    let mut parts = below.iter().skip_while(|part| *part != "tests").skip(1);
    let program = parts.next().map(|part| Path::new(part).with_extension(""));
    let program = program.ok_or_else(|| format!("{} is not a test", below.display()))?;
    Ok(vec!["--test".to_owned(), program.display().to_string()])
}

/// All Rust files below a folder.
fn rust_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = |path: PathBuf| match path.is_dir() {
        true => rust_below(&path),
        false if path.extension().is_some_and(|end| end == "rs") => vec![path],
        false => Vec::new(),
    };
    entries.flat_map(|entry| files(entry.path())).collect()
}

fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.map_err(|error| format!("cannot start cargo: {error}"))?;
    Ok(status.success())
}

/// A fresh copy of all files that git knows, as they are now.
fn copy() -> Result<PathBuf> {
    let tree = target().join("mutants/tree");
    let _ = fs::remove_dir_all(&tree);
    let mut list = Command::new("git");
    list.current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    for file in output_of(&mut list)?.lines() {
        let to = tree.join(file);
        let from = root().join(file);
        // A file that was removed and not committed yet.
        if !from.is_file() {
            continue;
        }
        let copied = to
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(&from, &to));
        copied.map_err(|error| format!("cannot copy {file}: {error}"))?;
    }
    // Tests look for the servers below their own workspace.
    fs::create_dir_all(tree.join("target"))
        .and_then(|()| {
            std::os::unix::fs::symlink(target().join("tools"), tree.join("target/tools"))
        })
        .map_err(|error| format!("cannot link the servers into the copy: {error}"))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_fits_the_code_and_its_test_is_there() {
        let sources = ["src", "tests", "backends", "crates"].map(|folder| root().join(folder));
        let files = sources.iter().flat_map(|folder| rust_below(folder));
        let all: String = files
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        for mutant in table::all() {
            let text = fs::read_to_string(root().join(mutant.file)).unwrap();
            assert_ne!(broken(&text, mutant).unwrap(), text);
            let test = format!("fn {}()", mutant.test);
            assert_eq!(all.matches(&test).count(), 1, "{}", mutant.test);
        }
    }

    #[test]
    fn a_change_that_fits_nowhere_or_twice_is_refused() {
        let mutant = table::all().next().unwrap();
        assert!(broken("", mutant).is_err());
        assert!(broken(&mutant.from.repeat(2), mutant).is_err());
        assert_eq!(broken(mutant.from, mutant).unwrap(), mutant.to);
    }
}
