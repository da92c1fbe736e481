//! A certificate and its key in two files, which somebody else replaces while the process runs.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secret_resolver::Error;
use secret_resolver::backend::{regular_file, report};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::certificate::{CertificateSource, ClientCertificate};
use crate::error::misconfigured;

/// A pair of PEM files: the certificate with those of its issuers, and its private key. A clone shares them.
///
/// Both are read again while requests are sent, at most once in ten seconds, or in one after a server has refused
/// the certificate or it has ended. Another pair is shown from the next connection on, and connections that were
/// made with the one before are closed. A pair that cannot be used, such as one of which the first file was
/// replaced and the second not yet, is logged at WARN and looked at again; the pair before stays as long as it is
/// valid.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::CertificateFiles;
///
/// let error = CertificateFiles::new("/run/tls/none.crt", "/run/tls/none.key").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// assert!(error.to_string().contains("/run/tls/none.crt"));
/// ```
#[derive(Clone)]
pub struct CertificateFiles(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    shown: watch::Sender<Result<ClientCertificate, Error>>,
}

/// The largest of the two files: 64 KiB, many times a chain of certificates or an RSA key.
const LARGEST: usize = 64 << 10;

impl CertificateFiles {
    /// Reads both files, each at most 64 KiB and in the form of [`ClientCertificate::from_pem`].
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured), with the path, when one is
    /// missing, unreadable, no regular file or too large, and as [`ClientCertificate::from_pem`].
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, Error> {
        let (certificate, key) = (certificate.into(), key.into());
        let pair = read_pair(&certificate, &key)?;
        Ok(Self(Arc::new(Files {
            certificate,
            key,
            shown: watch::Sender::new(Ok(pair)),
        })))
    }
}

impl CertificateSource for CertificateFiles {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.0.shown.subscribe()
    }

    fn look_again(&self) {
        let Files {
            certificate,
            key,
            shown,
        } = &*self.0;
        let pair = match read_pair(certificate, key) {
            Ok(pair) => pair,
            Err(error) => {
                report(move || {
                    tracing::warn!(%error, "the client certificate was not read again; it stays as it was");
                });
                return;
            }
        };
        let changed = shown.send_if_modified(|shown| {
            let is_new = !matches!(shown, Ok(shown) if *shown == pair);
            if is_new {
                *shown = Ok(pair);
            }
            is_new
        });
        if changed {
            let path = certificate.clone();
            report(move || {
                tracing::info!(path = %path.display(), "another client certificate is shown from now on");
            });
        }
    }
}

/// The pair, if its halves belong together.
fn read_pair(certificate: &Path, key: &Path) -> Result<ClientCertificate, Error> {
    let chain = read(certificate)?;
    let secret = read(key)?;
    ClientCertificate::from_pem(&chain, &secret).map_err(|error| {
        let both = format!("{}, {}", certificate.display(), key.display());
        let detail = match error.detail() {
            Some(place) => format!("{both}, {place}"),
            None => both,
        };
        error.with_detail(detail)
    })
}

/// A file's bytes, which are wiped when they go.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unfit = |what| misconfigured(what).with_detail(path.display().to_string());
    let failed = |error: io::Error| unfit(why(error.kind()));
    let mut file = regular_file(path).map_err(failed)?;
    // Of its whole size from the start: a buffer that grows leaves copies behind.
    let mut room = Zeroizing::new(vec![0; LARGEST + 1]);
    let mut len = 0;
    while len < room.len() {
        match file.read(room.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if len > LARGEST {
        return Err(unfit(
            "the file of the client certificate or its key is over 64 KiB",
        ));
    }
    room.truncate(len);
    Ok(room)
}

fn why(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "there is no such file of a client certificate or its key",
        io::ErrorKind::PermissionDenied => {
            "this user may not read the file of the client certificate or its key; check its mode and its folders"
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
            "the file of the client certificate or its key is not a regular file"
        }
        _ => "the file of the client certificate or its key cannot be read",
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles")
            .field("certificate", &self.0.certificate)
            .field("key", &self.0.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secret_resolver::ErrorKind;
    use test_servers::{TestCa, Validity};

    #[test]
    fn what_is_no_file_of_a_pair_is_told_by_its_path() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let issued = ca.issue_client("client", Validity::CURRENT).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("tls.crt"), &issued.certificate_pem).unwrap();
        std::fs::write(path("tls.key"), &issued.key_pem).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("large"), vec![b'a'; LARGEST + 1]).unwrap();
        // As much as it may have, with the text somewhere in it.
        let filled = format!("{}{}", issued.key_pem, "\n".repeat(LARGEST));
        std::fs::write(path("full"), &filled[..LARGEST]).unwrap();
        CertificateFiles::new(path("tls.crt"), path("full")).unwrap();
        for (name, words) in [
            ("missing", "there is no such file"),
            ("folder", "not a regular file"),
            ("large", "is over 64 KiB"),
        ] {
            for pair in [(name, "tls.key"), ("tls.crt", name)] {
                let error = CertificateFiles::new(path(pair.0), path(pair.1)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Misconfigured);
                let shown = error.to_string();
                let place = path(name).display().to_string();
                assert!(shown.contains(words) && shown.contains(&place), "{shown}");
            }
        }
        // Of what does not fit together, both are named.
        std::fs::write(
            path("other"),
            ca.issue_client("o", Validity::CURRENT).unwrap().key_pem,
        )
        .unwrap();
        let error = CertificateFiles::new(path("tls.crt"), path("other")).unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains("tls.crt") && shown.contains("other"),
            "{shown}"
        );
    }
}
