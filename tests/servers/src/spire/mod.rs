//! A real SPIRE: a server and an agent with a Workload API, on loopback and on sockets in a temporary folder. It owns their start, their
//! files and their end; the agent's part of it is in `agent.rs`. What is arranged in the server is in `admin.rs`, what a workload gets is in
//! `workload.rs`; both go through SPIRE's own command line tools.
//!
//! What a client of its Workload API has to expect, measured with v1.13.3:
//!
//! - Its socket has mode 0777 whatever the umask is. Who may connect is the folders' matter, who gets something is the agent's.
//! - An X.509 SVID begins 10 s before it was made. The agent replaces it once half of its whole life is left, give or take a tenth: one
//!   of 20 s every 4 to 5 s; one of 12 s or less whenever it asks its server, four times a second here. The least life is one second.
//! - A JWT-SVID begins when it was made. The agent gives the same one, for the same audience, to half of its life. It has `kid` and `typ`,
//!   `aud` is an array of one, and there is no `iss`, `nbf` or `jti`.
//! - A change of entries is in the stream a quarter to half a second later here, 5 s with the usual settings. A message has all
//!   identities of the workload. When the last one goes, the stream ends with `PermissionDenied`, and each call gets the same.
//! - While its server is away, the agent gives an X.509 SVID past its end to whoever asks, and sends nothing. It gives a JWT-SVID past its
//!   end to nobody: the call fails, at once where the server refuses connections, and with the caller's patience where it is silent.
//! - After a restart it has new keys and certificates for its workloads, and the streams must be opened again. It opens its socket only
//!   after it has reached its server.
//! - A message can have the SVID of the one before: a prepared authority sends one, for its bundle. An authority that signs from now on
//!   replaces nothing that is good; tainting the old one replaces X.509 SVIDs and JWT-SVIDs within a second.
//! - Authorities past their end stay in the bundle. With a life of a minute there are four of them after a minute and a half.

mod admin;
mod agent;
mod config;
mod workload;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::agent::Agent;
use self::config::Home;
use crate::openbao::free_port;
use crate::process::Guarded;
use crate::{Error, tools};

pub use self::admin::{Authorities, Authority, JwtKey, Registration};
pub use self::config::{SpireKey, SpireSettings};
pub use self::workload::{JwtSvid, Watch, X509Svid};

/// A running server and its agent, ended when this is dropped.
///
/// # Example
/// ```
/// use test_servers::{Registration, Spire};
/// let spire = Spire::start()?;
/// spire.register(&Registration::new("/web", spire.uid()))?;
/// let svid = spire.until_issued(spire.uid(), "/web")?;
/// assert_eq!(svid.id, "spiffe://spire.test/web");
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct Spire {
    // Before the directory, because fields are dropped in this order and both write there until they are gone.
    agent: Agent,
    server: Guarded,
    programs: PathBuf,
    trust_domain: String,
    port: u16,
    uid: u32,
    home: Home,
    _directory: TempDir,
}

/// A free port can be lost to somebody else between the moment we find it and the moment the server binds it.
const ATTEMPTS: usize = 5;
const START_LIMIT: Duration = Duration::from_secs(30);
/// For what a test waits for by an `until_…`.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

impl Spire {
    /// Starts a server for the trust domain `spire.test`, and its agent, and returns once the agent answers workloads.
    ///
    /// # Errors
    /// SPIRE is not installed, or one of the two ended or did not answer within 30 s; the error ends with its log.
    pub fn start() -> Result<Self, Error> {
        SpireSettings::new("spire.test").start()
    }

