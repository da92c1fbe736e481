//! Administering a running SPIRE server by its own command line tool: the methods by which a test arranges who is whom. It does not start
//! or end anything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use super::config::Home;
use super::workload::pem;
use crate::process::clean_environment;
use crate::{Error, Spire};

/// Which processes get which identity.
#[derive(Clone, Debug)]
pub struct Registration {
    path: String,
    uid: u32,
    x509_ttl: Option<Duration>,
    jwt_ttl: Option<Duration>,
    dns: Option<String>,
    hint: Option<String>,
    entry: Option<String>,
    federates: Option<String>,
}

impl Registration {
    /// The identity with this path, such as `/web`, for every process of this user, with the lives that the server gives where nobody
    /// says otherwise: an hour for X.509, five minutes for JWTs.
    #[must_use]
    pub fn new(path: &str, uid: u32) -> Self {
        Self {
            path: path.to_owned(),
            uid,
            x509_ttl: None,
            jwt_ttl: None,
            dns: None,
            hint: None,
            entry: None,
            federates: None,
        }
    }

    /// How long an X.509 SVID lives, in whole seconds.
    #[must_use]
    pub fn x509_ttl(mut self, ttl: Duration) -> Self {
        self.x509_ttl = Some(ttl);
        self
    }

    /// How long a JWT-SVID lives, in whole seconds.
    #[must_use]
    pub fn jwt_ttl(mut self, ttl: Duration) -> Self {
        self.jwt_ttl = Some(ttl);
        self
    }

    /// A DNS name for the X.509 SVID, which also becomes its common name; without one it has none.
    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.dns = Some(name.to_owned());
        self
    }

    /// By what a workload with several identities distinguishes them.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// Another trust domain, whose authorities the workload gets, too: [`Spire::federate`].
    #[must_use]
    pub fn federates_with(mut self, trust_domain: &str) -> Self {
        self.federates = Some(format!("spiffe://{trust_domain}"));
        self
    }

    /// The entry's id. The agent gives several identities in the order of these, so the least is the default; without one it is random.
    #[must_use]
    pub fn entry(mut self, id: &str) -> Self {
        self.entry = Some(id.to_owned());
        self
    }
}

/// What signs SVIDs of one kind. At most one is in use, one is prepared to be the next and one is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// X.509 SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
}

/// The ids of the authorities that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The one in use.
    pub active: Option<String>,
    /// The next one, already in the bundle.
    pub prepared: Option<String>,
    /// The one before, still in the bundle.
    pub old: Option<String>,
}

/// What JWT-SVIDs are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtKey {
    /// The `kid` in the tokens' heads.
    pub id: String,
    /// The public key in PEM, as OpenBao's `jwt_validation_pubkeys` takes it.
    pub pem: String,
}

/// Administration.
impl Spire {
    /// Adds an entry, and returns its id. The agent learns of it later: [`Spire::until_issued`]. There can be several entries for the same
    /// user; a workload of it then has several identities.
    ///
    /// # Errors
    /// The server refuses the entry; what its tool said is in the error.
    pub fn register(&self, registration: &Registration) -> Result<String, Error> {
        let selector = format!("unix:uid:{}", registration.uid);
        let (parent, id) = (agent_id(&self.trust_domain), self.id(&registration.path));
        let mut arguments = vec![
            "-parentID",
            &parent,
            "-spiffeID",
            &id,
            "-selector",
            &selector,
        ];
        let seconds = |ttl: Option<Duration>| ttl.map(|ttl| ttl.as_secs().to_string());
        let (x509_ttl, jwt_ttl) = (
            seconds(registration.x509_ttl),
            seconds(registration.jwt_ttl),
        );
        let options = [
            ("-x509SVIDTTL", &x509_ttl),
            ("-jwtSVIDTTL", &jwt_ttl),
            ("-dns", &registration.dns),
            ("-hint", &registration.hint),
            ("-entryID", &registration.entry),
            ("-federatesWith", &registration.federates),
        ];
        for (name, value) in options {
            arguments.extend(value.as_deref().into_iter().flat_map(|value| [name, value]));
        }
        let answer = self.admin().json(&["entry", "create"], &arguments)?;
        text_at(&answer, "/results/0/entry/id")
    }

    /// Deletes the entry with this id. The agent learns of it later: [`Spire::until_withdrawn`].
    ///
    /// # Errors
    /// There is no such entry.
    pub fn delete(&self, entry: &str) -> Result<(), Error> {
        self.admin()
            .run(&["entry", "delete"], &["-entryID", entry])
            .map(drop)
    }

