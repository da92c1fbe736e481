//! As much of DER as it takes to find a client's names in its certificate, and the two numbers in an RSA public key. What TLS has
//! accepted is well formed; of anything else nothing is found.

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
/// The wrapper of a certificate's version.
const VERSION: u8 = 0xa0;
/// The wrapper of a certificate's extensions.
const EXTENSIONS: u8 = 0xa3;
/// A URI among a certificate's names.
const URI: u8 = 0x86;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The items that stand one after another: their tags and contents.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            _ => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let add =
                    |sum: usize, digit: &u8| sum.checked_mul(256)?.checked_add((*digit).into());
                (digits.iter().try_fold(0, add)?, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// The whole numbers of a sequence, big-endian and without a sign.
pub(crate) struct Integers<'a>(Items<'a>);

impl<'a> Integers<'a> {
    pub(crate) fn of(sequence: &'a [u8]) -> Option<Self> {
        let (_, content) = Items(sequence).find(|(tag, _)| *tag == SEQUENCE)?;
        Some(Self(Items(content)))
    }

    /// Those of the RSA key in a `SubjectPublicKeyInfo`.
    pub(crate) fn of_rsa_in(key: &'a [u8]) -> Option<Self> {
        let (_, parts) = Items(key).next()?;
        let mut parts = Items(parts);
        let (_, algorithm) = parts.next()?;
        let is_rsa = Items(algorithm).next()? == (OBJECT_ID, RSA);
        let (_, bits) = parts.next().filter(|_| is_rsa)?;
        // Before the key's own sequence stands how many bits of the last byte are not used: none.
        Self::of(bits.strip_prefix(&[0])?)
    }
}

impl<'a> Iterator for Integers<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (_, digits) = self.0.find(|(tag, _)| *tag == INTEGER)?;
        Some(digits.strip_prefix(&[0]).unwrap_or(digits))
    }
}

/// The subject's common name.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    // After the version: serial number, algorithm, issuer, validity, subject.
    let (_, subject) = parts(certificate)?
        .filter(|(tag, _)| *tag != VERSION)
        .nth(4)?;
    Items(subject)
        .flat_map(|(_, set)| Items(set))
        .find_map(|(_, pair)| {
            let mut pair = Items(pair);
            let named = pair.next()? == (OBJECT_ID, COMMON_NAME);
            let (_, value) = pair.next().filter(|_| named)?;
            String::from_utf8(value.to_vec()).ok()
        })
}

/// The URIs among the subject's other names.
pub(crate) fn uris(certificate: &[u8]) -> Vec<String> {
    let extensions = parts(certificate)
        .and_then(|mut parts| parts.find(|(tag, _)| *tag == EXTENSIONS))
        .and_then(|(_, wrapped)| Items(wrapped).next());
    let Some((_, extensions)) = extensions else {
        return Vec::new();
    };
    let names = Items(extensions).find_map(|(_, extension)| {
        let mut items = Items(extension).filter(|(tag, _)| *tag != BOOLEAN);
        let named = items.next()? == (OBJECT_ID, SUBJECT_ALT_NAME);
        let (_, octets) = items.next().filter(|_| named)?;
        Items(octets).next()
    });
    let names = names.map_or(Items(&[]), |(_, names)| Items(names));
    names
        .filter(|(tag, _)| *tag == URI)
        .filter_map(|(_, uri)| String::from_utf8(uri.to_vec()).ok())
        .collect()
}

fn parts(certificate: &[u8]) -> Option<Items<'_>> {
    let (_, signed) = Items(certificate).next()?;
    let (_, parts) = Items(signed).next()?;
    Some(Items(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClientCa;

    #[test]
    fn the_names_of_a_client_are_found_in_its_certificate() {
        let ca = ClientCa::new().unwrap();
        let both = ca
            .issue(Some("vm-01"), &["spiffe://a/b", "spiffe://c"])
            .unwrap();
        assert_eq!(common_name(&both.der).as_deref(), Some("vm-01"));
        assert_eq!(uris(&both.der), ["spiffe://a/b", "spiffe://c"]);
        let neither = ca.issue(None, &[]).unwrap();
        assert_eq!(
            (common_name(&neither.der), uris(&neither.der).len()),
            (None, 0)
        );
        assert_eq!((common_name(b"\x30\x84"), uris(b"").len()), (None, 0));
    }
}
