//! A real OpenBao server, unsealed, with TLS, its own CA and a KV v2 store at `secret/`. It owns the server's start, its files and
//! its end; what a test arranges inside it is in `cli.rs`. By default it runs in dev mode, with all in memory; `durable.rs` starts one
//! whose data outlive its process.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli::Cli;
use crate::process::Guarded;
use crate::{Error, tools};

/// A running server, ended when this is dropped.
///
/// # Example
/// ```
/// let server = test_servers::OpenBao::start()?;
/// server.put("app/db", &[("password", "correct horse")])?;
/// assert_eq!(server.run(&["kv", "get", "-field=password", "-mount=secret", "app/db"])?, "correct horse");
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct OpenBao {
    // Before the directory, because fields are dropped in this order and the server writes there until it is gone.
    process: Guarded,
    cli: Cli,
    root_token: String,
    port: u16,
    log: PathBuf,
    /// Where the log of a server in dev mode shows it.
    unseal_key: Option<String>,
    arguments: Vec<String>,
    _directory: TempDir,
}

/// A free port can be lost to somebody else between the moment we find it and the moment the server binds it.
const ATTEMPTS: usize = 5;
const START_LIMIT: Duration = Duration::from_secs(30);
const LOG_LINES_IN_ERROR: usize = 15;

impl OpenBao {
    /// Starts a server and returns once it answers for its KV store.
    ///
    /// # Errors
    /// The program is not installed, or the server ended or did not answer within 30 s; the error ends with the server's last words.
    pub fn start() -> Result<Self, Error> {
        Self::start_by(Self::start_at)
    }

    /// By `start`, at a port that is free.
    pub(crate) fn start_by(
        start: impl Fn(u16, &Path) -> Result<Option<Self>, Error>,
    ) -> Result<Self, Error> {
        let program = tools::bao()?;
        for _ in 0..ATTEMPTS {
            if let Some(server) = start(free_port()?, &program)? {
                return Ok(server);
            }
        }
        Err(Error::new(format!(
            "OpenBao found its port taken {ATTEMPTS} times"
        )))
    }

