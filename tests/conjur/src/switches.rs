//! What of the server's behaviour a test can choose: at the start by `Options`, and most of it later too.

use std::time::Duration;

use crate::{ConjurDouble, Error};

/// How the server starts. All of it but the account and the host names can be changed while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The account that every id is of: `myorg`.
    pub account: String,
    /// The host names and addresses in the server's certificate: `127.0.0.1` and `localhost`.
    pub names: Vec<String>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// Whose answers it gives where versions differ.
    pub version: Version,
    /// What stands before each path.
    pub prefix: Prefix,
    /// Whether `POST /secrets/values` is there.
    pub saas: bool,
    /// Whether certificate logins are there at all.
    pub authn_cert: bool,
    /// How long an access token lives, in whole seconds: 480.
    pub token_life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            account: "myorg".to_owned(),
            names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            client_certificates: ClientCertificates::Off,
            version: Version::V1_24,
            prefix: Prefix::Absent,
            saas: false,
            authn_cert: false,
            token_life: Duration::from_secs(480),
        }
    }
}

impl Options {
    /// Starts a server.
    ///
    /// # Errors
    /// No port can be opened, or no certificate be made.
    pub fn start(self) -> Result<ConjurDouble, Error> {
        ConjurDouble::start_with(self)
    }
}

/// Whether the server asks for a client's certificate, which must be of its client authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientCertificates {
    /// It asks for none.
    Off,
    /// It asks, and goes on without.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// Whose answers are given where versions of Conjur differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// v1.24.0: a batch read checks permission before existence.
    V1_24,
    /// v1.22.2: existence before permission. Bodies are sent in chunks.
    V1_22,
}

/// The `/api` that some servers have before each path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Prefix {
    /// As in the open-source server: with it, nothing is found.
    Absent,
    /// As in the appliance: with it or without.
    Accepted,
    /// As in the service: without it, nothing is found.
    Required,
}

/// The switches as they stand.
#[derive(Clone, Debug)]
pub(crate) struct Switches {
    pub(crate) version: Version,
    pub(crate) prefix: Prefix,
    pub(crate) saas: bool,
    pub(crate) authn_cert: bool,
    pub(crate) token_life: Duration,
    pub(crate) outage: bool,
}

impl Switches {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            version: options.version,
            prefix: options.prefix,
            saas: options.saas,
            authn_cert: options.authn_cert,
            token_life: options.token_life,
            outage: false,
        }
    }
}

/// Switches, of all endpoints at once.
impl ConjurDouble {
    /// Takes the database away or gives it back: meanwhile every answer is a 500.
    pub fn set_outage(&self, outage: bool) {
        self.shared().switches().outage = outage;
    }

    /// How long the tokens live that are made from now on, in whole seconds.
    pub fn set_token_life(&self, life: Duration) {
        self.shared().switches().token_life = life;
    }

    /// Whose answers are given where versions differ.
    pub fn set_version(&self, version: Version) {
        self.shared().switches().version = version;
    }

    /// What stands before each path.
    pub fn set_prefix(&self, prefix: Prefix) {
        self.shared().switches().prefix = prefix;
    }

    /// Whether `POST /secrets/values` is there.
    pub fn set_saas(&self, saas: bool) {
        self.shared().switches().saas = saas;
    }

    /// Whether certificate logins are there at all.
    pub fn set_authn_cert(&self, there: bool) {
        self.shared().switches().authn_cert = there;
    }

    /// Moves the server's clock forward: its tokens age, and JWTs are older or no longer from the future.
    pub fn advance(&self, by: Duration) {
        self.shared().clock.shift(millis(by));
    }

    /// Moves the server's clock back, so that a JWT issued now is from its future.
    pub fn set_back(&self, by: Duration) {
        self.shared().clock.shift(-millis(by));
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
