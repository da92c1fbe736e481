//! `test`: every example and test of the workspace, with the servers they need, and then the threat model's check of which of them ran. With a
//! filter it runs those tests alone, and says what it left out.
//!
//! It runs tests by nextest where that is installed and by `cargo test` elsewhere; what it learns from either is the same.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::threat_model::{self, Ran, record};
use crate::workspace::{
    Result, cargo, output_of, packages, root, run as run_command, shown, target,
};
use crate::{examples, setup};

const EVERYTHING: [&str; 3] = ["--workspace", "--all-features", "--locked"];

pub(crate) fn run(filter: &[String]) -> Result {
    setup::run()?;
    let runner = if has_nextest() { nextest } else { libtest };
    if !filter.is_empty() {
        let (outcome, _) = runner(filter)?;
        println!("with a filter, no examples were run, and THREAT_MODEL.md was not checked");
        return outcome;
    }
    record(&[])?;
    // The examples go first, because the tests' own summary is what the reader looks for at the end. The failure
    // of one does not keep the others from running.
    let examples = examples::run(&EVERYTHING);
    let documentation = run_command(cargo().arg("test").args(EVERYTHING).arg("--doc"));
    let (tests, ran) = runner(filter)?;
    record(&ran)?;
    examples?;
    documentation?;
    tests?;
    threat_model::run()
}

/// How the tests went, and which ran.
type Outcome = (Result, Vec<Ran>);

pub(crate) fn has_nextest() -> bool {
    let mut version = cargo();
    version
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn nextest(filter: &[String]) -> Result<Outcome> {
    let report = target().join("nextest/default/junit.xml");
    // A run that fails to build writes no report, and must not be taken for the one before.
    let _ = fs::remove_file(&report);
    let config = format!("xtask:{}", root().join("xtask/nextest.toml").display());
    let mut command = cargo();
    command
        .args(["nextest", "run"])
        .args(EVERYTHING)
        .args(["--no-fail-fast", "--tool-config-file", &config])
        .args(filter);
    // The report goes to the store below the workspace's own target folder, wherever the build goes.
    let outcome = run_command(&mut command);
    let ran = fs::read_to_string(&report)
        .map(|xml| tests_in_report(&xml))
        .unwrap_or_default();
    Ok((outcome, ran))
}

fn libtest(filter: &[String]) -> Result<Outcome> {
    let binaries = test_binaries()?;
    let mut command = cargo();
    command
        .arg("test")
        .args(EVERYTHING)
        .args(["--tests", "--no-fail-fast"])
        .args(filter)
        .env("CARGO_TERM_COLOR", "never");
    // One pipe for both streams: cargo names the binary on one, the binary its tests on the other, and their order is the link.
    let (reader, writer) =
        std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    let cannot_start = |error| format!("cannot start cargo test: {error}");
    command
        .stdout(writer.try_clone().map_err(cannot_start)?)
        .stderr(writer);
    let mut child = command.spawn().map_err(cannot_start)?;
    let name = shown(&command);
    // It holds the writing ends; while they are open, the reading never ends.
    drop(command);
    let mut ran = Vec::new();
    let mut binary = None;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the tests' output: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(file) = file_of_running(&line) {
            binary = binaries.get(file);
        } else if let (Some(binary), Some((test, passed))) = (binary, verdict_in(&line)) {
            ran.push(Ran {
                path: format!("{binary}::{test}"),
                passed,
            });
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for {name}: {error}"))?;
    Ok((
        if status.success() {
            Ok(())
        } else {
            Err(format!("{name} failed ({status})"))
        },
        ran,
    ))
}

/// The test binaries' file names, each with the id that nextest would give it.
fn test_binaries() -> Result<HashMap<String, String>> {
    let packages = packages()?;
    let names: HashMap<_, _> = packages
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let messages = output_of(cargo().arg("test").args(EVERYTHING).args([
        "--tests",
        "--no-run",
        "--message-format",
        "json",
    ]))?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages
        .filter_map(|message| test_binary(&message, &names))
        .collect())
}

fn test_binary(message: &Value, names: &HashMap<&str, &str>) -> Option<(String, String)> {
    let file = Path::new(message["executable"].as_str()?)
        .file_name()?
        .to_str()?;
    let package = names.get(message["package_id"].as_str()?)?;
    let target = message["target"]["name"].as_str()?;
    let id = match message["target"]["kind"][0].as_str()? {
        "test" => format!("{package}::{target}"),
        kind @ ("bin" | "example" | "bench") => format!("{package}::{kind}/{target}"),
        _ => (*package).to_owned(),
    };
    Some((file.to_owned(), id))
}

