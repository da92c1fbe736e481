//! `msrv`: the crates build with the oldest Rust that their manifests promise, where that toolchain is available. Everywhere
//! else clippy's `incompatible_msrv` still looks at which items of the standard library are called.

use std::process::Command;

use crate::workspace::{Result, output_of, root, run as run_command, target};

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

pub(crate) fn run() -> Result {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml"))
        .map_err(|error| format!("Cargo.toml: {error}"))?;
    let version = promised(&manifest).ok_or("the workspace's manifest has no rust-version")?;
    if !is_there(version) && !install(version) {
        println!("Rust {version} is not available here: it was not tried");
        return Ok(());
    }
    let mut check = rustup();
    check.args([
        "run",
        version,
        "cargo",
        "check",
        "--quiet",
        "--locked",
        "--all-features",
    ]);
    for name in CRATES {
        check.args(["--package", name]);
    }
    // Apart, or each compiler would compile again what the other has left.
    check.arg("--target-dir").arg(target().join("xtask/msrv"));
    run_command(&mut check)?;
    println!("{} crates build with Rust {version}", CRATES.len());
    Ok(())
}

/// The version in the workspace's manifest.
fn promised(manifest: &str) -> Option<&str> {
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))?;
    line.strip_suffix('"')
}

fn is_there(version: &str) -> bool {
    let listed = output_of(rustup().args(["toolchain", "list"])).unwrap_or_default();
    let is_it = |name: &str| name == version || name.starts_with(&format!("{version}-"));
    listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .any(is_it)
}

fn install(version: &str) -> bool {
    let mut install = rustup();
    install.args([
        "toolchain",
        "install",
        version,
        "--profile",
        "minimal",
        "--no-self-update",
    ]);
    run_command(&mut install).is_ok()
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_is_that_of_the_manifest() {
        assert_eq!(promised("a = 1\nrust-version = \"1.88\"\n"), Some("1.88"));
        assert_eq!(promised("rust-version.workspace = true\n"), None);
    }
}
