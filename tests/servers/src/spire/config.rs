//! What a SPIRE is started with, and its configuration files. It decides the folders' modes; starting is in `mod.rs`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Spire};

/// What signs, or what a workload's certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpireKey {
    /// A key on P-256.
    P256,
    /// An RSA key of 2,048 bits, which takes a second or more to make.
    Rsa2048,
}

/// How a server and its agent are set up, where a test wants something else than [`Spire::start`] gives.
///
/// # Example
/// ```
/// use std::time::Duration;
/// let spire = test_servers::SpireSettings::new("other.test")
///     .sync(Duration::from_millis(100))
///     .start()?;
/// assert_eq!(spire.id("/web"), "spiffe://other.test/web");
/// # Ok::<(), test_servers::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpireSettings {
    pub(super) trust_domain: String,
    ca_key: SpireKey,
    jwt_key: SpireKey,
    workload_key: SpireKey,
    jwt_issuer: Option<String>,
    ca_ttl: Option<Duration>,
    sync: Duration,
    pub(super) agent_user: Option<u32>,
    pub(super) below: Option<PathBuf>,
}

impl SpireSettings {
    /// Keys on P-256, a CA of a day, changes that reach workloads within a second, in the system's folder for temporary files.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            ca_key: SpireKey::P256,
            jwt_key: SpireKey::P256,
            workload_key: SpireKey::P256,
            jwt_issuer: None,
            ca_ttl: None,
            sync: Duration::from_millis(250),
            agent_user: None,
            below: None,
        }
    }

    /// What signs X.509 SVIDs.
    #[must_use]
    pub fn ca_key(mut self, key: SpireKey) -> Self {
        self.ca_key = key;
        self
    }

    /// What signs JWT-SVIDs: ES256 or RS256.
    #[must_use]
    pub fn jwt_key(mut self, key: SpireKey) -> Self {
        self.jwt_key = key;
        self
    }

    /// What the X.509 SVIDs of workloads are for.
    #[must_use]
    pub fn workload_key(mut self, key: SpireKey) -> Self {
        self.workload_key = key;
        self
    }

    /// What JWT-SVIDs say of their issuer (`iss`). Where nobody says it they have none, and Conjur takes none of these.
    #[must_use]
    pub fn jwt_issuer(mut self, issuer: &str) -> Self {
        self.jwt_issuer = Some(issuer.to_owned());
        self
    }

    /// The user under whose id the agent runs, and to whom its folders and its socket belong. Another than our own needs root.
    #[must_use]
    pub fn agent_user(mut self, uid: u32) -> Self {
        self.agent_user = Some(uid);
        self
    }

    /// How long an authority lives, those for JWTs too. The server makes the next one at half of this and uses it at five sixths, looking
    /// every ten seconds. No SVID outlives the authority that has signed it.
    #[must_use]
    pub fn ca_ttl(mut self, ttl: Duration) -> Self {
        self.ca_ttl = Some(ttl);
        self
    }

    /// How often the server reads its entries and the agent asks for them; 5 s where nobody changes it. A change takes up to both
    /// together, and half a second in which the agent signs.
    #[must_use]
    pub fn sync(mut self, interval: Duration) -> Self {
        self.sync = interval;
        self
    }

    /// The folder in which everything is put, the agent's socket too. The default is the system's for temporary files, which others
    /// can write to; a client that looks at every parent of a socket may refuse that. A socket's path has at most 107 bytes.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        self.below = Some(folder.to_owned());
        self
    }

    /// Starts both, and returns once the agent answers workloads.
    ///
    /// # Errors
    /// As [`Spire::start`].
    pub fn start(self) -> Result<Spire, Error> {
        Spire::start_with(&self)
    }

    pub(super) fn server(&self, home: &Home, port: u16) -> String {
        let ca_ttl = self
            .ca_ttl
            .map_or_else(String::new, |ttl| format!("ca_ttl = \"{}\"", text(ttl)));
        let jwt_issuer = self.jwt_issuer.as_deref();
        let jwt_issuer =
            jwt_issuer.map_or_else(String::new, |issuer| format!("jwt_issuer = \"{issuer}\""));
        format!(
            r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{socket}"
    trust_domain = "{domain}"
    data_dir = "{data}"
    log_level = "DEBUG"
    ca_key_type = "{ca_key}"
    jwt_key_type = "{jwt_key}"
    {ca_ttl}
    {jwt_issuer}
    experimental {{ cache_reload_interval = "{sync}" }}
}}
plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{data}/datastore.sqlite3"
        }}
    }}
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "disk" {{ plugin_data {{ keys_path = "{data}/keys.json" }} }}
}}
"#,
            socket = home.admin_socket().display(),
            domain = self.trust_domain,
            data = home.server().display(),
            ca_key = self.ca_key.name(),
            jwt_key = self.jwt_key.name(),
            sync = text(self.sync),
        )
    }

    pub(super) fn agent(&self, home: &Home, port: u16, join_token: &str) -> String {
        format!(
            r#"agent {{
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{socket}"
    trust_bundle_path = "{bundle}"
    trust_domain = "{domain}"
    data_dir = "{data}"
    join_token = "{join_token}"
    log_level = "DEBUG"
    workload_x509_svid_key_type = "{workload_key}"
    experimental {{ sync_interval = "{sync}" }}
}}
plugins {{
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "disk" {{ plugin_data {{ directory = "{data}" }} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#,
            socket = home.socket().display(),
            bundle = home.bundle().display(),
            domain = self.trust_domain,
            data = home.agent().display(),
            workload_key = self.workload_key.name(),
            sync = text(self.sync),
        )
    }
}

impl SpireKey {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "ec-p256",
            Self::Rsa2048 => "rsa-2048",
        }
    }
}

/// Where the files of one SPIRE are. Every user may pass through it to the agent's socket; all else is its owner's alone.
#[derive(Clone, Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    /// Makes the folders in `path`, which is there and empty.
    pub(super) fn new(path: &Path) -> Result<Self, Error> {
        let home = Self(path.to_owned());
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .map_err(Error::during("opening SPIRE's folder to workloads"))?;
        for (folder, mode) in [
            (home.server(), 0o700),
            (home.agent(), 0o700),
            (home.workload(), 0o755),
        ] {
            DirBuilder::new()
                .mode(mode)
                .create(folder)
                .map_err(Error::during("making SPIRE's folders"))?;
        }
        Ok(home)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn server(&self) -> PathBuf {
        self.0.join("server")
    }

    pub(super) fn agent(&self) -> PathBuf {
        self.0.join("agent")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.server().join("api.sock")
    }

    pub(super) fn workload(&self) -> PathBuf {
        self.0.join("workload")
    }

    /// The agent's, for workloads.
    pub(super) fn socket(&self) -> PathBuf {
        self.workload().join("agent.sock")
    }

    /// By what the agent knows its server at first.
    pub(super) fn bundle(&self) -> PathBuf {
        self.agent().join("bundle.pem")
    }

    /// Writes a file that its owner alone can read.
    pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(Error::during("writing SPIRE's configuration"))
    }
}

/// As Go reads it.
fn text(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
