//! The file that authorities come from, and when it is read again.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use secret_resolver::Error;
use secret_resolver::backend::regular_file;

use super::{Authorities, misconfigured};
use crate::looks::Looks;

/// The largest file of authorities: 1 MiB, several times the whole public set.
pub(super) const LARGEST: u64 = 1 << 20;

pub(super) struct Source {
    path: PathBuf,
    take: fn(&[u8], UnixTime) -> Result<Authorities, Error>,
    pub(super) looks: Looks,
}

impl Source {
    /// How long after it was read it is read again, at the soonest.
    const AGAIN: Duration = Duration::from_secs(60);

    pub(super) fn new(
        path: &Path,
        take: fn(&[u8], UnixTime) -> Result<Authorities, Error>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            take,
            looks: Looks::new(Self::AGAIN),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file.
    pub(super) fn load(&self, now: UnixTime) -> Result<Authorities, Error> {
        (self.take)(&read(&self.path)?, now).map_err(|error| self.located(error))
    }

    /// An error in the file, with its path before the place in it.
    pub(super) fn located(&self, error: Error) -> Error {
        located(&self.path, error)
    }
}

/// The bytes of the file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = || {
        let mut pem = Vec::new();
        let file = regular_file(path)?;
        file.take(LARGEST + 1).read_to_end(&mut pem)?;
        Ok(pem)
    };
    let pem =
        bytes().map_err(|error: std::io::Error| located(path, misconfigured(why(error.kind()))))?;
    match u64::try_from(pem.len()).is_ok_and(|length| length > LARGEST) {
        true => Err(located(
            path,
            misconfigured("the file of certificate authorities is over 1 MiB"),
        )),
        false => Ok(pem),
    }
}

/// Why it cannot be read.
pub(super) fn why(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "there is no such file of certificate authorities",
        ErrorKind::PermissionDenied => {
            "this user may not read the file of certificate authorities; check its mode and its folders"
        }
        ErrorKind::IsADirectory => {
            "the path of the certificate authorities is a directory; name one file in PEM"
        }
        ErrorKind::InvalidInput => {
            "the path of the certificate authorities is a pipe or a device; name one file in PEM"
        }
        _ => "the file of certificate authorities cannot be read",
    }
}

fn located(path: &Path, error: Error) -> Error {
    let path = path.display();
    let detail = match error.detail() {
        Some(place) => format!("{path}, {place}"),
        None => path.to_string(),
    };
    error.with_detail(detail)
}
