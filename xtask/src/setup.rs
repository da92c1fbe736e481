//! `setup`: the servers and clients that tests need, installed under `target/tools`. It installs what `requirements-tools.txt`,
//! `requirements-conjur.txt` and `requirements-spiffe.txt` pin, unpacks Debian's nginx, builds SPIRE, and touches nothing outside the workspace; finding the programs
//! there is `test-servers`' part.

mod spire;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workspace::{Result, root, run as run_command, target};

pub(crate) fn run() -> Result {
    stores()?;
    SPIFFE_CLIENT.install(&target().join("tools"))?;
    spire::install(&target().join("tools"))
}

/// All but SPIRE, which takes minutes to build, and the SPIFFE client: only tests of identities need them.
pub(crate) fn stores() -> Result {
    let tools = target().join("tools");
    SERVERS.install(&tools)?;
    CONJUR_CLIENT.install(&tools)?;
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

/// What is needed are the programs in these packages. The Python code around them is never run.
const SERVERS: Packages = Packages {
    what: "the test servers",
    requirements: "requirements-tools.txt",
    venv: "venv",
    stamp: "installed-requirements.txt",
};

/// Conjur's own client. Its Python code is what runs, so what it depends on is in the list too; it has a folder of its own, because
/// what it pins has nothing to do with the servers.
const CONJUR_CLIENT: Packages = Packages {
    what: "the Conjur client",
    requirements: "requirements-conjur.txt",
    venv: "conjur-client",
    stamp: "installed-conjur-client.txt",
};

/// A client of SPIFFE's Workload API that shares no code with ours: it judges the one that tests have in process.
const SPIFFE_CLIENT: Packages = Packages {
    what: "the SPIFFE client",
    requirements: "requirements-spiffe.txt",
    venv: "spiffe-client",
    stamp: "installed-spiffe-client.txt",
};

/// Python packages that are installed together.
struct Packages {
    what: &'static str,
    /// The list of them, in this crate's folder.
    requirements: &'static str,
    /// Where they are put, under the tools' folder.
    venv: &'static str,
    /// What says which list was installed last, in the same place.
    stamp: &'static str,
}

impl Packages {
    /// Does nothing when the last finished installation was of the same requirements.
    fn install(&self, tools: &Path) -> Result {
        let venv = tools.join(self.venv);
        let stamp = tools.join(self.stamp);
        let requirements = root().join("xtask").join(self.requirements);
        let wanted = fs::read_to_string(&requirements)
            .map_err(|error| format!("cannot read {}: {error}", self.requirements))?;
        // The interpreter is a link to the system's: after an upgrade of that it may lead nowhere.
        let python = venv.join("bin/python");
        if python.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        {
            return Ok(());
        }
        println!("installing {} under target/tools", self.what);
        // The stamp is what says that an installation was finished, so it goes first and comes last.
        let _ = fs::remove_file(&stamp);
        fs::create_dir_all(tools).map_err(|error| format!("cannot make target/tools: {error}"))?;
        run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).map_err(|error| {
            format!(
                "{error}\n{} comes as Python packages: install python3 with its venv module (python3-venv on Debian)",
                self.what
            )
        })?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            // The lists are whole: nothing comes that they do not pin.
            "--no-deps",
            "-r",
        ];
        run_command(Command::new(&python).args(pip).arg(&requirements))?;
        fs::write(&stamp, wanted)
            .map_err(|error| format!("cannot write the stamp of the installation: {error}"))
    }
}
