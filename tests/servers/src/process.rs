//! A server process that cannot outlive its owner. It knows nothing of what the process serves.
//!
//! The server runs below a small shell that holds the reading end of a pipe: the lifeline. Its only writing end is ours. When we
//! close it, or are killed and the kernel closes it, the shell kills the server. The shell is the server's parent and reaps it only
//! at its end, so the process id cannot have passed to another process in between.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::Error;

/// A running server, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
    /// Taken when the server is ended. Nothing is ever written to it.
    lifeline: Option<ChildStdin>,
    pid: u32,
}

/// Signals that a terminal sends to the whole process group are ignored: the server's end must depend on the lifeline alone.
/// `read` is built into the shell, so that killing the watcher leaves no child of it behind.
const SHELL: &str = r#"
trap '' INT TERM HUP
log=$1
shift
exec 3<&0
"$@" </dev/null >"$log" 2>&1 3<&- &
server=$!
echo "$server"
exec >/dev/null
( read -r _ <&3; kill -KILL "$server" ) &
watcher=$!
wait "$server"
status=$?
kill -KILL "$watcher"
exit "$status"
"#;

impl Guarded {
    /// Starts `program` with nothing in its environment but `PATH` and a `HOME`: a developer's own settings, tokens and proxies must
    /// reach neither the server nor the test.
    pub(crate) fn spawn(
        program: &Path,
        arguments: &[String],
        home: &Path,
        log: &Path,
    ) -> Result<Self, Error> {
        Self::spawn_as(None, program, arguments, home, log)
    }

    /// As [`Guarded::spawn`], under another user id where one is given, which only root can do.
    pub(crate) fn spawn_as(
        user: Option<u32>,
        program: &Path,
        arguments: &[String],
        home: &Path,
        log: &Path,
    ) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command
            .arg("-c")
            .arg(SHELL)
            .arg("sh")
            .arg(log)
            .arg(program)
            .args(arguments);
        clean_environment(&mut command, home);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut shell = command.spawn().map_err(Error::during("starting sh"))?;
        let lifeline = shell.stdin.take();
        let mut first_line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut first_line)
                .map_err(Error::during("reading the server's process id"))?;
        }
        let pid = first_line
            .trim()
            .parse()
            .map_err(Error::during("the shell reported no process id"))?;
        Ok(Self {
            shell,
            lifeline,
            pid,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How the server ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.shell
            .try_wait()
            .map_err(Error::during("asking for the server's end"))
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&mut self, name: &str) -> Result<(), Error> {
        // Once the shell has reaped the server, its process id may belong to a stranger.
        if self.lifeline.is_none() || self.ended()?.is_some() {
            return Err(Error::new("the server has already ended"));
        }
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .status();
        match sent.map_err(Error::during("running kill"))?.success() {
            true => Ok(()),
            false => Err(Error::new(format!("kill -{name} failed"))),
        }
    }

    /// Stops the server with all its threads; `CONT` lets it go on.
    pub(crate) fn suspend(&mut self) -> Result<(), Error> {
        self.signal("STOP")?;
        // The signal was sent; a thread may still answer before it stops.
        let tasks = format!("/proc/{}/task", self.pid);
        let runs = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            !stat
                .rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
        };
        for _ in 0..400 {
            let mut tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
            if !tasks.any(runs) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills the server, stopped by a signal or not, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        drop(self.lifeline.take());
        // A failure means that the shell was reaped before, which is what is wanted.
        let _ = self.shell.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Leaves `PATH`, and `home` for what a program wants to keep there.
pub(crate) fn clean_environment(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path) -> Guarded {
        Guarded::spawn(
            Path::new("sleep"),
            &["600".into()],
            directory,
            &directory.join("log"),
        )
        .unwrap()
    }

    /// Waits for the process table to lose `pid`: a process whose parent is gone is reaped by another, in its own time.
    fn wait_until_gone(pid: u32) {
        while Command::new("kill")
            .arg("-0")
            .arg(pid.to_string())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn a_dropped_process_is_gone_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        let pid = process.pid();
        drop(process);
        let alive = Command::new("kill")
            .arg("-0")
            .arg(pid.to_string())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!alive.success());
    }

    #[test]
    fn a_panic_takes_the_process_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleeper(directory.path());
        let pid = process.pid();
        let owner = std::thread::spawn(move || {
            let _owned = process;
            panic!("as a failing test does");
        });
        assert!(owner.join().is_err());
        wait_until_gone(pid);
    }

    #[test]
    fn a_stopped_process_is_killed_too_and_takes_no_signal_after() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleeper(directory.path());
        process.signal("STOP").unwrap();
        assert!(process.ended().unwrap().is_none());
        process.kill();
        wait_until_gone(process.pid());
        assert!(process.signal("CONT").is_err());
    }

    #[test]
    fn a_process_that_ends_by_itself_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["-c".into(), "exit 7".into()];
        let mut process = Guarded::spawn(
            Path::new("sh"),
            &arguments,
            directory.path(),
            &directory.path().join("log"),
        )
        .unwrap();
        assert_eq!(process.shell.wait().unwrap().code(), Some(7));
        assert!(process.ended().unwrap().is_some());
    }

    #[test]
    #[expect(
        clippy::print_stdout,
        reason = "the owner reports the process id to its test there"
    )]
    fn an_owner_that_is_killed_takes_the_process_with_it() {
        // The owner is this same test in its own process, marked by this variable: where to work.
        const OWNER: &str = "TEST_SERVERS_OWNER_TO_BE_KILLED";
        if let Some(directory) = std::env::var_os(OWNER) {
            let process = sleeper(Path::new(&directory));
            println!("\npid {}", process.pid());
            std::thread::sleep(std::time::Duration::from_secs(60));
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "process::tests::an_owner_that_is_killed_takes_the_process_with_it",
                "--nocapture",
            ])
            .env(OWNER, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
        let pid = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("pid ").map(str::to_owned))
            .unwrap();
        owner.kill().unwrap();
        owner.wait().unwrap();
        wait_until_gone(pid.parse().unwrap());
    }
}
