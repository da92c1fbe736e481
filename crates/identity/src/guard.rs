//! Which process is asked for our identity: what the file system says of its socket, and what the kernel says of its user.
//!
//! A process that puts another socket in the agent's place chooses our identity, or reads it. So each step of the path is looked at: its
//! owner, and which other users may write there. A link is followed step by step, by the same rules. What is checked can then be changed by root
//! and by the agent's user alone, so nothing can slip in between the look and the connection.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use secret_resolver::{Error, ErrorKind};
use tokio::net::UnixStream;

use crate::error;

/// The socket, and whom it may belong to.
#[derive(Clone)]
pub(crate) struct Guard {
    socket: PathBuf,
    /// Beside root.
    agent: Option<u32>,
    /// Folders that anyone may add files to, and that are taken all the same.
    sticky: Vec<PathBuf>,
    /// The number that the kernel shows for every user whom this process's user namespace does not have. It is nobody's, or anybody's.
    unmapped: Option<u32>,
}

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// As long a path as a socket's address holds (`sun_path` of 108 bytes, unix(7)).
const LONGEST: usize = 107;

/// That others may write to it: its group, or everyone.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

const ROOT: u32 = 0;

impl Guard {
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when the path is not an absolute one, as where it is the address of a TCP endpoint.
    pub(crate) fn new(
        socket: PathBuf,
        agent: Option<u32>,
        sticky: Vec<PathBuf>,
    ) -> Result<Self, Error> {
        let text = socket.to_string_lossy();
        if text.starts_with("tcp:") || text.starts_with("unix:") {
            return Err(error::misconfigured(
                "give the path of the agent's socket, without \"unix:\"; an agent that is reached by TCP is not asked",
            ));
        }
        if !socket.is_absolute() {
            let relative = error::misconfigured("the path of the agent's socket is not absolute");
            return Err(relative.with_detail(text));
        }
        if text.contains('\0') {
            return Err(error::misconfigured(
                "the path of the agent's socket has a NUL byte",
            ));
        }
        Ok(Self {
            socket,
            agent,
            sticky,
            unmapped: unmapped(),
        })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A connection to the agent, after a look at the path to it, and at the user that listens there.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] while nothing listens there; [`ErrorKind::Refused`] for what the guard does not let through.
    pub(crate) async fn connect(&self) -> Result<UnixStream, Error> {
        let socket = self.look()?;
        let failed = |error: io::Error| unreached(&socket, error.kind());
        let stream = UnixStream::connect(&socket).await.map_err(failed)?;
        let peer = stream.peer_cred().map_err(failed)?;
        match self.is_theirs(peer.uid()) {
            true => Ok(stream),
            false => Err(self.refused(
                &socket,
                "the process that listens at the agent's socket runs as another user; name the agent's user by with_agent_uid, or find out what that process is",
                peer.uid(),
            )),
        }
    }

    /// The socket itself, at the end of all links.
    pub(crate) fn look(&self) -> Result<PathBuf, Error> {
        let mut links = 0;
        let mut found = PathBuf::new();
        let mut rest: Vec<_> = self.socket.components().rev().map(owned).collect();
        while let Some(step) = rest.pop() {
            let next = match Path::new(&step).components().next() {
                None | Some(Component::CurDir) => continue,
                // It was looked at on the way down.
                Some(Component::ParentDir) => {
                    found.pop();
                    continue;
                }
                Some(Component::RootDir | Component::Prefix(_)) => PathBuf::from("/"),
                Some(Component::Normal(name)) => found.join(name),
            };
            let metadata = self.metadata(&next)?;
            self.is_of_agent(&next, &metadata)?;
            if metadata.is_symlink() {
                links += 1;
                rest.extend(target(&next, links)?.components().rev().map(owned));
                continue;
            }
            found = next;
            if metadata.is_dir() {
                self.is_safe_folder(&found, &metadata)?;
            }
        }
        self.is_socket(&found)?;
        Ok(found)
    }

