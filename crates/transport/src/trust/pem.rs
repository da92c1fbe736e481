//! The sections of a PEM text (RFC 7468), none passed over: each `-----BEGIN` is a certificate or an error.
//!
//! A parser that skips what it does not know makes fewer authorities of a file than it has, and nobody
//! notices before the day of a rotation.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secret_resolver::Error;

use super::misconfigured;

/// A certificate, and where its section begins.
pub(crate) struct Found {
    pub(crate) der: Vec<u8>,
    /// Which section it is, and at which line it begins; both counted from 1.
    pub(super) section: usize,
    pub(super) line: usize,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// All certificates of a text. What stands between the sections is skipped.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<Found>, Error> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(misconfigured(
            "there is no PEM certificate among the authorities: the text is UTF-16; save it as UTF-8",
        ));
    }
    let mut found = Vec::new();
    let mut at = 0;
    let (mut line, mut counted) = (1, 0);
    while let Some(begin) = find(text, BEGIN, at) {
        let section = found.len() + 1;
        // From the one before: counting from the start each time, a file of many sections would take seconds.
        let passed = text.get(counted..begin).unwrap_or_default();
        line += passed.iter().filter(|&&byte| byte == b'\n').count();
        counted = begin;
        let located = |error: Error| error.with_detail(place(section, line));
        let damaged = || located(misconfigured("a PEM section of the authorities is damaged"));
        if find(text, END, at).is_some_and(|end| end < begin) {
            return Err(damaged());
        }
        let label_at = begin + BEGIN.len();
        let label_end = find(text, DASHES, label_at).ok_or_else(damaged)?;
        let label = text.get(label_at..label_end).unwrap_or_default();
        let ending = [END, label, DASHES].concat();
        let body_at = label_end + DASHES.len();
        // The next mark of any kind is this section's end, or the decoder would read something other than what
        // stands here. Marks may share their dashes.
        let is_end = |end: usize| {
            let rest = text.get(end..).unwrap_or_default();
            let next = find(text, BEGIN, label_end);
            end >= body_at && rest.starts_with(&ending) && next.is_none_or(|next| end < next)
        };
        let body_end = find(text, END, label_end).filter(|&end| is_end(end));
        check(label).map_err(located)?;
        let body = text
            .get(body_at..body_end.ok_or_else(damaged)?)
            .unwrap_or_default();
        // In the one form that the decoder knows, whatever stands around it here.
        let plain = [
            b"-----BEGIN CERTIFICATE-----\n",
            body,
            b"\n-----END CERTIFICATE-----\n",
        ]
        .concat();
        let der = CertificateDer::from_pem_slice(&plain).map_err(|_| damaged())?;
        found.push(Found {
            der: der.to_vec(),
            section,
            line,
        });
        at = body_end.unwrap_or(body_at) + ending.len() - DASHES.len();
    }
    if find(text, END, at).is_some() {
        return Err(misconfigured("a PEM section of the authorities is damaged"));
    }
    Ok(found)
}

/// In an error, the section that it is about.
pub(super) fn place(section: usize, line: usize) -> String {
    format!("section {section}, at line {line}")
}

/// Takes certificates alone.
fn check(label: &[u8]) -> Result<(), Error> {
    Err(misconfigured(match label {
        // The older name of the same.
        b"CERTIFICATE" | b"X509 CERTIFICATE" => return Ok(()),
        b"TRUSTED CERTIFICATE" => {
            "there is something other than a certificate among the authorities: a TRUSTED CERTIFICATE has rules of OpenSSL's own; convert it by `openssl x509`"
        }
        label if find(label, b"PRIVATE KEY", 0).is_some() => {
            "there is something other than a certificate among the authorities: a private key has no business there"
        }
        _ => "there is something other than a certificate among the authorities",
    }))
}

/// Where `what` stands in `text`, at `from` or behind it.
pub(crate) fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let at = rest.windows(what.len()).position(|window| window == what)?;
    Some(from + at)
}
