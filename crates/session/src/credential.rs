//! Where a credential comes from: given in code, or in a file that is read again at each login.
//!
//! Knows nothing of logins. What is loaded stands only in buffers that are wiped.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secret_resolver::backend::regular_file;
use secret_resolver::{Error, SecretBuf};
use tokio::sync::Semaphore;

use crate::error;

/// A role id, secret id or token, or the file that holds it.
///
/// `Debug` shows the file's path, never a value.
///
/// ```
/// use secret_resolver::SecretBuf;
/// use secret_resolver_session::Credential;
///
/// let role_id = Credential::value(SecretBuf::from_slice(b"2caefc0d-d83c")?);
/// let secret_id = Credential::file("/run/secrets/secret-id");
/// assert_eq!(format!("{role_id:?}"), "Credential(value)");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone)]
pub struct Credential(Source);

#[derive(Clone)]
enum Source {
    Value(Arc<SecretBuf>),
    File(Arc<InFile>),
}

struct InFile {
    path: PathBuf,
    /// Of reads that hang there are few, however many logins were given up.
    reads: Arc<Semaphore>,
}

impl Credential {
    /// The largest file that is read as a credential, in bytes.
    pub const MAX_FILE: usize = 16 << 10;

    /// How many reads of one file may be under way. More than one: its path may be good again while an older read hangs.
    const READS: usize = 4;

    /// A credential that never changes. It stays in memory as long as the backend does.
    #[must_use]
    pub fn value(value: SecretBuf) -> Self {
        Self(Source::Value(Arc::new(value)))
    }

    /// As [`Credential::value`], with a copy of this text. Yours is not wiped.
    ///
    /// # Errors
    /// As [`SecretBuf::from_slice`].
    pub fn text(text: &str) -> Result<Self, Error> {
        SecretBuf::from_slice(text.as_bytes()).map(Self::value)
    }

    /// A regular file, read again at each login; one line ending at its end is cut off. At most
    /// [`Credential::MAX_FILE`] bytes of UTF-8.
    ///
    /// It need not exist before the first login. A login while it is missing, empty or unreadable fails
    /// with [`ErrorKind::Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated), which
    /// `Resolver::require_within` waits for, and the next request looks again. A file that can never be a
    /// credential is [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured).
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(Arc::new(InFile {
            path: path.into(),
            reads: Arc::new(Semaphore::new(Credential::READS)),
        })))
    }

    /// Refuses a value that no login could use.
    ///
    /// # Errors
    /// `Misconfigured` when it is empty, is not UTF-8, begins or ends with a blank, or has a line end or another control
    /// character. A file is not looked at.
    pub fn check(&self) -> Result<(), Error> {
        let Some(value) = self.given() else {
            return Ok(());
        };
        // It never changes, so what is wrong with it is final.
        let Ok(text) = std::str::from_utf8(value.expose()) else {
            return Err(error::misconfigured(NOT_TEXT));
        };
        let blank = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
        Err(error::misconfigured(if text.is_empty() {
            "the credential is empty"
        } else if blank || text.chars().any(char::is_control) {
            "the credential has a blank or a line end before or after it, or a control character"
        } else {
            return Ok(());
        }))
    }

    /// The value, where it is not in a file.
    #[must_use]
    pub fn given(&self) -> Option<&SecretBuf> {
        match &self.0 {
            Source::Value(value) => Some(value),
            Source::File(_) => None,
        }
    }

    /// An error of this credential, with the path of its file if it has one.
    #[must_use]
    pub fn located(&self, error: Error) -> Error {
        match &self.0 {
            Source::Value(_) => error,
            Source::File(file) => error::in_file(error, &file.path),
        }
    }

    /// The credential as it is now. A file is read on one of the runtime's threads for blocking work, so that a slow disk holds up
    /// nobody else. Four reads of one file may be under way; where these hang, others wait.
    ///
    /// # Errors
    /// As [`Credential::file`] says.
    ///
    /// # Cancel safety
    /// The read goes on and its result is wiped.
    pub async fn load(&self) -> Result<Arc<SecretBuf>, Error> {
        match &self.0 {
            Source::Value(value) => Ok(Arc::clone(value)),
            Source::File(file) => {
                let abandoned = |_| error::login_abandoned();
                let reads = Arc::clone(&file.reads).acquire_owned();
                let permit = reads.await.map_err(|_| error::login_abandoned())?;
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    read_file(&file.path)
                });
                read.await.map_err(abandoned)?.map(Arc::new)
            }
        }
    }
}

