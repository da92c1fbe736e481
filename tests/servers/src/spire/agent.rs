//! The agent's process: its start, under which user, its end, and what is done to it meanwhile.

use std::fmt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::config::Home;
use super::{START_LIMIT, read, until, with_log, workload};
use crate::process::Guarded;
use crate::{Error, Spire};

/// The running agent.
pub(super) struct Agent {
    process: Guarded,
    user: u32,
    /// How often it was started, for the names of its logs.
    starts: usize,
}

impl Agent {
    /// Starts the agent as `user`, from a process of the user `own`. It does not answer yet.
    pub(super) fn start(programs: &Path, home: &Home, own: u32, user: u32) -> Result<Self, Error> {
        Self::start_again(programs, home, own, user, 1)
    }

    fn start_again(
        programs: &Path,
        home: &Home,
        own: u32,
        user: u32,
        starts: usize,
    ) -> Result<Self, Error> {
        let program = workload::program_for(&programs.join("spire-agent"), home, own, user)?;
        give(home, user)?;
        let config = home.agent().join("agent.conf").display().to_string();
        let arguments = ["run".to_owned(), "-config".to_owned(), config];
        let other = (user != own).then_some(user);
        let log = log(home, starts);
        Ok(Self {
            process: Guarded::spawn_as(other, &program, &arguments, home.path(), &log)?,
            user,
            starts,
        })
    }
}

/// What is done to the agent.
impl Spire {
    /// The agent's process id.
    #[must_use]
    pub fn agent_pid(&self) -> u32 {
        self.agent.process.pid()
    }

    /// Kills the agent and returns when it is gone. Its socket stays as a file, and refuses connections.
    pub fn stop_agent(&mut self) {
        self.agent.process.kill();
    }

    /// Starts the agent again after it was stopped, with what it keeps on disk, and returns once it answers workloads.
    ///
    /// # Errors
    /// As [`Spire::start`].
    pub fn start_agent(&mut self) -> Result<(), Error> {
        self.start_agent_as(self.agent.user)
    }

    /// As [`Spire::start_agent`], under another user's id, to whom its folders belong from now on. Another than our own needs root.
    ///
    /// # Errors
    /// As [`Spire::start`]; and where this is not root.
    pub fn start_agent_as(&mut self, user: u32) -> Result<(), Error> {
        self.agent.process.kill();
        let starts = self.agent.starts + 1;
        self.agent = Agent::start_again(&self.programs, &self.home, self.uid, user, starts)?;
        self.until_agent_answers()
    }

    /// Freezes the agent: its socket accepts connections and nobody answers.
    ///
    /// # Errors
    /// It has ended.
    pub fn suspend_agent(&mut self) -> Result<(), Error> {
        self.agent.process.suspend()
    }

    /// Lets a frozen agent go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume_agent(&mut self) -> Result<(), Error> {
        self.agent.process.signal("CONT")
    }

    /// What the agent has logged, in all its lives.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn agent_log(&self) -> Result<String, Error> {
        let logs = (1..=self.agent.starts).map(|start| read(&log(&self.home, start)));
        logs.collect()
    }

    pub(super) fn until_agent_answers(&mut self) -> Result<(), Error> {
        let log = log(&self.home, self.agent.starts);
        let answers = |spire: &mut Self| match spire.workload_api_answers()? {
            true => Ok(Some(())),
            false if spire.agent.process.ended()?.is_some() => {
                Err(Error::new("the SPIRE agent ended"))
            }
            false => Ok(None),
        };
        until("the SPIRE agent", START_LIMIT, || answers(self)).map_err(with_log(&log))
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("pid", &self.process.pid())
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Makes `user` the owner of what the agent reads and writes. Of the folder for workloads that is the folder and the socket alone: the
/// programs there are links to those of everyone.
fn give(home: &Home, user: u32) -> Result<(), Error> {
    let kept =
        std::fs::read_dir(home.agent()).map_err(Error::during("listing the agent's files"))?;
    let kept = kept.flatten().map(|entry| entry.path());
    let folders = [home.agent(), home.workload()];
    let socket = Some(home.socket()).filter(|socket| socket.exists());
    for path in kept.chain(folders).chain(socket) {
        chown(path, Some(user), None).map_err(Error::during("giving the agent its files"))?;
    }
    Ok(())
}

fn log(home: &Home, start: usize) -> PathBuf {
    home.agent().join(format!("agent-{start}.log"))
}
