//! Which certificates to believe: those of the authorities that were given, and no others.
//!
//! `authorities` parses and dates them; here is where they come from, and when their file is read again. The system's own set is read
//! only by its name; what the set is used for, and the second look at the dates at each handshake, is `tls.rs`.

mod authorities;
mod paths;
pub(crate) mod pem;
mod server;
mod source;
mod subject;
mod validity;

pub use authorities::Authorities;
pub use server::ServerIdentity;
pub(crate) use subject::subject;
pub(crate) use validity::Validity;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{TrustAnchor, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use secret_resolver::backend::report;
use secret_resolver::{Error, ErrorKind, Moment};
use tokio::sync::watch;

use self::authorities::Authority;
use self::pem::Found;
use self::source::{Source, read};
use crate::looks::Look;

/// The given set of certificate authorities and nothing else. A clone shares it.
///
/// A certificate is good from its first second to its last: the dates of an authority are checked
/// when it is loaded and again at each handshake, because it may expire while the process runs.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::Trust;
///
/// let error = Trust::from_pem(b"not a certificate").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// ```
#[derive(Clone)]
pub struct Trust(Arc<Inner>);

struct Inner {
    held: watch::Receiver<Held>,
    from: From,
}

/// The set that is believed now, or why there is none.
type Held = Result<Authorities, Error>;

/// Where a set comes from, and so whether it changes.
enum From {
    Given,
    /// Is read again.
    File(Source, watch::Sender<Held>),
    Identity(Arc<dyn ServerIdentity>),
}

/// An authority, for those that explain a verdict.
pub(crate) struct Given {
    pub(crate) anchor: TrustAnchor<'static>,
    pub(crate) validity: Validity,
    pub(crate) subject: Option<String>,
}

/// A certificate that [`Trust::valid_in_file`] has skipped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeftOut {
    /// The line at which its section begins, counted from 1.
    pub line: usize,
    /// Why.
    pub reason: Error,
}