    /// The certificates of the trust domain's authorities, in PEM.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn x509_bundle(&self) -> Result<String, Error> {
        self.admin().run(&["bundle", "show"], &[])
    }

    /// Tells the server the authorities of another one's trust domain, as they are now.
    ///
    /// # Errors
    /// Either server does not answer.
    pub fn federate(&self, other: &Spire) -> Result<(), Error> {
        let id = format!("spiffe://{}", other.trust_domain);
        let file = self.home.path().join("federated.pem");
        std::fs::write(&file, other.x509_bundle()?)
            .map_err(Error::during("writing another trust domain's authorities"))?;
        let path = file.display().to_string();
        let arguments = ["-format", "pem", "-id", &id, "-path", &path];
        self.admin().run(&["bundle", "set"], &arguments).map(drop)
    }

    /// What the trust domain's JWT-SVIDs are verified with.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn jwt_keys(&self) -> Result<Vec<JwtKey>, Error> {
        let bundle = self.admin().json(&["bundle", "show"], &[])?;
        let keys = bundle["jwt_authorities"].as_array();
        let key = |key: &Value| {
            let der = BASE64_STANDARD
                .decode(text_at(key, "/public_key")?)
                .map_err(Error::during("reading a key of SPIRE"))?;
            Ok(JwtKey {
                id: text_at(key, "/key_id")?,
                pem: pem("PUBLIC KEY", &der),
            })
        };
        keys.into_iter().flatten().map(key).collect()
    }

    /// The authorities of one kind.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn authorities(&self, kind: Authority) -> Result<Authorities, Error> {
        let answer = self.local_authority(kind, "show", &[])?;
        let id = |which: &str| text_at(&answer, &format!("/{which}/authority_id")).ok();
        Ok(Authorities {
            active: id("active"),
            prepared: id("prepared"),
            old: id("old"),
        })
    }

    /// Makes the next authority and puts it into the bundle, so that it is trusted before it is used. Returns its id.
    ///
    /// # Errors
    /// The server refuses; what its tool said is in the error.
    pub fn prepare(&self, kind: Authority) -> Result<String, Error> {
        let answer = self.local_authority(kind, "prepare", &[])?;
        text_at(&answer, "/prepared_authority/authority_id")
    }

    /// Has the prepared authority sign from now on.
    ///
    /// # Errors
    /// As [`Spire::prepare`].
    pub fn activate(&self, kind: Authority, id: &str) -> Result<(), Error> {
        self.local_authority(kind, "activate", &["-authorityID", id])
            .map(drop)
    }

    /// Has everything that an old authority has signed be replaced: agents ask for new SVIDs at once.
    ///
    /// # Errors
    /// As [`Spire::prepare`].
    pub fn taint(&self, kind: Authority, id: &str) -> Result<(), Error> {
        self.local_authority(kind, "taint", &["-authorityID", id])
            .map(drop)
    }

    /// Takes a tainted authority out of the bundle.
    ///
    /// # Errors
    /// As [`Spire::prepare`].
    pub fn revoke(&self, kind: Authority, id: &str) -> Result<(), Error> {
        self.local_authority(kind, "revoke", &["-authorityID", id])
            .map(drop)
    }

    fn local_authority(
        &self,
        kind: Authority,
        verb: &str,
        arguments: &[&str],
    ) -> Result<Value, Error> {
        let kind = match kind {
            Authority::X509 => "x509",
            Authority::Jwt => "jwt",
        };
        self.admin()
            .json(&["localauthority", kind, verb], arguments)
    }

    fn admin(&self) -> Cli {
        Cli::new(&self.programs, &self.home)
    }
}

/// The name that every agent of ours has beside its own, for the entries' parent.
pub(super) fn agent_id(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/test-agent")
}

/// The text at `pointer`, which must be there.
pub(super) fn text_at(value: &Value, pointer: &str) -> Result<String, Error> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("SPIRE's tool printed no {pointer}: {value}")))
}

/// How to reach one server with the `spire-server` program.
pub(super) struct Cli {
    program: PathBuf,
    socket: PathBuf,
    home: PathBuf,
}

impl Cli {
    pub(super) fn new(programs: &Path, home: &Home) -> Self {
        Self {
            program: programs.join("spire-server"),
            socket: home.admin_socket(),
            home: home.path().to_owned(),
        }
    }

    pub(super) fn json(&self, words: &[&str], arguments: &[&str]) -> Result<Value, Error> {
        let text = self.run(words, &[arguments, &["-output", "json"]].concat())?;
        serde_json::from_str(&text).map_err(Error::during("reading what spire-server printed"))
    }

    pub(super) fn run(&self, words: &[&str], arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(&self.program);
        clean_environment(&mut command, &self.home);
        let output = command
            .args(words)
            .arg("-socketPath")
            .arg(&self.socket)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::during("running spire-server"))?;
        let [printed, said] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        match output.status.success() {
            true => Ok(printed),
            // Some of its commands say what is wrong on the one, some on the other.
            false => Err(Error::new(format!(
                "spire-server {} failed: {}{}",
                words.join(" "),
                said.trim(),
                printed.trim()
            ))),
        }
    }
}
