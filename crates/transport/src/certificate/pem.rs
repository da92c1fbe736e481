//! A client's certificates and its private key as PEM texts (RFC 7468). The key goes from the text straight into
//! buffers that are wiped.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use secret_resolver::Error;
use zeroize::Zeroizing;

use crate::error::misconfigured;
use crate::trust::pem::{self, find};

/// A private key in DER, wiped when it goes.
pub(super) struct Key {
    der: Zeroizing<Vec<u8>>,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Pkcs1,
    Pkcs8,
    Sec1,
}

/// All certificates of a text, in their order. There is nothing else in it.
pub(super) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = pem::certificates(text).map_err(|error| {
        let damaged = misconfigured(
            "the text of the client certificate has a section that is damaged or no certificate; its key belongs elsewhere",
        );
        match error.detail() {
            Some(place) => damaged.with_detail(place),
            None => damaged,
        }
    })?;
    match found.is_empty() {
        true => Err(misconfigured("there is no PEM certificate for the client")),
        false => Ok(found.into_iter().map(|found| found.der.into()).collect()),
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// The one private key of a text. Sections of other kinds are passed over, such as the parameters that OpenSSL
/// writes before a key on a curve; half of a section is not, and neither is what stands inside of one.
pub(super) fn key(text: &[u8]) -> Result<Key, Error> {
    let mut found = None;
    let mut rest = text;
    while let Some(begin) = find(rest, BEGIN, 0) {
        let section = rest.get(begin + BEGIN.len()..).unwrap_or_default();
        let label_end = find(section, DASHES, 0).ok_or_else(damaged)?;
        let end = find(section, END, label_end).ok_or_else(damaged)?;
        // The next mark of any kind is its end. Marks may share their dashes.
        let is_before = |mark, text: &[u8], from, to| {
            let place = find(text, mark, from);
            place.is_some_and(|place| place < to)
        };
        if is_before(END, rest, 0, begin) || is_before(BEGIN, section, label_end, end) {
            return Err(damaged());
        }
        let label = section.get(..label_end).unwrap_or_default();
        // Its end may not begin in the dashes of its beginning.
        let body = section.get(label_end + DASHES.len()..end);
        let body = body.ok_or_else(damaged)?;
        let ended = section.get(end + END.len()..).unwrap_or_default();
        let behind = ended.strip_prefix(label).ok_or_else(damaged)?;
        if !behind.starts_with(DASHES) {
            return Err(damaged());
        }
        rest = behind;
        let form = match label {
            b"PRIVATE KEY" => Form::Pkcs8,
            b"RSA PRIVATE KEY" => Form::Pkcs1,
            b"EC PRIVATE KEY" => Form::Sec1,
            label if find(label, b"PRIVATE KEY", 0).is_some() => {
                return Err(misconfigured(
                    "the private key is encrypted, or of a kind that is not known here; give it in PKCS #8 without a password",
                ));
            }
            _ => continue,
        };
        let key = decode(body, form)?;
        if found.replace(key).is_some() {
            return Err(misconfigured("there is more than one private key"));
        }
    }
    if find(rest, END, 0).is_some() {
        return Err(damaged());
    }
    found.ok_or_else(|| misconfigured("there is no PEM private key for the client certificate"))
}

fn decode(body: &[u8], form: Form) -> Result<Key, Error> {
    let mut digits = Zeroizing::new(Vec::with_capacity(body.len()));
    digits.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    // Never longer than its text.
    let mut der = Zeroizing::new(vec![0; digits.len()]);
    let length = BASE64_STANDARD
        .decode_slice(&*digits, &mut der)
        .map_err(|_| damaged())?;
    der.truncate(length);
    Ok(Key { der, form })
}

impl Key {
    pub(super) fn der(&self) -> PrivateKeyDer<'_> {
        let der = self.der.as_slice();
        match self.form {
            Form::Pkcs1 => PrivatePkcs1KeyDer::from(der).into(),
            Form::Pkcs8 => PrivatePkcs8KeyDer::from(der).into(),
            Form::Sec1 => PrivateSec1KeyDer::from(der).into(),
        }
    }
}

fn damaged() -> Error {
    misconfigured("a PEM section of the private key is damaged")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