impl Trust {
    /// Reads PEM text: one `CERTIFICATE` section or more, all of them authorities (or servers
    /// that signed themselves). Text between the sections is skipped; no section is.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when there is no certificate, when there is a section of
    /// another kind (a private key has no business here), and when any of the certificates does
    /// not parse, is expired or is not yet valid. The section is named.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::from_pem_at(pem, now()?)
    }

    /// Reads a file as [`Trust::from_pem`] reads text. It is read again while requests are sent, at most
    /// once a minute, and when a server shows a certificate that no authority vouches for. So a new
    /// authority needs no restart, and connections that were made with other authorities are closed: idle ones at
    /// once, busy ones when their request has ended. A file that cannot be used is logged at WARN, and the authorities stay
    /// as they were.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when the file is missing, cannot be read or is over 1 MiB, and
    /// as [`Trust::from_pem`]; with the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let source = Source::new(path.as_ref(), all);
        let set = source.load(now()?)?;
        Ok(Self::of_file(set, source))
    }

    /// As [`Trust::from_file`], for a bundle that we cannot repair ourselves: takes what is valid now, and says
    /// what it has left out. What is valid is decided again each time the file is read.
    ///
    /// # Errors
    /// As [`Trust::from_file`], but not for a certificate that does not parse or is out of its dates; when
    /// no certificate is left, with how many were left out and why.
    pub fn valid_in_file(path: impl AsRef<Path>) -> Result<(Self, Vec<LeftOut>), Error> {
        let source = Source::new(path.as_ref(), |pem, now| {
            valid(pem, now).map(|(set, _)| set)
        });
        let (set, left_out) =
            valid(&read(source.path())?, now()?).map_err(|error| source.located(error))?;
        Ok((Self::of_file(set, source), left_out))
    }

    /// The system's own bundle of public authorities, where Linux distributions keep it, as
    /// [`Trust::valid_in_file`] reads it.
    ///
    /// # Errors
    /// As [`Trust::valid_in_file`]; when there is no such file.
    ///
    /// # Security
    /// Any of more than a hundred authorities can then vouch for a server that poses as the store, and
    /// so can anyone who may add one to the system's. Give the store's own authority instead.
    pub fn dangerous_system() -> Result<(Self, Vec<LeftOut>), Error> {
        const BUNDLES: [&str; 4] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ];
        let bundle = BUNDLES.into_iter().find(|path| Path::new(path).is_file());
        let bundle =
            bundle.ok_or_else(|| misconfigured("the system has no bundle of authorities"))?;
        report(move || tracing::warn!(bundle, "public certificate authorities are believed"));
        Self::valid_in_file(bundle)
    }

    /// Believes exactly these servers' certificates, no matter who signed them and for which name, within
    /// their dates. For a server whose certificate has signed itself as an authority, as the default of
    /// `openssl req -x509` makes it.
    ///
    /// # Errors
    /// As [`Trust::from_pem`].
    pub fn pinned(pem: &[u8]) -> Result<Self, Error> {
        let now = now()?;
        let pin = |found: Found| Authority::pin(found.der);
        let set = each(pem, now, pin)?;
        Ok(Self::of(set))
    }

    /// Believes the server that an identity names, whatever its host is called, by the authorities that stand for that identity. It is
    /// for a mesh in which servers have identities instead of host names, such as SPIFFE's.
    #[must_use]
    pub fn of_identity(server: impl ServerIdentity) -> Self {
        Self(Arc::new(Inner {
            held: server.subscribe(),
            from: From::Identity(Arc::new(server)),
        }))
    }

    fn from_pem_at(pem: &[u8], now: UnixTime) -> Result<Self, Error> {
        Ok(Self::of(all(pem, now)?))
    }

    fn of(set: Authorities) -> Self {
        let (_, held) = watch::channel(Ok(set));
        let from = From::Given;
        Self(Arc::new(Inner { held, from }))
    }

    fn of_file(set: Authorities, source: Source) -> Self {
        let (sender, held) = watch::channel(Ok(set));
        let from = From::File(source, sender);
        Self(Arc::new(Inner { held, from }))
    }

    fn set(&self) -> Authorities {
        let held = self.0.held.borrow();
        held.as_ref().cloned().unwrap_or_default()
    }

    /// Why nobody is believed now, where it is not for the certificates.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0
            .held
            .borrow()
            .as_ref()
            .map(drop)
            .map_err(Error::clone)
    }

    /// Changes with the set.
    pub(crate) fn number(&self) -> u64 {
        let held = self.0.held.borrow();
        held.as_ref().map_or(0, Authorities::number)
    }

    /// Tells each change of the set.
    pub(crate) fn changes(&self) -> watch::Receiver<Held> {
        self.0.held.clone()
    }

    /// The identity that a server must have instead of its host's name.
    pub(crate) fn server(&self) -> Option<&dyn ServerIdentity> {
        match &self.0.from {
            From::Identity(server) => Some(&**server),
            From::Given | From::File(..) => None,
        }
    }

    /// Those that are good at `now`; maybe none.
    pub(crate) fn at(&self, now: UnixTime) -> RootCertStore {
        let set = self.set();
        let current = set
            .list()
            .iter()
            .filter(|authority| authority.validity.contains(now));
        RootCertStore {
            roots: current
                .filter_map(|authority| authority.anchor.clone())
                .collect(),
        }
    }

    /// All of them, in date or not.
    pub(crate) fn given(&self) -> Vec<Given> {
        let set = self.set();
        let given = set.list().iter().filter_map(|authority| {
            Some(Given {
                anchor: authority.anchor.clone()?,
                validity: authority.validity,
                subject: subject(&authority.der),
            })
        });
        given.collect()
    }

    /// Whether exactly this certificate is believed, and good at `now`.
    pub(crate) fn pins(&self, certificate: &[u8], now: UnixTime) -> bool {
        let set = self.set();
        let mut pins = set.list().iter().filter(|pin| pin.anchor.is_none());
        pins.any(|pin| pin.der == certificate && pin.validity.contains(now))
    }

    /// Whether this certificate is one of the authorities.
    pub(crate) fn is_authority(&self, certificate: &[u8]) -> bool {
        let set = self.set();
        set.list()
            .iter()
            .any(|authority| authority.anchor.is_some() && authority.der == certificate)
    }

    /// Begins to read the file again, if it is time for it; `urgent` after a server that nobody vouches for.
    pub(crate) fn begin_look(&self, now: Moment, urgent: bool) -> Option<Look> {
        match &self.0.from {
            From::File(source, _) => source.looks.begin(now, urgent),
            From::Given | From::Identity(_) => None,
        }
    }

    /// Reads the file again, and returns whether it has other authorities now. Blocks.
    pub(crate) fn read_again(&self) -> bool {
        let From::File(source, sender) = &self.0.from else {
            return false;
        };
        match now().and_then(|now| source.load(now)) {
            Ok(set) => {
                let changed = sender.send_if_modified(|held| {
                    let changed = !matches!(held, Ok(held) if *held == set);
                    if changed {
                        *held = Ok(set);
                    }
                    changed
                });
                if changed {
                    let path = source.path().to_owned();
                    report(move || {
                        tracing::info!(path = %path.display(), "other certificate authorities are believed from now on");
                    });
                }
                changed
            }
            Err(error) => {
                report(move || {
                    tracing::warn!(%error, "the certificate authorities were not read again; they stay as they were");
                });
                false
            }
        }
    }
}

