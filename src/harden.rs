//! Hardening in one call: this process writes no core file, and its memory is read by no other process of
//! the same user.
//!
//! It asks the system, looks at what the system made of it, and reports that. It holds no state and decides
//! nothing for the application: nobody else here calls it, because it changes the process for all code in it.

use std::fmt;
use std::io;

use crate::error::{Error, ErrorKind};

/// Makes this process undumpable: it leaves no core file, and no other process of the same user reads its
/// memory or attaches a debugger. Linux; elsewhere nothing takes effect, and the report says so.
///
/// Call it first in `main`, after privileges were dropped and before the first secret is read. It may be
/// called again, from any thread, and is for all threads. It never panics.
///
/// ```
/// let hardened = secret_resolver::harden();
/// println!("{hardened}");
/// # #[cfg(target_os = "linux")]
/// hardened.check()?; // or go on, if that is good enough
/// # Ok::<(), secret_resolver::Error>(())
/// ```
///
/// # What it does
/// It sets `PR_SET_DUMPABLE` to 0. With that the kernel writes no core of this process, to a file or to a
/// handler such as systemd's, and lets nobody open `/proc/PID/mem` or attach by `ptrace` without
/// `CAP_SYS_PTRACE`.
///
/// A forked child is as its parent was. A program that this process starts is not affected: the kernel makes
/// it dumpable again. The limit on core files, `RLIMIT_CORE`, is inherited by every program that is started
/// and there is no way to set it for this process alone; so it is left as it is, which loses nothing while
/// the process is undumpable. [`Harden::with_started_programs`] sets it to 0, too.
///
/// # What it does not do
/// - It does not end what has begun: a debugger that is attached stays so, and a process that has opened `/proc/PID/mem`
///   reads on.
/// - Root, and any process with `CAP_SYS_PTRACE`, reads as before. So does code in this process.
/// - Swap, hibernation and crash dumps of the kernel hold the memory as before.
/// - A change of the user, the group or the capabilities sets the attribute again, to what
///   `/proc/sys/fs/suid_dumpable` says: where that is 2, core files for root are written again. Call it after
///   the change, or once more.
///
/// # Side effects
/// The files in `/proc/PID` belong to root then. Unless it runs as root, the process cannot open its own
/// `/proc/self/mem` or `/proc/self/environ`, and cannot write `/proc/self/oom_score_adj` or
/// `/proc/self/uid_map`. `gdb`, `strace -p`, `perf` and profilers of the same user cannot attach, crash
/// reporters that read the process from a helper find nothing, and monitors of the same user do not see its
/// open files, its environment and its executable. As root, all of these work on.
pub fn harden() -> Hardened {
    Harden::new().apply()
}

/// What [`harden`] does, with a choice: whether the programs that this process starts write core files.
///
/// ```
/// use secret_resolver::Harden;
///
/// let hardened = Harden::new().with_started_programs().apply();
/// # #[cfg(target_os = "linux")]
/// assert_eq!(hardened.core_limit().and_then(|limit| limit.hard), Some(0));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "nothing is hardened before `apply`"]
pub struct Harden {
    started_programs: bool,
}

/// The limit on core files, `RLIMIT_CORE`, in bytes; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreLimit {
    /// What holds now.
    pub soft: Option<u64>,
    /// As far as the soft one may be raised.
    pub hard: Option<u64>,
}

/// How this process is after [`harden`]: as the system reports it, not as it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what could not be set is reported here and nowhere else"]
pub struct Hardened {
    is_dumpable: bool,
    core_limit: Option<CoreLimit>,
    undumpable: Outcome,
    limited: Outcome,
}

/// Whether the system did what was asked, or nothing was asked.
type Outcome = Result<(), io::ErrorKind>;

impl Harden {
    /// What [`harden`] does.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `RLIMIT_CORE` to 0, too, its soft and its hard value: a program that this process starts from now
    /// on writes no core file, and cannot allow it to itself again unless it is root.
    ///
    /// It is not hidden from other processes of the same user. And where the system gives core files to a
    /// handler (`/proc/sys/kernel/core_pattern` begins with a bar), the kernel does not look at this limit: the
    /// handler gets it, and systemd's keeps to it.
    pub fn with_started_programs(self) -> Self {
        Self {
            started_programs: true,
        }
    }

    /// Does it, and looks at the result.
    pub fn apply(self) -> Hardened {
        let undumpable = system::make_undumpable();
        let limited = match self.started_programs {
            true => system::forbid_core_files(),
            false => Ok(()),
        };
        Hardened {
            is_dumpable: system::is_dumpable(),
            core_limit: system::core_limit(),
            undumpable,
            limited,
        }
    }
}

impl Hardened {
    /// Whether this process may leave a core file and be read by others of its user. Also true where the
    /// system does not say.
    #[must_use]
    pub fn is_dumpable(&self) -> bool {
        self.is_dumpable
    }

    /// The limit on core files which every program that this process starts inherits. `None` where the system
    /// does not say: outside Linux, or without `/proc`.
    #[must_use]
    pub fn core_limit(&self) -> Option<CoreLimit> {
        self.core_limit
    }