    /// The name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The SPIFFE ID with this path, such as `/web`.
    #[must_use]
    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.trust_domain)
    }

    /// The agent's socket. It and its folders belong to the agent's user, or to the one who runs this, and nobody else can write to the folders; the system's
    /// folder for temporary files, above them, is another matter: [`SpireSettings::below`].
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.socket()
    }

    /// The user id under which this process and the server run, and the agent, unless it has a user of its own.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The server's process id.
    #[must_use]
    pub fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// Kills the server and returns when it is gone: the agent finds its port closed.
    pub fn stop_server(&mut self) {
        self.server.kill();
    }

    /// Starts the server again after it was stopped, with what it keeps on disk and at the same port, and returns once it answers.
    ///
    /// # Errors
    /// It ended or did not answer within 30 s; the error ends with its log.
    pub fn start_server(&mut self) -> Result<(), Error> {
        self.server.kill();
        self.server = spawn_server(&self.programs, &self.home)?;
        let admin = admin::Cli::new(&self.programs, &self.home);
        match bundle_of(&mut self.server, &admin, &self.home)? {
            Some(_) => Ok(()),
            None => Err(Error::new("somebody else has the SPIRE server's port now")),
        }
    }

    /// Freezes the server: the agent has what it has, and nothing new. What administers the server then waits without an end.
    ///
    /// # Errors
    /// It has ended.
    pub fn suspend_server(&mut self) -> Result<(), Error> {
        self.server.suspend()
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume_server(&mut self) -> Result<(), Error> {
        self.server.signal("CONT")
    }

    /// What the server has logged since its last start.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn server_log(&self) -> Result<String, Error> {
        read(&server_log(&self.home))
    }

    pub(crate) fn start_with(settings: &SpireSettings) -> Result<Self, Error> {
        let programs = tools::spire()?;
        for _ in 0..ATTEMPTS {
            if let Some(spire) = Self::start_at(free_port()?, settings, &programs)? {
                return Ok(spire);
            }
        }
        Err(Error::new(format!(
            "SPIRE found its port taken {ATTEMPTS} times"
        )))
    }

    /// `None` when somebody else has the port.
    fn start_at(
        port: u16,
        settings: &SpireSettings,
        programs: &Path,
    ) -> Result<Option<Self>, Error> {
        let directory = match &settings.below {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        let directory = directory.map_err(Error::during("making a directory for SPIRE"))?;
        let home = Home::new(directory.path())?;
        let uid = workload::owner_of(directory.path())?;
        Home::write(
            &home.server().join("server.conf"),
            &settings.server(&home, port),
        )?;
        let mut server = spawn_server(programs, &home)?;
        let admin = admin::Cli::new(programs, &home);
        let Some(bundle) = bundle_of(&mut server, &admin, &home)? else {
            return Ok(None);
        };
        Home::write(&home.bundle(), &bundle)?;
        let alias = admin::agent_id(&settings.trust_domain);
        let token = admin.json(&["token", "generate"], &["-spiffeID", &alias])?;
        let token = admin::text_at(&token, "/value")?;
        Home::write(
            &home.agent().join("agent.conf"),
            &settings.agent(&home, port, &token),
        )?;
        let mut spire = Self {
            agent: Agent::start(programs, &home, uid, settings.agent_user.unwrap_or(uid))?,
            server,
            programs: programs.to_owned(),
            trust_domain: settings.trust_domain.clone(),
            port,
            uid,
            home,
            _directory: directory,
        };
        spire.until_agent_answers()?;
        Ok(Some(spire))
    }
}

impl fmt::Debug for Spire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spire")
            .field("trust_domain", &self.trust_domain)
            .field("port", &self.port)
            .field("server", &self.server_pid())
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

fn spawn_server(programs: &Path, home: &Home) -> Result<Guarded, Error> {
    let config = home.server().join("server.conf").display().to_string();
    let arguments = ["run".to_owned(), "-config".to_owned(), config];
    let program = programs.join("spire-server");
    Guarded::spawn(&program, &arguments, home.path(), &server_log(home))
}

/// The certificates of a server that has just been started, once it answers; `None` when somebody else has its port.
fn bundle_of(
    server: &mut Guarded,
    admin: &admin::Cli,
    home: &Home,
) -> Result<Option<String>, Error> {
    let log = server_log(home);
    let asked = until("the SPIRE server", START_LIMIT, || {
        match (admin.run(&["bundle", "show"], &[]), server.ended()?) {
            (Ok(bundle), _) => Ok(Some(Some(bundle))),
            (Err(_), None) => Ok(None),
            (Err(_), Some(_)) if read(&log)?.contains("address already in use") => Ok(Some(None)),
            (Err(_), Some(status)) => Err(Error::new(format!("the SPIRE server ended ({status})"))),
        }
    });
    asked.map_err(with_log(&log))
}

fn server_log(home: &Home) -> PathBuf {
    home.server().join("server.log")
}

fn read(log: &Path) -> Result<String, Error> {
    std::fs::read_to_string(log).map_err(Error::during("reading SPIRE's log"))
}

fn with_log(log: &Path) -> impl FnOnce(Error) -> Error {
    move |error| {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        Error::new(format!("{error}\nits log:\n{log}"))
    }
}

/// Asks until there is an answer, for as long as `limit`.
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for another process, which no test's clock can steer"
)]
fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if started.elapsed() > limit {
            let seconds = limit.as_secs();
            return Err(Error::new(format!(
                "{what} was not there after {seconds} s"
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