/// Every certificate of a text as an authority.
fn all(pem: &[u8], now: UnixTime) -> Result<Authorities, Error> {
    each(pem, now, |found| Authority::parse(found.der))
}

fn each(
    pem: &[u8],
    now: UnixTime,
    parse: impl Fn(Found) -> Result<Authority, Error>,
) -> Result<Authorities, Error> {
    let set = pem::certificates(pem)?.into_iter().map(|found| {
        let place = place(&found);
        let authority = parse(found).and_then(|authority| {
            authority.validity.check(now)?;
            Ok(authority)
        });
        authority.map_err(|error| error.with_detail(place))
    });
    not_empty(set.collect::<Result<_, _>>()?)
}

/// Where a certificate stands, and whose it is.
fn place(found: &Found) -> String {
    let place = pem::place(found.section, found.line);
    match subject(&found.der) {
        Some(subject) => format!("{place}, subject {subject:?}"),
        None => place,
    }
}

/// The certificates of a text that are valid, and the others.
fn valid(pem: &[u8], now: UnixTime) -> Result<(Authorities, Vec<LeftOut>), Error> {
    let (mut set, mut left_out, mut expired) = (Vec::new(), Vec::new(), 0);
    for found in pem::certificates(pem)? {
        let (line, place) = (found.line, place(&found));
        let left_out_for = |reason: Error| LeftOut {
            line,
            reason: reason.with_detail(place.clone()),
        };
        match Authority::parse(found.der) {
            Ok(authority) => match authority.validity.check(now) {
                Ok(()) => set.push(authority),
                Err(reason) => {
                    expired += usize::from(authority.validity.is_over(now));
                    left_out.push(left_out_for(reason));
                }
            },
            Err(reason) => left_out.push(left_out_for(reason)),
        }
    }
    if set.is_empty() && !left_out.is_empty() {
        return Err(none_is_valid(&left_out, expired));
    }
    Ok((not_empty(set)?, left_out))
}

/// Why nothing is left of a text that has certificates, and where the first of them stands.
fn none_is_valid(left_out: &[LeftOut], expired: usize) -> Error {
    let all = left_out.len();
    let error = misconfigured(match expired == all {
        true => "all of the certificate authorities are expired",
        false => "all of the certificate authorities are out of their dates, or do not parse",
    });
    let first = left_out.first().and_then(|left| left.reason.detail());
    error.with_detail(match first {
        Some(first) if all > 1 => format!("{all} certificates, the first in {first}"),
        first => first.unwrap_or_default().to_owned(),
    })
}

fn not_empty(set: Vec<Authority>) -> Result<Authorities, Error> {
    match set.is_empty() {
        true => Err(misconfigured(
            "there is no PEM certificate among the authorities",
        )),
        false => Ok(Authorities::new(set)),
    }
}

pub(crate) fn now() -> Result<UnixTime, Error> {
    let now = DefaultTimeProvider.current_time();
    now.ok_or_else(|| misconfigured("the system clock stands before 1970; set it"))
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.set().list().len())
            .finish_non_exhaustive()
    }
}

fn misconfigured(reason: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, reason)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
