//! What a workload gets from the agent, fetched by SPIRE's own client under a user's id. It is what the code under test is compared with,
//! and shares none of it.

use std::fmt;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use super::admin::text_at;
use super::config::Home;
use super::{CHANGE_LIMIT, until};
use crate::process::{Guarded, clean_environment};
use crate::{Error, Spire};

/// An X.509 SVID as a workload gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct X509Svid {
    /// The SPIFFE ID.
    pub id: String,
    /// The certificates in PEM, the SVID's own first.
    pub chain: String,
    /// The private key in PEM.
    pub key: String,
    /// The certificates of the trust domain's authorities in PEM.
    pub bundle: String,
    /// By what it is distinguished from others of the same workload, or nothing.
    pub hint: String,
}

/// A JWT-SVID as a workload gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSvid {
    /// The SPIFFE ID.
    pub id: String,
    /// The token.
    pub token: String,
}

/// What a workload gets.
impl Spire {
    /// The X.509 SVIDs of a process of this user, the default one first. Another user than [`Spire::uid`] needs root.
    ///
    /// # Errors
    /// The agent gives none; the error has its words, such as `PermissionDenied`.
    pub fn fetch_x509(&self, uid: u32) -> Result<Vec<X509Svid>, Error> {
        let answer = self.fetch(uid, &["x509"])?;
        let svids = answer["svids"].as_array();
        svids.into_iter().flatten().map(x509_svid).collect()
    }

    /// The JWT-SVIDs of a process of this user for this audience. Another user than [`Spire::uid`] needs root.
    ///
    /// # Errors
    /// As [`Spire::fetch_x509`].
    pub fn fetch_jwt(&self, uid: u32, audience: &str) -> Result<Vec<JwtSvid>, Error> {
        // An array: the SVIDs, and then the bundles.
        let answer = self.fetch(uid, &["jwt", "-audience", audience])?;
        let svids = answer.pointer("/0/svids").and_then(Value::as_array);
        let svid = |svid| {
            Ok(JwtSvid {
                id: text_at(svid, "/spiffe_id")?,
                token: text_at(svid, "/svid")?,
            })
        };
        svids.into_iter().flatten().map(svid).collect()
    }

    /// Waits until a process of this user has the identity with this path, at most 30 s, and returns its X.509 SVID.
    ///
    /// # Errors
    /// It did not get one in time; the error says what it got last.
    pub fn until_issued(&self, uid: u32, path: &str) -> Result<X509Svid, Error> {
        let id = self.id(path);
        self.until_fetched(uid, &format!("an SVID for {id}"), |svids| {
            svids.iter().find(|svid| svid.id == id).cloned()
        })
    }

    /// Waits until no process of this user has the identity with this path, at most 30 s.
    ///
    /// # Errors
    /// It still had it then.
    pub fn until_withdrawn(&self, uid: u32, path: &str) -> Result<(), Error> {
        let id = self.id(path);
        self.until_fetched(uid, &format!("the end of {id}"), |svids| {
            (!svids.iter().any(|svid| svid.id == id)).then_some(())
        })
    }

    /// Waits until the X.509 SVID with this path is another than `old`, at most 30 s, and returns it.
    ///
    /// # Errors
    /// It was still the same then.
    pub fn until_rotated(&self, uid: u32, old: &X509Svid) -> Result<X509Svid, Error> {
        self.until_fetched(uid, &format!("another SVID for {}", old.id), |svids| {
            let new = svids.iter().find(|svid| svid.id == old.id)?;
            (new.chain != old.chain).then(|| new.clone())
        })
    }

