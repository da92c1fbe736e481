//! `cargo xtask demo`: the main job on a real server. It only sets up and starts the example, so
//! that the tasks themselves compile in a moment.

use std::process::Command;

use crate::setup;

/// Installs OpenBao and runs the Vault backend's `demo` example against it.
pub(crate) fn run() -> Result<(), String> {
    setup::run()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--locked",
            "-p",
            "secret-resolver-vault",
            "--example",
            "demo",
        ])
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("the demo did not end as it should".to_owned()),
    }
}
