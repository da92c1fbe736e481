//! Which tests reach which mutants, and whether one of them notices. Every test is first run alone, without a mutant, and notes which
//! ones it reaches; then each mutant is tried with the tests that reach it, the fast ones first. The tests that take longer than ten
//! seconds are the second pass: one at a time, for those that all others have let through.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::build::Program;
use crate::workspace::{Result, target};

/// A test that passes without a mutant.
pub(super) struct Test {
    program: usize,
    name: String,
    took: Duration,
    reaches: BTreeSet<usize>,
}

/// A test that takes longer alone is kept for the second pass, and one that takes longer than that is not used.
const QUICK: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    Noticed(String),
    Survived(usize),
    /// No test reaches it.
    NotReached,
}

/// Runs every test alone.
pub(super) fn tests(programs: &[Program], workers: usize) -> Result<Vec<Test>> {
    let mut names = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let listed = command(program, 0)
            .args(["--list", "--format", "terse"])
            .output();
        let listed = listed.map_err(|error| format!("cannot list tests: {error}"))?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let tests = text.lines().filter_map(|line| line.strip_suffix(": test"));
        names.extend(tests.map(|name| (number, name.to_owned())));
    }
    let notes = target().join("mutants/notes");
    fs::create_dir_all(&notes).map_err(|error| format!("cannot make a folder: {error}"))?;
    let tests = in_parallel(workers, &names, |at, (number, name)| {
        let note = notes.join(at.to_string());
        let _ = fs::remove_file(&note);
        let mut alone = command(&programs[*number], 0);
        alone.args(["--exact", name]).env("REACHED_MUTANTS", &note);
        let (passed, took, _) = run(&mut alone, LONGEST);
        let reached = fs::read_to_string(&note).unwrap_or_default();
        let reaches = reached.lines().filter_map(|line| line.parse().ok());
        passed.then(|| Test {
            program: *number,
            name: name.clone(),
            took,
            reaches: reaches.collect(),
        })
    });
    println!(
        "{} tests, of which {} are useful",
        names.len(),
        tests.iter().flatten().count()
    );
    Ok(tests.into_iter().flatten().collect())
}

/// Tries each of `mutants`.
pub(super) fn fates(
    programs: &[Program],
    tests: &[Test],
    mutants: &[usize],
    workers: usize,
    until: Instant,
    report: impl Fn(usize, &Fate) + Sync,
) -> BTreeMap<usize, Fate> {
    let fates = in_parallel(workers, mutants, |_, &mutant| {
        #[allow(clippy::disallowed_methods, reason = "a tool's own patience")]
        if Instant::now() > until {
            return None;
        }
        let fate = fate(programs, tests, mutant);
        report(mutant, &fate);
        Some((mutant, fate))
    });
    fates.into_iter().flatten().collect()
}

fn fate(programs: &[Program], tests: &[Test], mutant: usize) -> Fate {
    let reaching: Vec<&Test> = tests
        .iter()
        .filter(|test| test.reaches.contains(&mutant))
        .collect();
    if reaching.is_empty() {
        return Fate::NotReached;
    }
    // Many fast ones are one process; unit tests come first.
    let mut groups: BTreeMap<(Pass, bool, usize), Vec<&Test>> = BTreeMap::new();
    for test in &reaching {
        let is_unit = programs[test.program].is_unit;
        groups
            .entry((Pass::of(test.took), !is_unit, test.program))
            .or_default()
            .push(test);
    }
    for ((pass, _, program), group) in groups {
        for group in group.chunks(pass.together()) {
            if let Some(by) = noticed(&programs[program], group, mutant) {
                return Fate::Noticed(by);
            }
        }
    }
    Fate::Survived(reaching.len())
}

/// When a test is run, by how long it takes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    Fast,
    Slow,
    /// Only where no other test has noticed.
    Second,
}

impl Pass {
    fn of(took: Duration) -> Self {
        match took {
            took if took > QUICK => Self::Second,
            took if took > Duration::from_millis(300) => Self::Slow,
            _ => Self::Fast,
        }
    }

    /// How many tests of a program are one process.
    fn together(self) -> usize {
        match self {
            Self::Fast => 60,
            Self::Slow => 6,
            Self::Second => 1,
        }
    }
}

/// Which of the tests fails; one that fails once may be bad luck, and is run again.
fn noticed(program: &Program, group: &[&Test], mutant: usize) -> Option<String> {
    let took: Duration = group.iter().map(|test| test.took).sum();
    let limit = Duration::from_secs(10) + 3 * took;
    let mut all = command(program, mutant);
    all.arg("--exact").args(group.iter().map(|test| &test.name));
    let (passed, _, text) = run(&mut all, limit);
    if passed {
        return None;
    }
    let failed = text.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.trim_end_matches(" - should panic").to_owned())
    });
    let mut failed: Vec<String> = failed.collect();
    if failed.is_empty() {
        // It hangs or has ended its process: which one has is not reported.
        let hangs = |test: &&&Test| !text.contains(&format!("test {} ... ok", test.name));
        failed = group
            .iter()
            .filter(hangs)
            .map(|test| test.name.clone())
            .collect();
    }
    failed.into_iter().take(4).find(|name| {
        let mut alone = command(program, mutant);
        alone.args(["--exact", name]);
        let took = group.iter().find(|test| test.name == *name);
        let took = took.map_or(Duration::ZERO, |test| test.took);
        !run(&mut alone, Duration::from_secs(12) + 2 * took).0
    })
}

fn command(program: &Program, mutant: usize) -> Command {
    let mut command = Command::new(&program.path);
    command
        .current_dir(&program.package)
        .env("CARGO_MANIFEST_DIR", &program.package)
        .env("CHOSEN_MUTANT", mutant.to_string())
        .env("RUST_BACKTRACE", "0");
    command
}

/// Whether it ended well within the limit, how long it took, and what it printed.
fn run(command: &mut Command, limit: Duration) -> (bool, Duration, String) {
    let mut limited = Command::new("timeout");
    limited
        .args(["--signal=KILL", &limit.as_secs().max(1).to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .current_dir(command.get_current_dir().unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    #[allow(clippy::disallowed_methods, reason = "a tool's own patience")]
    let began = Instant::now();
    let output = limited.output();
    let took = began.elapsed();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.success(), took, text)
        }
        Err(_) => (false, took, String::new()),
    }
}

/// Does the same with each, this many at a time, in order.
fn in_parallel<T: Sync, A: Send>(
    workers: usize,
    all: &[T],
    act: impl Fn(usize, &T) -> A + Sync,
) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(at) else { return };
                    let answer = act(at, one);
                    let mut done = done
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.insert(at, answer);
                }
            });
        }
    });
    let done = done.into_inner();
    let done = done.unwrap_or_else(std::sync::PoisonError::into_inner);
    done.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_of_more_than_ten_seconds_waits_for_the_second_pass_and_runs_alone() {
        let passes = [0, 300, 301, 10_000, 10_001, 60_000].map(Duration::from_millis);
        let passes = passes.map(Pass::of);
        assert!(passes.is_sorted());
        assert_eq!(
            passes,
            [
                Pass::Fast,
                Pass::Fast,
                Pass::Slow,
                Pass::Slow,
                Pass::Second,
                Pass::Second
            ]
        );
        assert_eq!(passes.map(Pass::together), [60, 60, 6, 6, 1, 1]);
    }
}