    /// Whether all that was asked for took effect.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures().next().is_none()
    }

    /// What did not take effect, and why: [`Unsupported`](io::ErrorKind::Unsupported) outside Linux,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) where a filter of system calls forbids it.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, io::ErrorKind)> {
        let asked = [
            ("PR_SET_DUMPABLE", self.undumpable),
            ("RLIMIT_CORE", self.limited),
        ];
        let failed = |(what, outcome): (_, Outcome)| outcome.err().map(|why| (what, why));
        asked.into_iter().filter_map(failed)
    }

    /// For a service that does not start unhardened.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when not all took effect; its detail has [`Self::failures`].
    pub fn check(&self) -> Result<(), Error> {
        if self.is_complete() {
            return Ok(());
        }
        let what =
            "the system does not let this process be hardened; look for a filter of system calls";
        let failures: Vec<_> = self.failures().map(shown).collect();
        Err(Error::new(ErrorKind::Misconfigured, what).with_detail(failures.join(", ")))
    }
}

impl fmt::Display for Hardened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_dumpable {
            true => "dumpable, and readable by processes of the same user",
            false => "not dumpable, and not readable by processes of the same user",
        })?;
        match self.core_limit {
            Some(CoreLimit { soft: Some(0), .. }) => {
                f.write_str("; programs that it starts write no core files")?;
            }
            Some(_) => f.write_str("; programs that it starts may write core files")?,
            None => {}
        }
        let mut failures = self.failures();
        failures.try_for_each(|failure| write!(f, "; {}", shown(failure)))
    }
}

fn shown((what, why): (&str, io::ErrorKind)) -> String {
    format!("{what} could not be set: {why}")
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;

    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, dumpable_behavior, set_dumpable_behavior, setrlimit,
    };

    use super::{CoreLimit, Outcome};

    pub(super) fn make_undumpable() -> Outcome {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| error.kind())?;
        // A system that only imitates Linux may take the call and do nothing.
        match is_dumpable() {
            true => Err(io::ErrorKind::Other),
            false => Ok(()),
        }
    }

    pub(super) fn is_dumpable() -> bool {
        dumpable_behavior() != Ok(DumpableBehavior::NotDumpable)
    }

    pub(super) fn forbid_core_files() -> Outcome {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, none).map_err(|error| error.kind())
    }

    /// From `/proc`: the call that asks for a limit is treated as one that cannot fail, and where a filter of
    /// system calls forbids it, what it answers is not a limit.
    pub(super) fn core_limit() -> Option<CoreLimit> {
        limit_in(&std::fs::read_to_string("/proc/self/limits").ok()?)
    }

    pub(super) fn limit_in(limits: &str) -> Option<CoreLimit> {
        let values = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"))?;
        let mut values = values.split_whitespace().map(|value| match value {
            "unlimited" => Some(None),
            bytes => bytes.parse().ok().map(Some),
        });
        Some(CoreLimit {
            soft: values.next()??,
            hard: values.next()??,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use super::{CoreLimit, Outcome};

    pub(super) fn make_undumpable() -> Outcome {
        Err(io::ErrorKind::Unsupported)
    }

    pub(super) fn is_dumpable() -> bool {
        true
    }

    pub(super) fn forbid_core_files() -> Outcome {
        Err(io::ErrorKind::Unsupported)
    }

    pub(super) fn core_limit() -> Option<CoreLimit> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_ASKED: Hardened = Hardened {
        is_dumpable: false,
        core_limit: None,
        undumpable: Ok(()),
        limited: Ok(()),
    };

    fn limit(soft: Option<u64>, hard: Option<u64>) -> Option<CoreLimit> {
        Some(CoreLimit { soft, hard })
    }

    #[test]
    fn what_took_effect_is_reported_in_one_line() {
        assert!(AS_ASKED.is_complete() && AS_ASKED.check().is_ok());
        let shown = |core_limit| {
            let hardened = Hardened {
                core_limit,
                ..AS_ASKED
            };
            hardened.to_string()
        };
        let undumpable = "not dumpable, and not readable by processes of the same user";
        assert_eq!(shown(None), undumpable);
        let none = "; programs that it starts write no core files";
        assert_eq!(shown(limit(Some(0), None)), format!("{undumpable}{none}"));
        let some = "; programs that it starts may write core files";
        assert_eq!(shown(limit(None, None)), format!("{undumpable}{some}"));
    }

    #[test]
    fn what_could_not_be_set_is_reported_with_its_reason() {
        let refused = Hardened {
            is_dumpable: true,
            undumpable: Err(io::ErrorKind::PermissionDenied),
            limited: Err(io::ErrorKind::Unsupported),
            ..AS_ASKED
        };
        assert!(!refused.is_complete());
        let error = refused.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let failures = "PR_SET_DUMPABLE could not be set: permission denied, RLIMIT_CORE could not be set: unsupported";
        assert_eq!(error.detail(), Some(failures));
        let shown = refused.to_string();
        assert!(shown.starts_with("dumpable, and readable"), "{shown}");
        assert!(shown.ends_with("RLIMIT_CORE could not be set: unsupported"));
        let half = Hardened {
            undumpable: Ok(()),
            ..refused
        };
        assert!(!half.is_complete() && half.check().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_is_read_as_the_system_writes_it() {
        let with = |values| {
            let text = format!("Limit  Soft Limit\nMax core file size  {values}  bytes\nMax x  1");
            system::limit_in(&text)
        };
        assert_eq!(with("0   unlimited"), limit(Some(0), None));
        assert_eq!(with("4096   8192"), limit(Some(4096), Some(8192)));
        assert_eq!(with("unlimited unlimited"), limit(None, None));
        assert_eq!(with("a b"), None);
        assert_eq!(with(""), None);
        assert_eq!(system::limit_in(""), None);
        assert!(system::core_limit().is_some());
    }
}