    fn is_socket(&self, path: &Path) -> Result<(), Error> {
        if !self.metadata(path)?.file_type().is_socket() {
            let what = "what stands at the path of the agent's socket is not a socket";
            return Err(at(path, ErrorKind::Refused, what));
        }
        if path.as_os_str().len() > LONGEST {
            let what = "the path of the agent's socket, without its links, is longer than the 107 bytes that a socket's address holds; put it elsewhere";
            return Err(at(path, ErrorKind::Refused, what));
        }
        Ok(())
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, Error> {
        fs::symlink_metadata(path).map_err(|error| unreached(path, error.kind()))
    }

    fn is_of_agent(&self, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        match self.is_theirs(metadata.uid()) {
            true => Ok(()),
            false => Err(self.refused(
                path,
                "a part of the path to the agent's socket belongs to another user; it has to be root's or the agent's (with_agent_uid)",
                metadata.uid(),
            )),
        }
    }

    /// Nobody else may put another entry into it.
    fn is_safe_folder(&self, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        let mode = metadata.mode();
        if mode & WRITABLE == 0 {
            return Ok(());
        }
        let what = match mode & STICKY != 0 {
            // Other users cannot replace an entry there, but the first to make one chooses it.
            true if self.sticky.iter().any(|allowed| allowed == path) => return Ok(()),
            true => {
                "anyone may add files to a folder above the agent's socket; put the socket elsewhere, or allow this folder by with_sticky_folder"
            }
            false => {
                "a folder above the agent's socket may be written to by its group or by everyone; take that right away (chmod go-w)"
            }
        };
        Err(at(path, ErrorKind::Refused, what))
    }

    fn is_theirs(&self, uid: u32) -> bool {
        Some(uid) != self.unmapped && (uid == ROOT || Some(uid) == self.agent)
    }

    fn refused(&self, path: &Path, what: &'static str, uid: u32) -> Error {
        let what = match Some(uid) == self.unmapped {
            true => {
                "a user whom this user namespace has no number for owns a part of the path to the agent's socket, or listens there; it could be anyone: give the agent's user a number in this container"
            }
            false => what,
        };
        let detail = format!("{}, uid {uid}", path.display());
        error::new(ErrorKind::Refused, what).with_detail(detail)
    }
}

/// Where a link leads that is the one of this number on the way.
fn target(link: &Path, number: usize) -> Result<PathBuf, Error> {
    if number > MOST_LINKS {
        let what = "the path to the agent's socket has too many links; do they lead in a circle?";
        return Err(at(link, ErrorKind::Refused, what));
    }
    fs::read_link(link).map_err(|error| unreached(link, error.kind()))
}

/// See user_namespaces(7), "Unmapped user and group IDs". Where all users are mapped, the number is that of one of them.
fn unmapped() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let is_whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let number = fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?;
    number.trim().parse().ok().filter(|_| !is_whole)
}

fn owned(part: Component<'_>) -> std::ffi::OsString {
    part.as_os_str().to_owned()
}

fn at(path: &Path, kind: ErrorKind, what: &'static str) -> Error {
    error::new(kind, what).with_detail(path.display().to_string())
}

fn unreached(path: &Path, kind: io::ErrorKind) -> Error {
    use io::ErrorKind as Io;
    let (kind, what) = match kind {
        Io::NotFound => (
            ErrorKind::Unavailable,
            "there is no agent's socket; does the agent run, and is its socket mounted here?",
        ),
        Io::ConnectionRefused => (
            ErrorKind::Unavailable,
            "nothing listens at the agent's socket; does the agent run?",
        ),
        Io::PermissionDenied => (
            ErrorKind::Refused,
            "this process may not reach the agent's socket; look at the rights of its folder",
        ),
        Io::NotADirectory => (
            ErrorKind::Refused,
            "a part of the path to the agent's socket is not a folder",
        ),
        Io::WouldBlock => (
            ErrorKind::Unavailable,
            "the agent's socket takes no more connections; is the agent overloaded, or does it stand still?",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the agent's socket cannot be reached; does this process have file descriptors left, and the path no part that is too long?",
        ),
    };
    at(path, kind, what)
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("socket", &self.socket)
            .field("agent_uid", &self.agent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
