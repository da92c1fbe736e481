//! The programs under `examples/` of every package, as a part of `test`: each is run by itself, and its exit code is its verdict.
//!
//! They are built in one go with everything, as the tests are. One by one, cargo would choose other features of what they share and
//! compile that again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use crate::workspace::{Result, cargo, output_of};

/// None takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs each, even after one that failed.
///
/// # Errors
/// The names of those that failed.
pub(crate) fn run(everything: &[&str]) -> Result {
    let examples = build(&[everything, &["--examples"]].concat())?;
    if examples.is_empty() {
        return Err("cargo built no example".to_owned());
    }
    let mut failed = Vec::new();
    for example in &examples {
        println!("\n== example {}", example.name);
        if let Err(why) = example.run() {
            println!("{why}");
            failed.push(example.name.as_str());
        }
    }
    let passed = examples.len() - failed.len();
    println!("\nexamples: {passed} passed, {} failed", failed.len());
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("examples failed: {}", failed.join(", "))),
    }
}

/// Builds what these arguments of `cargo build` say, and lets cargo report its progress on the standard error.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<Example>> {
    let format = ["--message-format", "json-render-diagnostics"];
    let messages = output_of(cargo().arg("build").args(arguments).args(format))?;
    Ok(messages.lines().filter_map(example_in).collect())
}

#[derive(Debug, PartialEq)]
pub(crate) struct Example {
    name: String,
    program: PathBuf,
    /// Where its package is.
    package: PathBuf,
}

impl Example {
    pub(crate) fn run(&self) -> Result {
        let mut command = Command::new(&self.program);
        // As `cargo run` does. The servers are looked for from there.
        command.env("CARGO_MANIFEST_DIR", &self.package);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name))?;
        match within_limit(child)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{} failed ({status})", self.name)),
            None => Err(format!("{} did not end within {LIMIT:?}", self.name)),
        }
    }
}

/// How `child` ended; `None` when it had to be killed.
fn within_limit(mut child: Child) -> Result<Option<ExitStatus>> {
    let looks = LIMIT.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        let status = child.try_wait();
        if let Some(status) =
            status.map_err(|error| format!("cannot wait for an example: {error}"))?
        {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    // A failure means that it has just ended; it was too late.
    let _ = child.kill();
    let _ = child.wait();
    Ok(None)
}

/// The example that one of cargo's messages says was built.
fn example_in(message: &str) -> Option<Example> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    if target["kind"][0] != "example" {
        return None;
    }
    Some(Example {
        name: target["name"].as_str()?.to_owned(),
        program: message["executable"].as_str()?.into(),
        package: Path::new(message["manifest_path"].as_str()?)
            .parent()?
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_distinguished_from_all_else_that_cargo_builds() {
        let message = |kind: &str| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": "/w/crate/Cargo.toml",
                "executable": "/t/debug/examples/pool",
                "target": { "kind": [kind], "name": "pool" },
            })
            .to_string()
        };
        let example = Example {
            name: "pool".to_owned(),
            program: "/t/debug/examples/pool".into(),
            package: "/w/crate".into(),
        };
        assert_eq!(example_in(&message("example")), Some(example));
        assert_eq!(example_in(&message("bin")), None);
        assert_eq!(example_in("   Compiling something"), None);
    }
}
