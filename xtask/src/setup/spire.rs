//! SPIRE's server and agent, built under `target/tools/spire` from the Go module proxy: SPIRE is packaged nowhere else. What is built is
//! pinned by `xtask/spire/go.mod` and `go.sum`, so nothing is resolved here and nothing that differs is taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Packages;
use crate::workspace::{Result, root, shown};

const PROGRAMS: [&str; 2] = ["spire-server", "spire-agent"];

/// The Go toolchain, for machines that have none.
const GO: Packages = Packages {
    what: "Go",
    requirements: "requirements-go.txt",
    venv: "go",
    stamp: "installed-go.txt",
};

/// Does nothing when the last finished build was of the same modules, or when the programs are somebody else's matter.
pub(super) fn install(tools: &Path) -> Result {
    if std::env::var_os("SECRET_RESOLVER_SPIRE").is_some() {
        return Ok(());
    }
    let module = root().join("xtask/spire");
    let [modules, sums] = ["go.mod", "go.sum"].map(|file| {
        fs::read_to_string(module.join(file))
            .map_err(|error| format!("cannot read xtask/spire/{file}: {error}"))
    });
    let wanted = format!("{}\n{}", modules?, sums?);
    let folder = tools.join("spire");
    let stamp = tools.join("installed-spire.txt");
    let complete = PROGRAMS.iter().all(|name| folder.join(name).is_file());
    if complete && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(());
    }
    let _ = fs::remove_file(&stamp);
    build(&go(tools, &module)?, tools, &module, &folder)?;
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write the stamp of SPIRE: {error}"))
}

/// This machine's Go, if it can build the module; else the pinned one.
fn go(tools: &Path, module: &Path) -> Result<PathBuf> {
    // Go itself judges, by the module's `go` line.
    let system = PathBuf::from("go");
    let judged = command(&system, module)
        .args(["list", "-m", "-mod=readonly"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if judged.is_ok_and(|status| status.success()) {
        return Ok(system);
    }
    GO.install(tools)?;
    Ok(tools.join("go/bin/go"))
}

/// Go in the module's folder, without what somebody has set for their own modules.
fn command(go: &Path, module: &Path) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(module)
        .env_remove("GOFLAGS")
        .env("GOWORK", "off")
        // A Go that is too old is to say so, not to fetch another.
        .env("GOTOOLCHAIN", "local")
        // SPIRE's SQLite is C. Without a C compiler, Go would leave it out and say nothing.
        .env("CGO_ENABLED", "1");
    command
}

fn build(go: &Path, tools: &Path, module: &Path, folder: &Path) -> Result {
    println!("building SPIRE under target/tools: several minutes, once");
    let new = tools.join("spire-new");
    let _ = fs::remove_dir_all(&new);
    let mut command = command(go, module);
    // Go's caches stay where Go has them, as those of pip and cargo do: another checkout, such as CI's, then builds this in seconds and
    // downloads nothing. They are some gigabytes; `go clean -cache -modcache` removes them.
    command
        .arg("install")
        .args(["-mod=readonly", "-trimpath", "-buildvcs=false"])
        // Debugging information would add half to the programs.
        .arg("-ldflags=-s -w")
        .args(PROGRAMS.map(|name| format!("github.com/spiffe/spire/cmd/{name}")))
        .env("GOBIN", &new);
    let built = command
        .output()
        .map_err(|error| format!("cannot start {}: {error}", shown(&command)))?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        let telling = |line: &&str| !line.starts_with("go: downloading ");
        let said: Vec<_> = said.lines().filter(telling).collect();
        return Err(format!(
            "{} failed ({}):\n{}\nSPIRE comes from the Go module proxy, and needs a C compiler; or name the folder of another spire-server \
             and spire-agent in SECRET_RESOLVER_SPIRE",
            shown(&command),
            built.status,
            said.join("\n")
        ));
    }
    let _ = fs::remove_dir_all(folder);
    fs::rename(&new, folder).map_err(|error| format!("cannot put SPIRE into its place: {error}"))
}
