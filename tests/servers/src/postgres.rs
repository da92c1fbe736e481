//! A real PostgreSQL server, with password logins by SCRAM on loopback. It owns the server's start, its files and its end; what a test
//! arranges inside it goes through `psql`, over a socket in the server's own folder.
//!
//! PostgreSQL refuses to run as root. There it runs as nobody, from a copy of its programs, because nobody may not be able to read the
//! workspace.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Error;
use crate::openbao::free_port;
use crate::process::{Guarded, clean_environment};
use crate::tools::Postgres as Found;

/// A running server, ended when this is dropped.
///
/// # Example
/// ```
/// let server = test_servers::Postgres::start()?;
/// server.set_password("app", "correct horse")?;
/// assert_eq!(server.run("SELECT rolname FROM pg_roles WHERE rolname = 'app'")?, "app");
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct Postgres {
    // Before the directory, because fields are dropped in this order and the server writes there until it is gone.
    process: Guarded,
    programs: PathBuf,
    port: u16,
    directory: TempDir,
}

const ATTEMPTS: usize = 5;
const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(5);
const SUPERUSER: &str = "postgres";
/// Its id on every system that has one, and good as an id on those that do not.
const NOBODY: u32 = 65534;

impl Postgres {
    /// The database that it has.
    pub const DATABASE: &str = "postgres";

    /// Starts a server and returns once it answers.
    ///
    /// # Errors
    /// It is not installed, or the server ended or did not answer within 30 s; the error ends with the server's last words.
    pub fn start() -> Result<Self, Error> {
        let found = Found::find()?;
        for _ in 0..ATTEMPTS {
            if let Some(server) = Self::start_at(free_port()?, &found)? {
                return Ok(server);
            }
        }
        Err(Error::new(format!(
            "PostgreSQL found its port taken {ATTEMPTS} times"
        )))
    }

    /// The port it listens on, on 127.0.0.1 only. It has no TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs these statements as the superuser and returns what they answered: values alone, one row a line, `|` between columns.
    ///
    /// # Errors
    /// One of them failed; what `psql` wrote to its standard error is in the error.
    pub fn run(&self, sql: &str) -> Result<String, Error> {
        let mut command = Command::new(self.programs.join("psql"));
        clean_environment(&mut command, self.directory.path());
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", SUPERUSER, "-d", Self::DATABASE, "-h"])
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string(), "-f", "-"]);
        let output = output_of(command, sql)?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// Gives a role this password. The role is created when it is not there yet, and may log in.
    ///
    /// # Errors
    /// As [`Postgres::run`].
    pub fn set_password(&self, role: &str, password: &str) -> Result<(), Error> {
        let name = role.replace('"', "\"\"");
        let [role, password] = [role, password].map(|text| text.replace('\'', "''"));
        let there = self.run(&format!(
            "SELECT count(*) FROM pg_roles WHERE rolname = '{role}'"
        ))?;
        let verb = if there == "0" { "CREATE" } else { "ALTER" };
        self.run(&format!(
            "{verb} ROLE \"{name}\" LOGIN PASSWORD '{password}'"
        ))
        .map(drop)
    }

    /// `None` when somebody else has the port.
    fn start_at(port: u16, found: &Found) -> Result<Option<Self>, Error> {
        let directory =
            tempfile::tempdir().map_err(Error::during("making a directory for PostgreSQL"))?;
        let home = directory.path();
        let user = user_for(home)?;
        let programs = match found {
            Found::Named(folder) => folder.join("bin"),
            Found::Installed(packages) => installed(packages, home, user.is_some())?,
        };
        let data = home.join("data").display().to_string();
        let mut initdb = Command::new(programs.join("initdb"));
        clean_environment(&mut initdb, home);
        initdb
            .args(["-D", &data, "-U", SUPERUSER])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--no-sync", "--no-locale", "--encoding=UTF8"]);
        if let Some(user) = user {
            initdb.uid(user).gid(user);
        }
        output_of(initdb, "")?;
        let setting = |name: &str, value: &str| ["-c".to_owned(), format!("{name}={value}")];
        let arguments = [
            ["-D".to_owned(), data],
            ["-p".to_owned(), port.to_string()],
            setting("listen_addresses", "127.0.0.1"),
            setting("unix_socket_directories", &home.display().to_string()),
            // Files in its own folder, so that nothing of it stays in the system's.
            setting("dynamic_shared_memory_type", "mmap"),
            setting("shared_buffers", "16MB"),
            // Rounds of a hash for each login. Of the 4,096 that are usual, a client that is not optimised makes a tenth of a second.
            setting("scram_iterations", "64"),
            // Its data need not outlive it.
            setting("fsync", "off"),
        ];
        let log = home.join("server.log");
        let process = Guarded::spawn_as(
            user,
            &programs.join("postgres"),
            &arguments.concat(),
            home,
            &log,
        )?;
        let mut server = Self {
            process,
            programs,
            port,
            directory,
        };
        Ok(server.wait_until_ready(&log)?.then_some(server))
    }

    /// `false` when somebody else has the port.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for another process, which no test's clock can steer"
    )]
    fn wait_until_ready(&mut self, log: &Path) -> Result<bool, Error> {
        let started = Instant::now();
        loop {
            let Err(refusal) = self.run("SELECT 1") else {
                return Ok(true);
            };
            let ended = self.process.ended()?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                if log.contains("Address already in use") {
                    return Ok(false);
                }
                return Err(Error::new(format!(
                    "PostgreSQL was not ready: {refusal}\nits log:\n{log}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    /// Lets it take its shared memory out of the system, which it cannot when it is killed.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for another process, which no test's clock can steer"
    )]
    fn drop(&mut self) {
        let started = Instant::now();
        if self.process.signal("QUIT").is_err() {
            return;
        }
        while matches!(self.process.ended(), Ok(None)) && started.elapsed() < END_LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("port", &self.port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// The user that the server runs as where we are root; `home` is then that user's.
fn user_for(home: &Path) -> Result<Option<u32>, Error> {
    let made_by = home
        .metadata()
        .map_err(Error::during("looking at PostgreSQL's directory"))?
        .uid();
    if made_by != 0 {
        return Ok(None);
    }
    chown(home, Some(NOBODY), Some(NOBODY))
        .map_err(Error::during("giving PostgreSQL its directory"))?;
    Ok(Some(NOBODY))
}

/// The folder of the installed programs; of a copy in `home`, if they are to be run by somebody else.
fn installed(packages: &Path, home: &Path, copied: bool) -> Result<PathBuf, Error> {
    if copied {
        for part in Found::PARTS {
            let to = home.join(part);
            let parent = to.parent().unwrap_or(home);
            std::fs::create_dir_all(parent)
                .map_err(Error::during("making a directory for PostgreSQL"))?;
            let mut copy = Command::new("cp");
            copy.arg("-R").arg(packages.join(part)).arg(&to);
            output_of(copy, "")?;
        }
    }
    let packages = if copied { home } else { packages };
    Ok(packages.join(Found::PARTS[0]).join("bin"))
}

/// What `command` printed, with `input` on its standard input.
fn output_of(mut command: Command, input: &str) -> Result<Vec<u8>, Error> {
    let program = command.get_program().to_owned();
    let program = Path::new(&program).display();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = |mut command: Command| -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run(command).map_err(|error| Error::new(format!("running {program}: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{program} failed ({}): {}",
        output.status,
        said.trim_end()
    )))
}