    /// Has a process of this user read the stream of X.509 SVIDs, and write down what comes. Another user than [`Spire::uid`] needs root.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn watch(&self, uid: u32) -> Result<Watch, Error> {
        let program = program_for(&self.client(), &self.home, self.uid, uid)?;
        // The file is made here, because the user cannot make one.
        let log = tempfile::Builder::new()
            .prefix("watch-")
            .tempfile_in(self.home.path())
            .map_err(Error::during("making a file for a watch"))?;
        chown(log.path(), Some(uid), Some(uid))
            .map_err(Error::during("giving a watch its file"))?;
        let socket = self.socket().display().to_string();
        let arguments = ["api", "watch", "-socketPath", &socket].map(str::to_owned);
        let user = (uid != self.uid).then_some(uid);
        let process = Guarded::spawn_as(user, &program, &arguments, self.home.path(), log.path())?;
        Ok(Watch { process, log })
    }

    /// Whether the Workload API answers, if only to say that we are nobody.
    pub(super) fn workload_api_answers(&self) -> Result<bool, Error> {
        if !self.socket().exists() {
            return Ok(false);
        }
        match self.fetch(self.uid, &["x509"]) {
            Ok(_) => Ok(true),
            Err(refusal) => Ok(refusal.to_string().contains("PermissionDenied")),
        }
    }

    fn until_fetched<T>(
        &self,
        uid: u32,
        what: &str,
        mut found: impl FnMut(&[X509Svid]) -> Option<T>,
    ) -> Result<T, Error> {
        // Not only at the end: what this user cannot do at all is said at once.
        program_for(&self.client(), &self.home, self.uid, uid)?;
        until(what, CHANGE_LIMIT, || {
            let svids = match self.fetch_x509(uid) {
                Ok(svids) => svids,
                Err(refusal) if refusal.to_string().contains("PermissionDenied") => Vec::new(),
                Err(_) => return Ok(None),
            };
            Ok(found(&svids))
        })
    }

    fn fetch(&self, uid: u32, arguments: &[&str]) -> Result<Value, Error> {
        let mut command = self.command_as(uid, &self.client())?;
        let output = command
            .args(["api", "fetch"])
            .args(arguments)
            .arg("-socketPath")
            .arg(self.socket())
            .args(["-timeout", "10s", "-output", "json"])
            .output()
            .map_err(Error::during("running spire-agent"))?;
        if !output.status.success() {
            return Err(Error::new(format!(
                "the agent gave nothing: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(Error::during("reading what spire-agent printed"))
    }

    /// A command that runs `program` as a process of this user, with nothing in its environment: a workload of one's own. Another user
    /// than [`Spire::uid`] needs root.
    ///
    /// # Errors
    /// This is not root, or the program cannot be passed on to that user.
    pub fn command_as(&self, uid: u32, program: &Path) -> Result<Command, Error> {
        let mut command = Command::new(program_for(program, &self.home, self.uid, uid)?);
        clean_environment(&mut command, self.home.path());
        if uid != self.uid {
            command.uid(uid).gid(uid);
        }
        command.current_dir("/").stdin(Stdio::null());
        Ok(command)
    }

    fn client(&self) -> PathBuf {
        self.programs.join("spire-agent")
    }
}

/// The program, for a process of the user `own` that runs it as `user`: somebody else may not be able to read the workspace.
pub(super) fn program_for(
    program: &Path,
    home: &Home,
    own: u32,
    user: u32,
) -> Result<PathBuf, Error> {
    if user == own {
        return Ok(program.to_owned());
    }
    if own != 0 {
        return Err(Error::new(format!(
            "a process of user {user} can be started by root only, and this is user {own}: run these tests as root"
        )));
    }
    let name = program.file_name().unwrap_or(program.as_os_str());
    let passed_on = home.workload().join(name);
    if !passed_on.exists() {
        std::fs::hard_link(program, &passed_on)
            .or_else(|_| std::fs::copy(program, &passed_on).map(drop))
            .map_err(Error::during("passing a program on to another user"))?;
    }
    Ok(passed_on)
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("id", &self.id)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A process that reads the stream of X.509 SVIDs, ended when this is dropped.
#[derive(Debug)]
pub struct Watch {
    // Before the file, because fields are dropped in this order and the process writes there until it is gone.
    process: Guarded,
    log: tempfile::NamedTempFile,
}

impl Watch {
    /// What it has written so far: each message, with the times between which its SVIDs are good, and each error of the stream.
    ///
    /// # Errors
    /// That cannot be read.
    pub fn text(&self) -> Result<String, Error> {
        std::fs::read_to_string(self.log.path()).map_err(Error::during("reading a watch"))
    }

    /// Waits until it has written `text` so many times, at most 30 s.
    ///
    /// # Errors
    /// It had not then; the error has what it wrote.
    pub fn until(&mut self, text: &str, times: usize) -> Result<(), Error> {
        until(text, CHANGE_LIMIT, || {
            let there = self.text()?.matches(text).count() >= times;
            match self.process.ended()? {
                Some(_) if !there => Err(Error::new("the watch ended")),
                _ => Ok(there.then_some(())),
            }
        })
        .map_err(|error| {
            Error::new(format!(
                "{error}; the watch wrote:\n{}",
                self.text().unwrap_or_default()
            ))
        })
    }
}

/// Who has made this file.
pub(super) fn owner_of(path: &Path) -> Result<u32, Error> {
    let metadata = path.metadata();
    metadata
        .map(|metadata| metadata.uid())
        .map_err(Error::during("looking at SPIRE's directory"))
}

fn x509_svid(svid: &Value) -> Result<X509Svid, Error> {
    let der = |field: &str| {
        BASE64_STANDARD
            .decode(text_at(svid, field)?)
            .map_err(Error::during("reading an SVID"))
    };
    let certificates = |field: &str| {
        let der = der(field)?;
        let mut rest = der.as_slice();
        let mut all = String::new();
        while !rest.is_empty() {
            let (first, others) = split_der(rest)
                .ok_or_else(|| Error::new("an SVID's certificates are not in DER"))?;
            all.push_str(&pem("CERTIFICATE", first));
            rest = others;
        }
        Ok::<_, Error>(all)
    };
    Ok(X509Svid {
        id: text_at(svid, "/spiffe_id")?,
        chain: certificates("/x509_svid")?,
        key: pem("PRIVATE KEY", &der("/x509_svid_key")?),
        bundle: certificates("/bundle")?,
        hint: text_at(svid, "/hint").unwrap_or_default(),
    })
}

/// The first of several values in DER, whose lengths have two bytes as those of certificates have, and the others.
fn split_der(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x30, 0x82, high, low, ..] = der else {
        return None;
    };
    der.split_at_checked(4 + usize::from(u16::from_be_bytes([*high, *low])))
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = others;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
