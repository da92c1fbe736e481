//! A server whose data outlive its process: it can be stopped for a while and started again, like a store that is away.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::openbao::OpenBao;
use crate::{Error, TestCa, Validity};

impl OpenBao {
    /// As [`OpenBao::start`], for a server that can be started again. It takes about two seconds more.
    ///
    /// # Errors
    /// As [`OpenBao::start`].
    pub fn start_durable() -> Result<Self, Error> {
        Self::start_by(|port, program| durable(port, program, None))
    }

    /// As [`OpenBao::start_durable`], for a server that takes no connection without a client certificate of `clients`
    /// (`tls_require_and_verify_client_cert`).
    ///
    /// # Errors
    /// As [`OpenBao::start`].
    pub fn start_demanding(clients: &TestCa) -> Result<Self, Error> {
        Self::start_demanding_also(clients, "")
    }

    /// As [`OpenBao::start_demanding`], for one that takes certificates of these other authorities too, in PEM.
    ///
    /// # Errors
    /// As [`OpenBao::start`].
    pub fn start_demanding_also(clients: &TestCa, others: &str) -> Result<Self, Error> {
        Self::start_by(|port, program| durable(port, program, Some((clients, others))))
    }

    /// Has a durable server show this certificate, in PEM with those above it, from the next connection on. The administrator's tool does
    /// not believe it: what it is to do comes before.
    ///
    /// # Errors
    /// The server has ended; its files cannot be written.
    pub fn show(&mut self, chain: &str, key: &str) -> Result<(), Error> {
        for (name, content) in [("server.pem", chain), ("server-key.pem", key)] {
            let path = self.cli().home.join(name);
            std::fs::write(path, content).map_err(Error::during("writing the server's files"))?;
        }
        self.reload()
    }

    /// Starts a stopped durable server at its port again, and returns once it is unsealed and answers.
    ///
    /// # Errors
    /// As [`OpenBao::start`]; somebody else has the port by now.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.spawn_again()?;
        let unsealed = self.until(|server| server.unseal())?;
        match unsealed.is_some() && self.wait_until_ready()? {
            true => Ok(()),
            false => Err(Error::new(
                "the server's port was taken while it was stopped",
            )),
        }
    }
}

/// Whose certificates are demanded, the authority of the administrator's first; others in PEM.
type Demanded<'a> = Option<(&'a TestCa, &'a str)>;

/// `None` when somebody else has the port.
fn durable(port: u16, program: &Path, clients: Demanded<'_>) -> Result<Option<OpenBao>, Error> {
    let ca = TestCa::new(Validity::CURRENT)?;
    let told = cluster_address(port);
    let mut server = spawn_with_raft(&ca, "one", (port, told), program, clients)?;
    if initialize(&mut server)?.is_none() {
        return Ok(None);
    }
    let enable = ["secrets", "enable", "-path=secret", "-version=2", "kv"];
    if server.until(|server| server.run(&enable))?.is_none() {
        return Ok(None);
    }
    Ok(server.wait_until_ready()?.then_some(server))
}

/// Where a server listens for the other nodes of its cluster. It binds that port seconds after it was chosen, and by then a client's
/// connection may have got it for its own end: on 127.0.0.1 that happened once in ten starts on a busy machine. Clients have no ends on
/// this address.
pub(crate) fn cluster_address(port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, 2), port + 1).into()
}

/// A server whose data are in its directory, not initialized yet. `shown` is the address that it gives to the other nodes of its cluster.
/// It demands certificates of `clients`, if there is such an authority.
pub(crate) fn spawn_with_raft(
    ca: &TestCa,
    name: &str,
    (port, shown): (u16, SocketAddr),
    program: &Path,
    clients: Demanded<'_>,
) -> Result<OpenBao, Error> {
    let directory = tempfile::tempdir().map_err(Error::during("making a directory for OpenBao"))?;
    let home = directory.path();
    let certificate = ca.issue(&["127.0.0.1", "localhost"], Validity::CURRENT)?;
    let data = home.join("data");
    std::fs::create_dir(&data).map_err(Error::during("making a directory for OpenBao's data"))?;
    let demand = match clients {
        None => String::new(),
        Some(_) => format!(
            r#"
  tls_require_and_verify_client_cert = true
  tls_client_ca_file = "{}/clients.pem""#,
            home.display()
        ),
    };
    let config = format!(
        r#"
storage "raft" {{
  path = "{data}"
  node_id = "{name}"
  performance_multiplier = 1
  autopilot_reconcile_interval = "200ms"
  autopilot_update_interval = "200ms"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "{cluster}"
  tls_cert_file = "{home}/server.pem"
  tls_key_file = "{home}/server-key.pem"{demand}
}}
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://{shown}"
"#,
        data = data.display(),
        home = home.display(),
        cluster = cluster_address(port),
    );
    let files = [
        ("config.hcl", &config),
        ("vault-ca.pem", &ca.pem().to_owned()),
        ("server.pem", &certificate.certificate_pem),
        ("server-key.pem", &certificate.key_pem),
    ];
    if let Some((clients, others)) = clients {
        let admin = clients.issue_client("admin", Validity::CURRENT)?;
        let files = [
            ("clients.pem", &format!("{}{others}", clients.pem())),
            ("admin.pem", &admin.certificate_pem),
            ("admin-key.pem", &admin.key_pem),
        ];
        for (name, content) in files {
            std::fs::write(home.join(name), content)
                .map_err(Error::during("writing the server's files"))?;
        }
    }
    for (name, content) in files {
        std::fs::write(home.join(name), content)
            .map_err(Error::during("writing the server's files"))?;
    }
    let config = format!("-config={}", home.join("config.hcl").display());
    let arguments = vec!["server".to_owned(), config];
    OpenBao::spawn(port, program, directory, arguments, String::new())
}

/// Makes a new store in a server, opens it, and returns its unseal key; `None` when somebody else has the port.
pub(crate) fn initialize(server: &mut OpenBao) -> Result<Option<String>, Error> {
    let init = [
        "operator",
        "init",
        "-key-shares=1",
        "-key-threshold=1",
        "-format=json",
    ];
    let Some(given) = server.until(|server| server.run(&init))? else {
        return Ok(None);
    };
    let given: serde_json::Value =
        serde_json::from_str(&given).map_err(Error::during("reading what init printed"))?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let unseal_key = text(&given["unseal_keys_b64"][0]);
    server.initialized(text(&given["root_token"]), unseal_key.clone());
    server.unseal()?;
    Ok(Some(unseal_key))
}
