//! From when until when a certificate is good.
//!
//! The TLS library accepts an authority whatever its dates say (RFC 5280 leaves the choice
//! to the caller), and keeps no dates of it. So they are read here; everything else about the
//! certificate is left to the library.

use std::time::Duration;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};
use rustls::pki_types::UnixTime;
use secret_resolver::{Error, ErrorKind};

/// The first and the last second, counted from 1970.
#[derive(Clone, Copy)]
pub(crate) struct Validity {
    from: Duration,
    until: Duration,
}

impl Validity {
    /// Of a certificate in DER. RFC 5280, 4.1: the fifth field of the signed part, of which the
    /// first is often left out.
    pub(crate) fn of(certificate: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(certificate)?;
        let validity = reader.sequence(|certificate| {
            let validity = certificate.sequence(|signed| {
                let version = Tag::ContextSpecific {
                    constructed: true,
                    number: TagNumber(0),
                };
                if Tag::peek(signed)? == version {
                    AnyRef::decode(signed)?;
                }
                let _serial_algorithm_issuer = (
                    AnyRef::decode(signed)?,
                    AnyRef::decode(signed)?,
                    AnyRef::decode(signed)?,
                );
                let validity = signed.sequence(|dates| {
                    Ok::<_, der::Error>(Self {
                        from: time(dates)?,
                        until: time(dates)?,
                    })
                })?;
                skip_rest(signed)?;
                Ok::<_, der::Error>(validity)
            })?;
            skip_rest(certificate)?;
            Ok::<_, der::Error>(validity)
        })?;
        reader.finish()?;
        Ok(validity)
    }

    /// The last second.
    pub(crate) fn until(self) -> Duration {
        self.until
    }

    /// The first and the last second.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bounds(self) -> (u64, u64) {
        (self.from.as_secs(), self.until.as_secs())
    }

    pub(crate) fn contains(self, now: UnixTime) -> bool {
        (self.from.as_secs()..=self.until.as_secs()).contains(&now.as_secs())
    }

    pub(crate) fn begins_after(self, now: UnixTime) -> bool {
        now.as_secs() < self.from.as_secs()
    }

    /// Whether its last second has passed.
    pub(super) fn is_over(self, now: UnixTime) -> bool {
        self.until.as_secs() < now.as_secs()
    }

    pub(super) fn check(self, now: UnixTime) -> Result<(), Error> {
        if self.contains(now) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Misconfigured,
            if self.begins_after(now) {
                "a certificate authority is not valid yet; check the system clock too"
            } else {
                "a certificate authority is expired"
            },
        ))
    }
}

/// RFC 5280, 4.1.2.5: one form until 2049, the other from 2050.
fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<Duration> {
    if Tag::peek(reader)? == Tag::UtcTime {
        UtcTime::decode(reader).map(|time| time.to_unix_duration())
    } else {
        GeneralizedTime::decode(reader).map(|time| time.to_unix_duration())
    }
}

fn skip_rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    let rest = reader.remaining_len();
    reader.read_slice(rest).map(|_| ())
}