    /// `https://127.0.0.1:PORT`. The server's certificate is also good for [`OpenBao::localhost_origin`], and for no name that other
    /// machines would use.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// `https://localhost:PORT`: the same server by a host name.
    #[must_use]
    pub fn localhost_origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The port it listens on, on 127.0.0.1 only.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The PEM file of the CA that signed the server's certificate. It goes with the server.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.cli.ca_file
    }

    /// The root token: random, this server's alone.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the server and returns when it is gone: from then on its port refuses connections. A second call does nothing.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Freezes the server: its port accepts connections and nobody answers.
    ///
    /// # Errors
    /// The server has ended.
    pub fn suspend(&mut self) -> Result<(), Error> {
        self.process.suspend()
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// The server has ended.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.process.signal("CONT")
    }

    pub(crate) fn reload(&mut self) -> Result<(), Error> {
        self.process.signal("HUP")
    }

    /// What the server has logged so far, with the root token and the unseal key removed.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String, Error> {
        let text = self.raw_log()?;
        Ok(match unseal_key_in(&text) {
            Some(key) => text.replace(key, "…"),
            None => text.clone(),
        }
        .replace(&self.root_token, "…"))
    }

    pub(crate) fn cli(&self) -> &Cli {
        &self.cli
    }

    pub(crate) fn unseal_key(&self) -> Result<String, Error> {
        if let Some(key) = &self.unseal_key {
            return Ok(key.clone());
        }
        let text = self.raw_log()?;
        unseal_key_in(&text)
            .map(str::to_owned)
            .ok_or_else(|| Error::new("the server's log shows no unseal key"))
    }

    fn raw_log(&self) -> Result<String, Error> {
        std::fs::read_to_string(&self.log).map_err(Error::during("reading the server's log"))
    }

    /// `None` when somebody else has the port.
    fn start_at(port: u16, program: &Path) -> Result<Option<Self>, Error> {
        let directory =
            tempfile::tempdir().map_err(Error::during("making a directory for OpenBao"))?;
        let home = directory.path().to_owned();
        let root_token = random_token()?;
        let arguments = [
            "server".to_owned(),
            "-dev".to_owned(),
            // Else the token lands in the home folder's token helper.
            "-dev-no-store-token".to_owned(),
            format!("-dev-root-token-id={root_token}"),
            format!("-dev-listen-address=127.0.0.1:{port}"),
            "-dev-tls".to_owned(),
            format!("-dev-tls-cert-dir={}", home.display()),
        ];
        let arguments = arguments.into();
        let mut server = Self::spawn(port, program, directory, arguments, root_token)?;
        Ok(server.wait_until_ready()?.then_some(server))
    }

    /// The process, in its directory, which also has the CA's certificate.
    pub(crate) fn spawn(
        port: u16,
        program: &Path,
        directory: TempDir,
        arguments: Vec<String>,
        root_token: String,
    ) -> Result<Self, Error> {
        let home = directory.path().to_owned();
        let log = home.join("server.log");
        let process = Guarded::spawn(program, &arguments, &home, &log)?;
        let cli = Cli {
            program: program.to_owned(),
            origin: format!("https://127.0.0.1:{port}"),
            ca_file: home.join("vault-ca.pem"),
            home,
        };
        Ok(Self {
            process,
            cli,
            root_token,
            port,
            log,
            unseal_key: None,
            arguments,
            _directory: directory,
        })
    }

    /// What a new store has given out.
    pub(crate) fn initialized(&mut self, root_token: String, unseal_key: String) {
        self.root_token = root_token;
        self.unseal_key = Some(unseal_key);
    }

    /// The same process once more, after it was stopped.
    pub(crate) fn spawn_again(&mut self) -> Result<(), Error> {
        let Cli { program, home, .. } = &self.cli;
        self.process = Guarded::spawn(program, &self.arguments, home, &self.log)?;
        Ok(())
    }

    /// Runs `step` until it succeeds; `false` when somebody else has the port.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for another process, which no test's clock can steer"
    )]
    pub(crate) fn until<T>(
        &mut self,
        mut step: impl FnMut(&Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let started = Instant::now();
        loop {
            let refusal = match step(self) {
                Ok(done) => return Ok(Some(done)),
                Err(refusal) => refusal,
            };
            if let Some(status) = self.process.ended()? {
                if self.raw_log()?.contains("address already in use") {
                    return Ok(None);
                }
                return Err(Error::new(format!(
                    "OpenBao ended at its start ({status})\n{}",
                    self.last_words()?
                )));
            }
            if started.elapsed() > START_LIMIT {
                let seconds = START_LIMIT.as_secs();
                return Err(Error::new(format!(
                    "OpenBao was not ready after {seconds} s: {refusal}\n{}",
                    self.last_words()?
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `false` when somebody else has the port.
    pub(crate) fn wait_until_ready(&mut self) -> Result<bool, Error> {
        // Just after its start the store still refuses reads while it turns itself into version 2. Reading the store's configuration
        // passes only after that, and proves TLS, the token and the unsealing with it.
        let ready = self.until(|server| server.run(&["read", "secret/config"]))?;
        Ok(ready.is_some())
    }

    fn last_words(&self) -> Result<String, Error> {
        let log = self.log()?;
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.len().saturating_sub(LOG_LINES_IN_ERROR);
        Ok(format!(
            "its log ended with:\n{}",
            lines.get(tail..).unwrap_or_default().join("\n")
        ))
    }
}

impl fmt::Debug for OpenBao {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBao")
            .field("port", &self.port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

fn unseal_key_in(log: &str) -> Option<&str> {
    log.lines()
        .find_map(|line| line.strip_prefix("Unseal Key: "))
        .map(str::trim)
}

/// A port that is free together with the next one, which the server takes for its cluster.
pub(crate) fn free_port() -> Result<u16, Error> {
    for _ in 0..100 {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .map_err(Error::during("looking for a free port"))?;
        let port = listener
            .local_addr()
            .map_err(Error::during("looking for a free port"))?
            .port();
        if port
            .checked_add(1)
            .is_some_and(|next| TcpListener::bind(("127.0.0.1", next)).is_ok())
        {
            return Ok(port);
        }
    }
    Err(Error::new("found no two free ports in a row"))
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::new("the system gave no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_else_has_is_not_taken_for_a_failed_start() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(
            OpenBao::start_at(port, &tools::bao().unwrap())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_server_that_ends_at_its_start_is_an_error_with_its_last_words_and_without_its_token() {
        // This shell takes `server` for a script that it cannot find, and says so.
        let error = OpenBao::start_at(free_port().unwrap(), Path::new("/bin/sh")).unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains("ended at its start") && shown.contains("server"),
            "{shown}"
        );
        assert!(!shown.contains("root-token-id"), "{shown}");
    }
}
