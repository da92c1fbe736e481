//! JWTs: minting them for tests, and the check of a signature against a key set. What a JWT's claims allow is decided elsewhere.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use crate::certificates::Integers;
use crate::{ConjurDouble, Error};

/// What a JWT's header says that it is signed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// RSA with SHA-256: taken.
    Rs256,
    /// RSA with SHA-384: taken.
    Rs384,
    /// RSA with SHA-512: taken.
    Rs512,
    /// An elliptic curve: refused.
    Es256,
    /// No signature: refused.
    None,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::None => "none",
        }
    }
}

/// A key that signs JWTs. Clones are the same key.
#[derive(Clone)]
pub struct JwtKey {
    id: String,
    key: Arc<Pair>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl JwtKey {
    /// Makes an RSA key.
    ///
    /// # Errors
    /// No key can be made.
    pub fn rsa(id: &str) -> Result<Self, Error> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048);
        let pair = pair.map_err(Error::during("generating an RSA key"))?;
        Ok(Self::new(id, Pair::Rsa(pair)))
    }

    /// Makes a P-256 key, of whose signatures none is taken.
    ///
    /// # Errors
    /// No key can be made.
    pub fn ec(id: &str) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = pair.map_err(Error::during("generating a P-256 key"))?;
        Ok(Self::new(id, Pair::Ec(pair)))
    }

    fn new(id: &str, key: Pair) -> Self {
        Self {
            id: id.to_owned(),
            key: Arc::new(key),
        }
    }

    /// Its id, in the header of what it signs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its public half, as an item of a key set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let number = |bytes: Option<&[u8]>| URL_SAFE_NO_PAD.encode(bytes.unwrap_or_default());
        match &*self.key {
            Pair::Rsa(pair) => rsa_item(&self.id, Integers::of(pair.public_key().as_ref())),
            Pair::Ec(pair) => {
                // A point is written as 4 and its two numbers.
                let point = pair.public_key().as_ref();
                let (x, y) = (number(point.get(1..33)), number(point.get(33..65)));
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y})
            }
        }
    }

    fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &*self.key {
            Pair::Rsa(pair) => {
                let padding = match algorithm {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, text, &mut signature).ok()?;
                Some(signature)
            }
            Pair::Ec(pair) => Some(pair.sign(&random, text).ok()?.as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A JWT that is being put together.
#[derive(Clone, Debug)]
pub struct Jwt {
    now: i64,
    algorithm: Algorithm,
    key: JwtKey,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

impl Jwt {
    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a claim to a time: so many seconds from now, by the server's clock.
    #[must_use]
    pub fn time(self, name: &str, seconds_from_now: i64) -> Self {
        let at = self.now + seconds_from_now;
        self.claim(name, at)
    }

    /// Ends so many seconds from now, by the server's clock.
    #[must_use]
    pub fn expires_in(self, seconds: i64) -> Self {
        self.time("exp", seconds)
    }

    /// Says that it is signed so. An RSA key signs as it says.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Is signed by this key and names it.
    #[must_use]
    pub fn signed_by(mut self, key: &JwtKey) -> Self {
        self.key = key.clone();
        self.key_id = Some(key.id.clone());
        self
    }

    /// Names this key, or none, whichever signs.
    #[must_use]
    pub fn key_id(mut self, id: Option<&str>) -> Self {
        self.key_id = id.map(str::to_owned);
        self
    }

    /// The JWT.
    ///
    /// # Panics
    /// The library that signs refuses to.
    #[must_use]
    pub fn mint(&self) -> String {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let (Some(id), Some(header)) = (&self.key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.as_str().into());
        }
        let claims = Value::Object(self.claims.clone());
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match self.algorithm {
            Algorithm::None => Some(Vec::new()),
            algorithm => self.key.sign(algorithm, text.as_bytes()),
        };
        let Some(signature) = signature else {
            panic!("a JWT cannot be signed");
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The server's keys for JWTs, made when they are first asked for: that takes a while, and most tests need none.
#[derive(Default)]
pub(crate) struct JwtKeys {
    known: OnceLock<JwtKey>,
    unknown: OnceLock<JwtKey>,
}

/// JWTs.
impl ConjurDouble {
    /// The key that the services of [`ConjurDouble::add_authn_jwt`] know.
    ///
    /// # Panics
    /// No key can be made.
    #[must_use]
    pub fn jwt_key(&self) -> &JwtKey {
        made(&self.shared().jwt_keys.known, "known-key")
    }

    /// A key that no service knows.
    ///
    /// # Panics
    /// No key can be made.
    #[must_use]
    pub fn unknown_jwt_key(&self) -> &JwtKey {
        made(&self.shared().jwt_keys.unknown, "unknown-key")
    }

    /// A good JWT of this subject, as `add_authn_jwt` with its defaults takes it: issued now, by the server's clock, for an hour.
    ///
    /// # Panics
    /// No key can be made.
    #[must_use]
    pub fn jwt(&self, subject: &str) -> Jwt {
        let key = self.jwt_key().clone();
        let jwt = Jwt {
            now: self.shared().clock.now(),
            algorithm: Algorithm::Rs256,
            key_id: Some(key.id.clone()),
            key,
            claims: Map::new(),
        };
        jwt.claim("iss", "https://issuer.example")
            .claim("aud", "conjur")
            .claim("sub", subject)
            .time("iat", 0)
            .time("exp", 3600)
    }
}

/// A public RSA key in PEM, as an item of a key set.
pub(crate) fn rsa_jwk(id: &str, pem: &str) -> Option<Value> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(rsa_item(id, Some(Integers::of_rsa_in(&der)?)))
}

/// An item of a key set, of the modulus and the exponent.
fn rsa_item(id: &str, numbers: Option<Integers<'_>>) -> Value {
    let mut numbers = numbers.into_iter().flatten();
    let mut next = || URL_SAFE_NO_PAD.encode(numbers.next().unwrap_or_default());
    let (n, e) = (next(), next());
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": n, "e": e})
}

fn made<'a>(key: &'a OnceLock<JwtKey>, id: &str) -> &'a JwtKey {
    key.get_or_init(|| match JwtKey::rsa(id) {
        Ok(key) => key,
        Err(error) => panic!("{error}"),
    })
}

/// The claims of a JWT that a key of the set has signed; `keys` is a key set as JSON.
pub(crate) fn verified(jwt: &str, keys: &Value) -> Option<Map<String, Value>> {
    let (text, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let decode = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let header = decode(header)?;
    let algorithm = match header.get("alg")?.as_str()? {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    };
    let id = header.get("kid")?.as_str()?;
    let of_id = |key: &&Value| key.get("kid").and_then(Value::as_str) == Some(id);
    let key = keys.get("keys")?.as_array()?.iter().find(of_id)?;
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key.get(name)?.as_str()?).ok();
    let public = PublicKeyComponents {
        n: number("n")?,
        e: number("e")?,
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    public.verify(algorithm, text.as_bytes(), &signature).ok()?;
    match decode(claims)? {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_public_key_is_the_same_item_of_a_key_set_when_it_comes_in_pem() {
        let key = JwtKey::rsa("one").unwrap();
        let Pair::Rsa(pair) = &*key.key else {
            panic!("another key")
        };
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let text = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        assert_eq!(rsa_jwk("one", &pem), Some(key.jwk()));
        // A key on a curve is none.
        let curve = rcgen::KeyPair::generate().unwrap().public_key_pem();
        assert_eq!(rsa_jwk("one", &curve), None);
        assert_eq!(rsa_jwk("one", "no key"), None);
    }
}
