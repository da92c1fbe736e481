//! A real nginx before a server, which passes requests on or answers them itself, like a proxy whose server is away or that was
//! misconfigured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::openbao::free_port;
use crate::process::Guarded;
use crate::{Error, OpenBao, TestCa, Validity, tools};

/// A running nginx with TLS and its own CA, ended when this is dropped.
///
/// # Example
/// ```
/// let server = test_servers::OpenBao::start()?;
/// let proxy = test_servers::Nginx::before(&server)?;
/// proxy.answer("503")?;
/// proxy.pass()?;
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct Nginx {
    // Before the directory, because fields are dropped in this order.
    _process: Guarded,
    port: u16,
    directory: TempDir,
}

impl Nginx {
    /// What it can be made to answer: a status, with its own page, or `403-json`: a 403 in the form of OpenBao.
    pub const ANSWERS: [&str; 8] = ["400", "403", "403-json", "404", "408", "421", "502", "503"];

    /// Starts a proxy that passes all requests on to `server`.
    ///
    /// # Errors
    /// The program is not installed, or did not start within 10 s, or found no free port in five attempts.
    pub fn before(server: &OpenBao) -> Result<Self, Error> {
        Self::start(&server.origin(), None)
    }

    /// Starts a proxy that passes on to the server at `origin` what comes with a client certificate of these authorities, in PEM, and
    /// answers 400 to all else.
    ///
    /// # Errors
    /// As [`Nginx::before`].
    pub fn demanding_before(origin: &str, clients: &str) -> Result<Self, Error> {
        Self::start(origin, Some(clients))
    }

    fn start(upstream: &str, clients: Option<&str>) -> Result<Self, Error> {
        let program = tools::nginx()?;
        // Another process may take the port first.
        for _ in 0..5 {
            if let Some(started) = Self::start_at(free_port()?, &program, upstream, clients)? {
                return Ok(started);
            }
        }
        Err(Error::new("nginx found no free port in five attempts"))
    }

    /// `None` when something else has the port.
    #[expect(
        clippy::disallowed_methods,
        reason = "it waits for another process, which no test's clock can steer"
    )]
    fn start_at(
        port: u16,
        program: &Path,
        upstream: &str,
        clients: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let directory =
            tempfile::tempdir().map_err(Error::during("making a directory for nginx"))?;
        let home = directory.path();
        let ca = TestCa::new(Validity::CURRENT)?;
        let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT)?;
        let files = [
            (
                "nginx.conf",
                &config(
                    &home.display().to_string(),
                    port,
                    upstream,
                    clients.is_some(),
                ),
            ),
            ("clients.pem", &clients.unwrap_or_default().to_owned()),
            ("ca.pem", &ca.pem().to_owned()),
            ("server.pem", &certificate.certificate_pem),
            ("server-key.pem", &certificate.key_pem),
        ];
        for (name, content) in files {
            std::fs::write(home.join(name), content)
                .map_err(Error::during("writing nginx's files"))?;
        }
        let log = home.join("nginx.log");
        let path = |name: &str| home.join(name).display().to_string();
        let arguments = [
            "-e".to_owned(),
            path("error.log"),
            "-c".to_owned(),
            path("nginx.conf"),
        ];
        let mut process = Guarded::spawn(program, &arguments, home, &log)?;
        let started = Instant::now();
        // It writes this once it has the port; whatever else has it may answer, too.
        while !home.join("nginx.pid").exists() {
            if process.ended()?.is_some() || started.elapsed() > Duration::from_secs(10) {
                let read = |log| std::fs::read_to_string(log).unwrap_or_default();
                let said = read(log) + &read(home.join("error.log"));
                return match said.contains("Address already in use") {
                    true => Ok(None),
                    false => Err(Error::new(format!("nginx did not start: {said}"))),
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(Self {
            _process: process,
            port,
            directory,
        }))
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The PEM file of the CA that signed its certificate. It goes with the server.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// From now on it answers every request itself, with one of [`Nginx::ANSWERS`].
    ///
    /// # Errors
    /// It has no such answer.
    pub fn answer(&self, answer: &str) -> Result<(), Error> {
        if !Self::ANSWERS.contains(&answer) {
            return Err(Error::new(format!(
                "nginx was not set up to answer {answer}"
            )));
        }
        self.pass()?;
        std::fs::write(self.directory.path().join(answer), "")
            .map_err(Error::during("steering nginx"))
    }

    /// From now on it passes requests on again.
    ///
    /// # Errors
    /// The files by which it is steered cannot be removed.
    pub fn pass(&self) -> Result<(), Error> {
        for answer in Self::ANSWERS {
            let file = self.directory.path().join(answer);
            if file.exists() {
                std::fs::remove_file(file).map_err(Error::during("steering nginx"))?;
            }
        }
        Ok(())
    }
}

/// One process, so that its end is the end of all; it looks at each request for the files by which it is steered.
fn config(home: &str, port: u16, upstream: &str, demanding: bool) -> String {
    let clients = match demanding {
        true => format!("ssl_verify_client on; ssl_client_certificate {home}/clients.pem;"),
        false => String::new(),
    };
    let mut answers = String::new();
    for answer in Nginx::ANSWERS {
        let what = match answer {
            "403-json" => r#"403 '{"errors":["permission denied"]}'"#,
            status => status,
        };
        answers += &format!("      if (-f {home}/{answer}) {{ return {what}; }}\n");
    }
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = folders
        .map(|what| format!("  {what}_temp_path {home}/{what};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{}}
http {{
  access_log off;
{folders}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {home}/server.pem;
    ssl_certificate_key {home}/server-key.pem;
    {clients}
    location / {{
{answers}
      proxy_pass {upstream};
    }}
  }}
}}
"
    )
}

impl fmt::Debug for Nginx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nginx")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