const NOT_TEXT: &str = "the credential is not UTF-8 text";

fn read_file(path: &Path) -> Result<SecretBuf, Error> {
    let failed = |error: &io::Error| error::of_file(error, path);
    let unfit = |what| error::in_file(error::misconfigured(what), path);
    let mut file = regular_file(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
            unfit("the credential's file is not a regular file")
        }
        _ => failed(&error),
    })?;
    let mut room = zeroize::Zeroizing::new([0; Credential::MAX_FILE + 1]);
    let mut len = 0;
    while len < room.len() {
        match file.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    if len > Credential::MAX_FILE {
        return Err(unfit("the credential's file is larger than 16 KiB"));
    }
    let content = &room[..len];
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let buf = SecretBuf::from_slice(line.strip_suffix(b"\r").unwrap_or(line))?;
    usable(&buf).map_err(|error| error::in_file(error, path))?;
    Ok(buf)
}

fn usable(value: &SecretBuf) -> Result<(), Error> {
    if value.is_empty() {
        // A file that is being rewritten is empty for a moment, so this is not final.
        return Err(error::unauthenticated("the credential is empty").held_back());
    }
    if std::str::from_utf8(value.expose()).is_err() {
        return Err(error::misconfigured(NOT_TEXT));
    }
    Ok(())
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Value(_) => f.write_str("Credential(value)"),
            Source::File(file) => write!(f, "Credential(file {})", file.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use secret_resolver::ErrorKind;

    fn read(content: &[u8]) -> Result<Vec<u8>, ErrorKind> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret-id");
        std::fs::write(&path, content).unwrap();
        read_file(&path)
            .map(|buf| buf.expose().to_vec())
            .map_err(|error| error.kind())
    }

    #[test]
    fn one_line_ending_is_cut_off_and_nothing_else() {
        for (content, value) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("a\nb\n", "a\nb"),
        ] {
            assert_eq!(read(content.as_bytes()), Ok(value.into()), "{content:?}");
        }
    }

    #[test]
    fn a_value_that_no_login_could_use_is_misconfigured() {
        let check = |value: &[u8]| {
            let value = Credential::value(SecretBuf::from_slice(value).unwrap());
            value.check().map_err(|error| error.to_string())
        };
        for good in ["a", "two words", "é"] {
            assert_eq!(check(good.as_bytes()), Ok(()));
            assert!(Credential::text(good).unwrap().check().is_ok());
        }
        for (bad, part) in [
            (&b""[..], "is empty"),
            (b" ", "a blank"),
            (b"tok\n", "a line end"),
            (b"\ttok", "a blank"),
            (b"to\0k", "a control character"),
            ("tok\u{a0}".as_bytes(), "a blank"),
            (b"\xff", "not UTF-8"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(
                error.contains("misconfigured") && error.contains(part),
                "{error}"
            );
            assert!(!error.contains("file"), "{error}");
        }
        assert!(Credential::file("no/such").check().is_ok());
    }

    #[test]
    fn empty_binary_and_oversized_files_are_not_credentials() {
        assert_eq!(read(b""), Err(ErrorKind::Unauthenticated));
        assert_eq!(read(b"\n"), Err(ErrorKind::Unauthenticated));
        assert_eq!(read(b"\xff"), Err(ErrorKind::Misconfigured));
        assert_eq!(
            read(&[b'a'; Credential::MAX_FILE]).map(|value| value.len()),
            Ok(Credential::MAX_FILE)
        );
        assert_eq!(
            read(&[b'a'; Credential::MAX_FILE + 1]),
            Err(ErrorKind::Misconfigured)
        );
    }

    #[test]
    fn of_reads_that_hang_there_are_few() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-id");
        std::fs::write(&path, "a").unwrap();
        let credential = Credential::file(path);
        let Source::File(file) = &credential.0 else {
            panic!("no file");
        };
        // As reads hold them while their disk hangs.
        let hang = file.reads.try_acquire_many(4).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        runtime.block_on(async {
            for _ in 0..40 {
                let given_up = tokio::time::timeout(Duration::from_millis(1), credential.load());
                assert!(given_up.await.is_err());
            }
            drop(hang);
            assert_eq!(credential.load().await.unwrap().expose(), b"a");
        });
    }

    #[test]
    fn a_missing_file_and_a_directory_are_reported_by_their_path() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read_file(&directory.path().join("missing-id")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Unauthenticated);
        assert!(missing.to_string().contains("missing-id"));
        assert_eq!(
            read_file(directory.path()).unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
}
