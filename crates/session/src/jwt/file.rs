//! A file that holds a JWT and is read again at each login: somebody else writes it, such as the kubelet.

use std::fmt;
use std::path::PathBuf;

use crate::credential::Credential;
use crate::jwt::{Jwt, JwtFuture, JwtSource};

/// A file with one JWT, read again at each login, as [`Credential::file`] reads one: a regular file of at most
/// 16 KiB, of which one line ending is cut off. The JWT's end is not known.
///
/// # Errors
/// Of a login, with the path: [`Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated) while the file is
/// missing, empty or unreadable, which the next login looks at again;
/// [`Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when it is no file, too large or holds something
/// other than a JWT.
///
/// ```
/// use secret_resolver_session::JwtFile;
///
/// let file = JwtFile::new("/run/tokens/store.jwt");
/// assert_eq!(format!("{file:?}"), "JwtFile(/run/tokens/store.jwt)");
/// ```
#[derive(Clone)]
pub struct JwtFile {
    path: PathBuf,
    content: Credential,
}

impl JwtFile {
    /// Where Kubernetes mounts the token of a pod's service account, unless the pod says otherwise.
    pub const SERVICE_ACCOUNT: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

    /// The file at this path. It need not exist before the first login.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            content: Credential::file(path.clone()),
            path,
        }
    }

    /// The token of the pod's service account, at [`JwtFile::SERVICE_ACCOUNT`]. The kubelet replaces it before it
    /// ends.
    #[must_use]
    pub fn service_account() -> Self {
        Self::new(Self::SERVICE_ACCOUNT)
    }
}

impl JwtSource for JwtFile {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::new(async {
            let text = self.content.load().await?;
            Jwt::new(text).map_err(|error| self.content.located(error))
        })
    }
}

impl fmt::Debug for JwtFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtFile({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secret_resolver::{Error, ErrorKind};

    fn read(content: Option<&str>) -> Result<Vec<u8>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.jwt");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let jwt = runtime.block_on(JwtFile::new(path).jwt())?;
        Ok(jwt.secret().expose().to_vec())
    }

    #[test]
    fn a_file_of_a_jwt_is_read_without_its_line_ending() {
        for content in ["ab.cd.ef", "ab.cd.ef\n", "ab.cd.ef\r\n"] {
            assert_eq!(read(Some(content)).unwrap(), b"ab.cd.ef");
        }
    }

    #[test]
    fn a_file_without_a_jwt_is_named_and_not_quoted() {
        for (content, kind) in [
            (None, ErrorKind::Unauthenticated),
            (Some(""), ErrorKind::Unauthenticated),
            (Some("canary-7f3a"), ErrorKind::Misconfigured),
            (Some("ab.cd.canary-7f3a\n\n"), ErrorKind::Misconfigured),
            (
                Some("{\"token\":\"canary-7f3a\"}"),
                ErrorKind::Misconfigured,
            ),
        ] {
            let error = read(content).unwrap_err();
            assert_eq!(error.kind(), kind, "{content:?}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("store.jwt"), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
