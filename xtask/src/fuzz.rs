//! `fuzz`: looks for inputs for which a property of `fuzz/` does not hold, guided by what each input reaches. It builds the targets with
//! libFuzzer, runs each for a while, two at a time where there are two processors, and fails when one has found something.
//!
//! The pinned toolchain does it: instrumenting is a pass of LLVM, and no sanitizer is used, because no code of ours is `unsafe`. What is
//! built and found stays under `target/fuzz`: the inputs that reached something new, so that the next run goes on from there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::workspace::{Result, cargo, output_of, packages, root, run as run_command, target};

/// How long each target runs, where nobody says otherwise.
const SECONDS: u32 = 60;

/// Runs all targets, or those that are named, for this many seconds each. With a seed, each run tries the same inputs in the same order, as
/// far as it comes: so in CI a finding is one of the change's own.
pub(crate) fn run(arguments: &[String]) -> Result {
    let mut arguments = arguments.to_vec();
    let seed = match arguments.iter().position(|argument| argument == "--seed") {
        Some(at) if at + 1 < arguments.len() => {
            let seed: u32 = arguments[at + 1]
                .parse()
                .map_err(|_| format!("--seed is a number, not {}", arguments[at + 1]))?;
            arguments.drain(at..=at + 1);
            Some(seed)
        }
        Some(_) => return Err("--seed needs a number".to_owned()),
        None => None,
    };
    let (seconds, named) = match arguments.split_first() {
        Some((first, rest)) if first.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
            (first.parse().unwrap_or(SECONDS), rest)
        }
        _ => (SECONDS, arguments.as_slice()),
    };
    let all = targets()?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return Err(format!(
            "there is no target {unknown}: there are {}",
            all.join(", ")
        ));
    }
    let chosen = if named.is_empty() {
        all
    } else {
        named.to_vec()
    };
    let programs = build()?;
    println!("{} targets, {seconds} s each", chosen.len());
    let waiting = Mutex::new(chosen.iter());
    let next = || waiting.lock().ok()?.next();
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = std::thread::scope(|scope| {
        let work = || {
            let outcomes =
                std::iter::from_fn(next).map(|name| fuzz(&programs, name, seconds, seed));
            outcomes.filter_map(Result::err).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        let panicked = |_| vec!["a worker has panicked".to_owned()];
        let failed = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(panicked));
        failed.collect::<Vec<_>>()
    });
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n")),
    }
}

/// The programs of the package `fuzz`, each a target.
fn targets() -> Result<Vec<String>> {
    let packages = packages()?;
    let fuzz = packages.iter().find(|package| package["name"] == "fuzz");
    let programs = fuzz.and_then(|fuzz| fuzz["targets"].as_array());
    let programs = programs.ok_or("the package fuzz has no programs")?;
    let names = programs
        .iter()
        .filter_map(|program| program["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Builds all targets, and returns where they are.
fn build() -> Result<PathBuf> {
    if !succeeds(Command::new("c++").arg("--version")) && std::env::var_os("CXX").is_none() {
        return Err(
            "libFuzzer is written in C++: install a compiler for it (g++ on Debian)".to_owned(),
        );
    }
    let machine = machine()?;
    let folder = target().join("fuzz");
    let mut command = cargo();
    command
        .args([
            "build",
            "--locked",
            "--package",
            "fuzz",
            "--bins",
            "--profile",
            "fuzz",
        ])
        // With a target named, the flags below are not for what runs while it is built.
        .args(["--target", &machine])
        .env("RUSTFLAGS", flags())
        .env("CARGO_TARGET_DIR", &folder);
    run_command(&mut command)?;
    Ok(folder.join(machine).join("fuzz"))
}

/// What `cargo fuzz` builds with, without a sanitizer.
fn flags() -> String {
    let coverage = [
        "level=4",
        "inline-8bit-counters",
        "pc-table",
        "trace-compares",
    ];
    let coverage = coverage.map(|what| format!(" -Cllvm-args=-sanitizer-coverage-{what}"));
    format!("--cfg fuzzing -Cpasses=sancov-module{}", coverage.concat())
}

/// The name of the machine that this one builds for.
fn machine() -> Result<String> {
    let version = output_of(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc does not report its host".to_owned())
}

/// Runs one target, and returns how many inputs it has tried.
fn fuzz(programs: &Path, name: &str, seconds: u32, seed: Option<u32>) -> Result {
    let folder = target().join("fuzz/runs").join(name);
    let (reached, log) = (folder.join("reached"), folder.join("log.txt"));
    let fault = |error: std::io::Error| format!("{name}: {}: {error}", folder.display());
    fs::create_dir_all(&reached).map_err(fault)?;
    let program = programs.join(name);
    let mut command = Command::new(&program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args([
            "-timeout=5",
            "-rss_limit_mb=2048",
            "-max_len=4096",
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/", folder.display()));
    if let Some(seed) = seed {
        // What an earlier run reached would be its beginning.
        let forgotten = fs::remove_dir_all(&reached).and_then(|()| fs::create_dir_all(&reached));
        forgotten.map_err(fault)?;
        command.arg(format!("-seed={seed}"));
    }
    let dictionary = root().join(format!("fuzz/dictionaries/{name}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // What is new goes to the first; the seeds are only read.
    command
        .arg(&reached)
        .arg(root().join("fuzz/corpus").join(name));
    let output = File::create(&log).map_err(fault)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .status();
    let status = status.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let text = fs::read(&log).map_err(fault)?;
    let text = String::from_utf8_lossy(&text);
    if status.success() {
        println!(
            "{name}: {} inputs, nothing found",
            inputs_in(&text).ok_or_else(|| format!(
                "{name}: it does not report how many inputs it has tried"
            ))?
        );
        return Ok(());
    }
    let shown = text.lines().filter(|line| !line.starts_with('#'));
    let shown: Vec<_> = shown.filter(|line| !line.starts_with("stat::")).collect();
    let last = shown
        .get(shown.len().saturating_sub(40)..)
        .unwrap_or_default();
    Err(format!(
        "{}\n{name}: FOUND something ({status}). The whole log is {}; it names the input, and this tries it again:\n  {} INPUT\nOnce it is repaired, put the input into fuzz/corpus/{name}/",
        last.join("\n"),
        log.display(),
        program.display(),
    ))
}

/// How many inputs were tried, by libFuzzer's own count.
fn inputs_in(log: &str) -> Option<u64> {
    let count = log
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    count.trim().parse().ok()
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_and_every_seed_has_a_target() {
        let mut targets = targets().unwrap();
        let folders = fs::read_dir(root().join("fuzz/corpus")).unwrap();
        let mut folders: Vec<_> = folders
            .map(|folder| folder.unwrap().file_name().into_string().unwrap())
            .collect();
        targets.sort_unstable();
        folders.sort_unstable();
        assert_eq!(targets, folders);
    }

    #[test]
    fn the_number_of_inputs_is_read_from_libfuzzers_own_count() {
        let log =
            "#8\tDONE   cov: 12\nstat::number_of_executed_units: 1234\nstat::peak_rss_mb: 40\n";
        assert_eq!(inputs_in(log), Some(1234));
        assert_eq!(inputs_in("INFO: Seed: 1"), None);
    }
}
