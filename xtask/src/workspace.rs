//! Where the workspace is, what is in it, and running programs there: what several commands share. It decides nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    // `cargo run` says where this package is. What it set for the compiler comes second, because checkouts that share a
    // `CARGO_TARGET_DIR` also share what was compiled in one of them.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
        .join("..")
}

/// Where these tasks keep their files. Fixed under the workspace whatever `CARGO_TARGET_DIR` says, because tests look there too.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// The cargo that runs us, so that its toolchain builds everything.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs `command` with our own standard streams.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command
        .status()
        .map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed ({status})", shown(command)))
    }
}

/// Runs `command` and returns what it printed; its standard error stays ours.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("{} failed ({})", shown(command), output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("{} printed what is not UTF-8", shown(command)))
}

/// The command as a person would have typed it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The workspace's own packages, as `cargo metadata` describes them.
pub(crate) fn packages() -> Result<Vec<Value>> {
    let text =
        output_of(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let mut metadata: Value = serde_json::from_str(&text)
        .map_err(|error| format!("cannot read cargo metadata: {error}"))?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => Err("cargo metadata names no packages".to_owned()),
    }
}