/// The binary's file name in cargo's line `Running unittests src/lib.rs (target/debug/deps/name-0123)`.
fn file_of_running(line: &str) -> Option<&str> {
    let rest = line
        .trim_start()
        .strip_prefix("Running ")?
        .strip_suffix(')')?;
    Path::new(rest.rsplit_once('(')?.1).file_name()?.to_str()
}

/// The test and its verdict in the harness's line `test module::name ... ok`. A test that was ignored did not run.
fn verdict_in(line: &str) -> Option<(&str, bool)> {
    let (test, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let test = test.strip_suffix(" - should panic").unwrap_or(test);
    match verdict.trim() {
        "ok" => Some((test, true)),
        "FAILED" => Some((test, false)),
        _ => None,
    }
}

/// The tests in nextest's JUnit report. It knows no more XML than nextest writes, which escapes every `<` in text and attributes.
fn tests_in_report(xml: &str) -> Vec<Ran> {
    let cases = xml.split("<testcase ").skip(1).filter_map(|case| {
        let (attributes, body) = case.split_once('>')?;
        let binary = attribute(attributes, "classname")?;
        let body = if attributes.ends_with('/') {
            ""
        } else {
            body.split("</testcase>").next()?
        };
        let passed = !["<failure", "<error", "<skipped"]
            .iter()
            .any(|tag| body.contains(tag));
        Some(Ran {
            path: format!("{binary}::{}", attribute(attributes, "name")?),
            passed,
        })
    });
    cases.collect()
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let attributes = attributes.split('"').collect::<Vec<_>>();
    attributes
        .chunks_exact(2)
        .find(|pair| pair[0].trim().strip_suffix('=') == Some(name))
        .map(|pair| pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(path: &str, passed: bool) -> Ran {
        Ran {
            path: path.to_owned(),
            passed,
        }
    }

    #[test]
    fn a_report_separates_passed_from_failed() {
        let xml = r#"<testsuites name="nextest-run" tests="2"><testsuite name="a::b" tests="2">
            <testcase name="m::good" classname="a::b" time="0.008"/>
            <testcase name="m::bad" classname="a::b" time="0.1">
                <failure message="left &lt; right" type="test failure">x</failure>
                <system-out>&lt;testcase name="m::faked" classname="a::b"/&gt;</system-out>
            </testcase>
            <testcase name="m::loud" classname="a::b" time="0.1"><system-out>fine</system-out></testcase>
        </testsuite></testsuites>"#;
        assert_eq!(
            tests_in_report(xml),
            [
                ran("a::b::m::good", true),
                ran("a::b::m::bad", false),
                ran("a::b::m::loud", true)
            ]
        );
    }

    #[test]
    fn the_harness_output_separates_passed_from_failed_from_ignored() {
        assert_eq!(verdict_in("test m::good ... ok"), Some(("m::good", true)));
        assert_eq!(
            verdict_in("test m::bad ... FAILED"),
            Some(("m::bad", false))
        );
        assert_eq!(
            verdict_in("test m::loud - should panic ... ok"),
            Some(("m::loud", true))
        );
        assert_eq!(verdict_in("test m::later ... ignored, needs a moon"), None);
        assert_eq!(verdict_in("test result: ok. 3 passed; 0 failed"), None);
    }

    #[test]
    fn a_binary_is_known_by_what_cargo_says_when_it_runs_it() {
        assert_eq!(
            file_of_running("     Running unittests src/lib.rs (target/debug/deps/a-01)"),
            Some("a-01")
        );
        assert_eq!(
            file_of_running("     Running tests/b.rs (/somewhere/debug/deps/b-02)"),
            Some("b-02")
        );
        assert_eq!(file_of_running("Running out of (time"), None);
    }

    #[test]
    fn binaries_are_named_as_nextest_names_them() {
        let names = HashMap::from([("id", "some-crate")]);
        let id = |kind: &str| {
            let target = serde_json::json!({ "kind": [kind], "name": "t" });
            let message = serde_json::json!({ "executable": "/x/t-01", "package_id": "id", "target": target });
            test_binary(&message, &names).unwrap().1
        };
        assert_eq!(
            [id("lib"), id("test"), id("bin")],
            ["some-crate", "some-crate::t", "some-crate::bin/t"]
        );
    }
}
