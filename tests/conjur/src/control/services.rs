//! Login services: authenticators for JWTs and for client certificates, with the variables that configure them.

use serde_json::{Value, json};

use crate::ConjurDouble;
use crate::jwt::rsa_jwk;

/// How a service of authn-jwt is configured. A member that is `None` has no variable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JwtService {
    /// The issuer that JWTs must name.
    pub issuer: Option<String>,
    /// The audience that JWTs must be for.
    pub audience: Option<String>,
    /// The claim that names the host. Without it, the URL names the login.
    pub token_app_property: Option<String>,
    /// Where the hosts are that the claim names.
    pub identity_path: Option<String>,
}

impl Default for JwtService {
    /// As [`ConjurDouble::jwt`] mints JWTs: the subject names a host below `workloads`.
    fn default() -> Self {
        let some = |text: &str| Some(text.to_owned());
        Self {
            issuer: some("https://issuer.example"),
            audience: some("conjur"),
            token_app_property: some("sub"),
            identity_path: some("workloads"),
        }
    }
}

impl JwtService {
    /// The URL names the login, and the JWT does not.
    #[must_use]
    pub fn with_login_in_url() -> Self {
        Self {
            token_app_property: None,
            identity_path: None,
            ..Self::default()
        }
    }

    /// Sets the issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: Option<&str>) -> Self {
        self.issuer = issuer.map(str::to_owned);
        self
    }

    /// Sets the audience.
    #[must_use]
    pub fn audience(mut self, audience: Option<&str>) -> Self {
        self.audience = audience.map(str::to_owned);
        self
    }

    /// Sets the claim that names the host.
    #[must_use]
    pub fn token_app_property(mut self, claim: Option<&str>) -> Self {
        self.token_app_property = claim.map(str::to_owned);
        self
    }

    /// Sets where the hosts are.
    #[must_use]
    pub fn identity_path(mut self, path: Option<&str>) -> Self {
        self.identity_path = path.map(str::to_owned);
        self
    }
}

/// How a service of authn-cert finds the host.
#[derive(Clone, Debug)]
pub enum CertService {
    /// The URL names it, and its annotation `authn-cert/cn` is the certificate's common name.
    Request,
    /// The certificate's one URI `spiffe://{trust_domain}/{id}` names the host `{identity_path}/{id}`.
    Spiffe {
        /// The only trust domain that is taken.
        trust_domain: String,
        /// Where the hosts are.
        identity_path: String,
    },
}

/// Login services.
impl ConjurDouble {
    /// Creates a service of authn-jwt, switched on, that knows [`ConjurDouble::jwt_key`]. Nobody may use it yet:
    /// [`ConjurDouble::allow_login`].
    ///
    /// # Panics
    /// No key can be made.
    pub fn add_authn_jwt(&self, service: &str, how: &JwtService) {
        let name = format!("authn-jwt/{service}");
        self.add_service(&name);
        self.set_jwt_keys(service, &[self.jwt_key().jwk()]);
        let texts = [
            ("issuer", &how.issuer),
            ("audience", &how.audience),
            ("token-app-property", &how.token_app_property),
            ("identity-path", &how.identity_path),
        ];
        for (variable, text) in texts {
            if let Some(text) = text {
                self.set(&format!("conjur/{name}/{variable}"), text);
            }
        }
    }

    /// Gives a service of authn-jwt another key set.
    pub fn set_jwt_keys(&self, service: &str, keys: &[Value]) {
        let set = json!({"type": "jwks", "value": {"keys": keys}});
        self.set(
            &format!("conjur/authn-jwt/{service}/public-keys"),
            set.to_string(),
        );
    }

    /// Gives a service of authn-jwt the keys of another issuer: the id of each, and its public half in PEM. Of any but an RSA key it gets
    /// none.
    pub fn set_public_keys<'a>(
        &self,
        service: &str,
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let keys = keys.into_iter().filter_map(|(id, pem)| rsa_jwk(id, pem));
        self.set_jwt_keys(service, &keys.collect::<Vec<_>>());
    }

    /// Creates a service of authn-cert, switched on, and makes certificate logins be there. The server must ask for certificates as
    /// well: [`ConjurDouble::set_client_certificates`].
    pub fn add_authn_cert(&self, service: &str, how: &CertService) {
        self.set_authn_cert(true);
        let name = format!("authn-cert/{service}");
        self.add_service(&name);
        if let CertService::Spiffe {
            trust_domain,
            identity_path,
        } = how
        {
            self.set(&format!("conjur/{name}/host-mode"), "spiffe");
            self.set(&format!("conjur/{name}/trust-domain"), trust_domain);
            self.set(&format!("conjur/{name}/identity-path"), identity_path);
        }
    }

    /// Lets a role log in at a service, which is named as `authn-jwt/svc`.
    pub fn allow_login(&self, role: &str, service: &str) {
        let resource = format!("webservice:conjur/{service}");
        self.grant_on(role, &["read", "authenticate"], &resource);
    }

    /// Switches a service on or off, as the server's operator does.
    pub fn set_enabled(&self, service: &str, enabled: bool) {
        let mut state = self.shared().state();
        match enabled {
            true => state.enabled.insert(service.to_owned()),
            false => state.enabled.remove(service),
        };
    }

    fn add_service(&self, name: &str) {
        let mut state = self.shared().state();
        self.make(&mut state, &format!("webservice:conjur/{name}"));
        state.enabled.insert(name.to_owned());
    }
}
