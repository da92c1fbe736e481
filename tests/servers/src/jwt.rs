//! JSON Web Tokens for tests, signed by keys made on the spot. Nothing here verifies one: that is the real server's.

use std::fmt;
use std::time::SystemTime;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SigningKey};
use serde_json::{Value, json};

use crate::Error;

/// Somebody who issues JWTs.
///
/// # Example
/// ```
/// use test_servers::TestIssuer;
/// let issuer = TestIssuer::es256()?;
/// let jwt = issuer.token("service", "bao", 60)?;
/// assert_eq!(jwt.split('.').count(), 3);
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct TestIssuer {
    key: KeyPair,
    algorithm: &'static str,
}

impl TestIssuer {
    /// With a new key on P-256.
    ///
    /// # Errors
    /// No key can be made.
    pub fn es256() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(Self {
            key: key.map_err(Error::during("generating a key"))?,
            algorithm: "ES256",
        })
    }

    /// With a new RSA key of 2,048 bits.
    ///
    /// # Errors
    /// No key can be made.
    pub fn rs256() -> Result<Self, Error> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Ok(Self {
            key: key.map_err(Error::during("generating a key"))?,
            algorithm: "RS256",
        })
    }

    /// What its signatures are verified with, in PEM.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// A JWT for this subject and audience that ends so many seconds from now, or has ended so many before.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn token(&self, subject: &str, audience: &str, seconds: i64) -> Result<String, Error> {
        self.sign(json!({"sub": subject, "aud": audience}), seconds)
    }

    /// A token of a Kubernetes service account, with the claims that projected tokens have.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn service_account(
        &self,
        namespace: &str,
        name: &str,
        seconds: i64,
    ) -> Result<String, Error> {
        let uid = "3f8e0b4c-0000-4000-8000-000000000000";
        let claims = json!({
            "iss": "https://kubernetes.default.svc",
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": ["https://kubernetes.default.svc"],
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": uid},
            },
        });
        self.sign(claims, seconds)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a JWT ends by the wall clock, which no test's clock can steer"
    )]
    fn sign(&self, mut claims: Value, seconds: i64) -> Result<String, Error> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(Error::during("reading the clock"))?
            .as_secs()
            .cast_signed();
        claims["iat"] = (now.min(now + seconds) - 60).into();
        claims["exp"] = (now + seconds).into();
        self.sign_claims(&json!({"alg": self.algorithm, "typ": "JWT"}), &claims)
    }

    /// A token with this head and these claims, whatever they say.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn sign_claims(&self, head: &Value, claims: &Value) -> Result<String, Error> {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = self
            .key
            .sign(signed.as_bytes())
            .map_err(Error::during("signing a JWT"))?;
        let signature = match self.algorithm {
            "ES256" => two_numbers(&signature)
                .ok_or_else(|| Error::new("a signature is not what it should be"))?,
            _ => signature,
        };
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        Ok(format!("{signed}.{signature}"))
    }

    /// The key that its signatures are verified with, as a set of keys in JSON; of a key on P-256 alone.
    #[must_use]
    pub fn key_set(&self, id: &str) -> Value {
        // A point that is not compressed: one byte that says so, and two numbers.
        let point = self.key.public_key_raw();
        let [x, y] = [1, 33].map(|start| {
            let number = point.get(start..start + 32).unwrap_or_default();
            BASE64_URL_SAFE_NO_PAD.encode(number)
        });
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": id, "x": x, "y": y,
        }]})
    }
}

/// The two numbers of a signature in DER, each of 32 bytes, as RFC 7518, 3.4 wants them.
fn two_numbers(der: &[u8]) -> Option<Vec<u8>> {
    let mut rest = der.get(2..)?;
    let mut both = Vec::with_capacity(64);
    for _ in 0..2 {
        let length = usize::from(*rest.get(1)?);
        let number = rest.get(2..2 + length)?;
        let start = number.iter().take_while(|&&byte| byte == 0).count();
        let digits = number.get(start..)?;
        both.extend(std::iter::repeat_n(0, 32_usize.checked_sub(digits.len())?));
        both.extend(digits);
        rest = rest.get(2 + length..)?;
    }
    Some(both)
}

impl fmt::Debug for TestIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestIssuer")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
