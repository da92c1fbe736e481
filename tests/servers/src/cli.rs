//! Administering a running OpenBao by its own command line tool: the methods by which a test arranges what the code under test will
//! find. It does not start or end the server; that is `openbao.rs`.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::clean_environment;
use crate::{Error, OpenBao};

/// The mount of the KV v2 store that a server in dev mode starts with.
const KV_MOUNT: &str = "-mount=secret";

/// Administration, always as root unless it says otherwise.
impl OpenBao {
    /// Runs `bao` with these arguments as root and returns what it printed.
    ///
    /// # Errors
    /// The program failed; what it wrote to its standard error is in the error.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        self.cli().run(self.root_token(), arguments, "")
    }

    /// As [`OpenBao::run`], with `input` on its standard input.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        self.cli().run(self.root_token(), arguments, input)
    }

    /// As [`OpenBao::run`], with another token than root's.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn run_as(&self, token: &str, arguments: &[&str]) -> Result<String, Error> {
        self.cli().run(token, arguments, "")
    }

    /// Writes a new version of a secret to the KV v2 mount `secret/`, with exactly these text fields, and returns its number.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn put(&self, path: &str, fields: &[(&str, &str)]) -> Result<u64, Error> {
        let fields = fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()));
        self.put_json(
            path,
            &serde_json::Value::Object(fields.collect()).to_string(),
        )
    }

    /// As [`OpenBao::put`], for fields that are not text: `json` is an object.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn put_json(&self, path: &str, json: &str) -> Result<u64, Error> {
        // On the command line `@` and `-` at a value's start mean a file and the standard input; inside JSON they mean themselves.
        let version =
            self.run_with_input(&["kv", "put", KV_MOUNT, "-field=version", path, "-"], json)?;
        version
            .parse()
            .map_err(Error::during("reading the version that was written"))
    }

    /// Writes a policy, given in the server's own language.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn policy(&self, name: &str, hcl: &str) -> Result<(), Error> {
        self.run_with_input(&["policy", "write", name, "-"], hcl)
            .map(drop)
    }

    /// Creates or changes a role at `auth/approle`, which is enabled when it is not yet, and issues a new secret id for it.
    /// Durations are rounded down to whole seconds; zero means the server's default.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn approle(
        &self,
        role: &str,
        policies: &[&str],
        token_ttl: Duration,
        token_max_ttl: Duration,
    ) -> Result<AppRole, Error> {
        if !self
            .run(&["auth", "list", "-format=json"])?
            .contains("\"approle/\"")
        {
            self.run(&["auth", "enable", "approle"])?;
        }
        let path = format!("auth/approle/role/{role}");
        let policies = format!("token_policies={}", policies.join(","));
        let ttl = format!("token_ttl={}", seconds(token_ttl));
        let max_ttl = format!("token_max_ttl={}", seconds(token_max_ttl));
        self.run(&["write", &path, &policies, &ttl, &max_ttl])?;
        Ok(AppRole {
            role_id: self.run(&["read", "-field=role_id", &format!("{path}/role-id")])?,
            secret_id: self.run(&[
                "write",
                "-force",
                "-field=secret_id",
                &format!("{path}/secret-id"),
            ])?,
        })
    }

    /// A new token with these policies and `default`.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn token(&self, policies: &[&str], ttl: Duration) -> Result<String, Error> {
        let ttl = format!("-ttl={}", seconds(ttl));
        let policies: Vec<_> = policies
            .iter()
            .map(|policy| format!("-policy={policy}"))
            .collect();
        let mut arguments = vec!["token", "create", "-field=token", &ttl];
        arguments.extend(policies.iter().map(String::as_str));
        self.run(&arguments)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn revoke(&self, token: &str) -> Result<(), Error> {
        self.run(&["token", "revoke", token]).map(drop)
    }

    /// Revokes the token that this accessor belongs to.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn revoke_accessor(&self, accessor: &str) -> Result<(), Error> {
        self.run(&["token", "revoke", "-accessor", accessor])
            .map(drop)
    }

    /// Seals the server: it keeps answering, with 503.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn seal(&self) -> Result<(), Error> {
        self.run(&["operator", "seal"]).map(drop)
    }

    /// Opens a sealed server again.
    ///
    /// # Errors
    /// As [`OpenBao::run`].
    pub fn unseal(&self) -> Result<(), Error> {
        self.run(&["operator", "unseal", self.unseal_key()?.as_str()])
            .map(drop)
    }
}

/// What a service logs in with at `auth/approle`.
#[derive(Clone)]
pub struct AppRole {
    /// The role's id: a name, not a secret.
    pub role_id: String,
    /// The secret id, good for any number of logins until it is destroyed.
    pub secret_id: String,
}

impl fmt::Debug for AppRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppRole")
            .field("role_id", &self.role_id)
            .finish_non_exhaustive()
    }
}

/// How to reach one server with the `bao` program.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) program: PathBuf,
    pub(crate) origin: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) home: PathBuf,
}

impl Cli {
    pub(crate) fn run(
        &self,
        token: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, Error> {
        let mut command = Command::new(&self.program);
        clean_environment(&mut command, &self.home);
        command
            .args(arguments)
            .env("BAO_ADDR", &self.origin)
            .env("BAO_CACERT", &self.ca_file)
            .env("BAO_TOKEN", token);
        // A server that a test has sealed, suspended or stopped must be reported to the test at once, not after a minute of retries.
        command
            .env("BAO_MAX_RETRIES", "0")
            .env("BAO_CLIENT_TIMEOUT", "10s");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let [certificate, key] = ["admin.pem", "admin-key.pem"].map(|file| self.home.join(file));
        if certificate.exists() {
            // Of a server that demands one.
            command
                .env("BAO_CLIENT_CERT", certificate)
                .env("BAO_CLIENT_KEY", key);
        }
        let mut child = command.spawn().map_err(Error::during("starting bao"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without reading; its own message then says more than a broken pipe does.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child
            .wait_with_output()
            .map_err(Error::during("waiting for bao"))?;
        if !output.status.success() {
            // Later arguments can be credentials.
            let shown = arguments.get(..2).unwrap_or(arguments).join(" ");
            return Err(Error::new(format!(
                "bao {shown} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let text =
            String::from_utf8(output.stdout).map_err(Error::during("reading what bao printed"))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
