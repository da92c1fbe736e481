//! The running server: starting it, where it is, more endpoints of it, stopping it and starting it again.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use test_servers::{TestCa, Validity};

use crate::certificates::ClientCa;
use crate::endpoint::{Endpoint, Shared, lock};
use crate::jwt::JwtKeys;
use crate::net;
use crate::{ClientCertificates, Error, Options};

/// A running Conjur, or one more endpoint of one. Dropping it closes its port and all of its connections.
pub struct ConjurDouble {
    endpoint: Arc<Endpoint>,
}

/// Starting, stopping, and where it is.
impl ConjurDouble {
    /// Starts a server on a free port of 127.0.0.1 with an empty account `myorg`, in which there is `admin` alone.
    ///
    /// # Errors
    /// No port can be opened, or no certificate be made.
    pub fn start() -> Result<Self, Error> {
        Options::default().start()
    }

    /// As [`ConjurDouble::start`], with other options.
    ///
    /// # Errors
    /// As [`ConjurDouble::start`].
    pub fn start_with(options: Options) -> Result<Self, Error> {
        let ca = new_ca()?;
        let shared = Arc::new(Shared::new(
            &options,
            ca,
            ClientCa::new()?,
            JwtKeys::default(),
        ));
        let now = shared.clock.now_ms();
        shared.state().add_account(&options.account, now);
        Self::open(shared, false, options.client_certificates)
    }

    /// One more endpoint of the same server, which writes too: another port, the same state, faults of its own.
    ///
    /// # Errors
    /// As [`ConjurDouble::start`].
    pub fn endpoint_too(&self) -> Result<Self, Error> {
        self.another(false)
    }

    /// One more endpoint of the same server that refuses to write, as a follower does.
    ///
    /// # Errors
    /// As [`ConjurDouble::start`].
    pub fn follower(&self) -> Result<Self, Error> {
        self.another(true)
    }

    fn another(&self, follower: bool) -> Result<Self, Error> {
        let certificates = *lock(&self.endpoint.client_certificates);
        Self::open(Arc::clone(&self.endpoint.shared), follower, certificates)
    }

    fn open(
        shared: Arc<Shared>,
        follower: bool,
        certificates: ClientCertificates,
    ) -> Result<Self, Error> {
        let tls = net::tls_config(&shared, certificates)?;
        let endpoint = Arc::new(Endpoint::new(shared, follower, tls, certificates));
        net::listen(&endpoint, 0)?;
        Ok(Self { endpoint })
    }

    /// From now on this endpoint answers from the state as it is now; with `false`, from what is true again. A token that was made
    /// meanwhile is good here too.
    pub fn set_lagging(&self, lagging: bool) {
        self.endpoint.set_lagging(lagging);
    }

    /// `https://127.0.0.1:PORT`, without a prefix.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port())
    }

    /// The port it listens on, on 127.0.0.1 only.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port().number
    }

    /// The certificate of the authority that signed the server's certificate, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        lock(&self.shared().ca).pem().to_owned()
    }

    /// The account that every id is of.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.shared().account
    }

    /// The authority whose client certificates the server takes.
    #[must_use]
    pub fn client_ca(&self) -> &ClientCa {
        &self.shared().client_ca
    }

    /// Takes client certificates of these authorities too, in PEM, on connections of this endpoint made from now on; no more of those that
    /// were given before.
    ///
    /// # Errors
    /// This is not PEM, or no certificate can be made.
    pub fn trust_clients_of(&self, authorities: &str) -> Result<(), Error> {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
        *lock(&self.shared().client_cas) = read.map_err(Error::during("reading authorities"))?;
        let wanted = *lock(&self.endpoint.client_certificates);
        self.set_client_certificates(wanted)
    }

    /// Whether clients are asked for a certificate, on connections made from now on.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn set_client_certificates(&self, wanted: ClientCertificates) -> Result<(), Error> {
        *lock(&self.endpoint.client_certificates) = wanted;
        let tls = net::tls_config(self.shared(), wanted)?;
        *lock(&self.endpoint.tls) = Arc::new(tls);
        Ok(())
    }

    /// Makes a new authority with the name of the old one, and a certificate of it for the connections made from now on.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn change_ca(&self) -> Result<(), Error> {
        *lock(&self.shared().ca) = new_ca()?;
        let wanted = *lock(&self.endpoint.client_certificates);
        self.set_client_certificates(wanted)
    }

    /// Closes the connections that are open now and keeps serving new ones.
    pub fn drop_connections(&self) {
        self.endpoint.port().close_connections();
    }

    /// Closes the port and the connections. The state stays.
    pub fn stop(&self) {
        net::close(&self.endpoint);
    }

    /// Opens the port again after [`ConjurDouble::stop`], at the same number.
    ///
    /// # Errors
    /// Somebody else has the port by now.
    pub fn start_again(&self) -> Result<(), Error> {
        let number = self.port();
        net::listen(&self.endpoint, number)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.endpoint.shared
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for ConjurDouble {
    fn drop(&mut self) {
        net::close(&self.endpoint);
    }
}

impl fmt::Debug for ConjurDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConjurDouble")
            .field("port", &self.port())
            .field("follower", &self.endpoint.follower)
            .finish_non_exhaustive()
    }
}

fn new_ca() -> Result<TestCa, Error> {
    TestCa::new(Validity::CURRENT).map_err(Error::during("making an authority"))
}
