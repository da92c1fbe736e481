//! `coverage`: which lines the tests reach, by `cargo-llvm-cov`, which it installs where it is missing. It fails when fewer are reached
//! than a floor allows: a number says little of how good tests are, but a fall says that something came without any.

use std::process::{Command, Stdio};

use crate::setup;
use crate::test::has_nextest;
use crate::workspace::{Result, cargo, root, run as run_command, target};

/// In percent of the lines of the crates that users get. Tests, tools and test servers are not counted.
const FLOOR: &str = "90";

const NOT_COUNTED: &str =
    r"(^|/)(xtask|benches|examples|fuzz|test-servers|tests)/|/tests\.rs$|/registry/|/rustc/";

/// Runs all tests, or those that `filter` names, and prints what they reach of each file.
pub(crate) fn run(filter: &[String]) -> Result {
    setup::run()?;
    install()?;
    let mut command = cargo();
    command.args(["llvm-cov"]);
    if has_nextest() {
        command.arg("nextest");
    }
    command.args(["--workspace", "--all-features", "--locked"]);
    command.args(["--ignore-filename-regex", NOT_COUNTED]);
    if filter.is_empty() {
        command.args(["--fail-under-lines", FLOOR]);
    }
    // The tests look for the servers below the workspace's own folder, wherever this is built.
    command.env("CARGO_TARGET_DIR", target());
    run_command(command.args(filter))
}

/// `cargo-llvm-cov` and the toolchain's own tools for it, which have to be of the compiler's version.
fn install() -> Result {
    let mut tools = Command::new("rustup");
    tools.args(["--quiet", "component", "add", "llvm-tools"]);
    run_command(tools.current_dir(root()))?;
    let mut version = cargo();
    version.args(["llvm-cov", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    run_command(cargo().args([
        "install",
        "cargo-llvm-cov",
        "--locked",
        "--version",
        "0.9.1",
    ]))
}
