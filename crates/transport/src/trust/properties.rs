//! What holds for every text of authorities and for every certificate. `fuzz/` looks for one that breaks
//! this; its seeds are a test here.

use std::time::Duration;

use super::*;

/// For a text; whether it is taken.
pub(crate) fn hold_for_pem(text: &[u8]) -> bool {
    let found = match pem::certificates(text) {
        Ok(found) => found,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(all(text, NOW).is_err() && valid(text, NOW).is_err());
            return false;
        }
    };
    // No section is passed over, none is read twice, and each is what stands between its marks.
    let begins = places(text, b"-----BEGIN ");
    assert_eq!(found.len(), begins.len());
    assert_eq!(found.len(), places(text, b"-----END ").len());
    for ((number, found), begin) in (1..).zip(&found).zip(begins) {
        let lines = text.iter().take(begin).filter(|&&byte| byte == b'\n');
        assert_eq!((found.section, found.line), (number, 1 + lines.count()));
        let section = text.get(begin..).unwrap_or_default();
        assert_eq!(Some(&found.der), decoded(section).as_ref());
    }
    are_all_taken_or_reported(text, found.len())
}

/// For the bytes of a certificate; whether it is taken.
pub(crate) fn hold_for_certificate(der: &[u8]) -> bool {
    // A server shows it before anybody vouches for it, and an error shows it in a log.
    let shown = subject(der).unwrap_or_default();
    assert!(shown.len() <= 64 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let parsed = Authority::parse(der.to_vec()).ok();
    let dated = Authority::pin(der.to_vec()).is_ok();
    assert!(dated || parsed.is_none());
    let Some(authority) = parsed else {
        return false;
    };
    assert!(authority.anchor.is_some() && authority.der == der);
    has_a_first_and_a_last_second(authority.validity);
    // With a byte more or less it is not a certificate.
    let more = [der, b"\0"].concat();
    assert!(Authority::pin(more.clone()).is_err() && Authority::parse(more).is_err());
    let less = der.split_last().map(|(_, less)| less.to_vec());
    assert!(less.is_none_or(|less| Authority::pin(less).is_err()));
    // Written as a text it is the same.
    let text = pem_of(der);
    let found = pem::certificates(text.as_bytes()).map(|found| {
        let ders = found.into_iter().map(|found| found.der);
        ders.collect::<Vec<_>>()
    });
    assert_eq!(found.ok(), Some(vec![der.to_vec()]));
    hold_for_pem(text.as_bytes());
    true
}

/// 2026-01-01.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

/// One way takes all that are there, or none; the other takes the valid ones and reports the rest.
fn are_all_taken_or_reported(text: &[u8], number: usize) -> bool {
    let (all, valid) = (all(text, NOW), valid(text, NOW));
    if let Ok((set, left_out)) = &valid {
        let set = set.list();
        assert!(!set.is_empty() && set.len() + left_out.len() == number);
    }
    if let Ok(all) = &all {
        let all = all.list();
        assert_eq!(all.len(), number);
        assert!(all.iter().all(|one| one.validity.contains(NOW)));
    }
    let left_out = valid.map(|(_, left_out)| left_out.len()).ok();
    assert_eq!(all.is_ok(), left_out == Some(0));
    all.is_ok()
}

fn has_a_first_and_a_last_second(validity: Validity) {
    let (from, until) = validity.bounds();
    let holds = |second: Option<u64>| {
        second.is_some_and(|second| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(second));
            assert_eq!(validity.contains(at), validity.check(at).is_ok());
            validity.contains(at)
        })
    };
    let is_ever = from <= until;
    assert_eq!((holds(Some(from)), holds(Some(until))), (is_ever, is_ever));
    assert!(!holds(from.checked_sub(1)) && !holds(until.checked_add(1)));
}

fn places(text: &[u8], what: &[u8]) -> Vec<usize> {
    let windows = text.windows(what.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == what);
    found.map(|(place, _)| place).collect()
}

/// What stands between the marks of the section that this text begins with, by a decoder of our own.
fn decoded(section: &[u8]) -> Option<Vec<u8>> {
    let begin = places(section, b"CERTIFICATE-----").first()? + 16;
    let end = *places(section, b"-----END ").first()?;
    let label = section.get(11..begin)?;
    if !section.get(end + 9..)?.starts_with(label) {
        return None;
    }
    let (mut bits, mut width, mut bytes) = (0_u32, 0, Vec::new());
    for byte in section.get(begin..end)? {
        if matches!(byte, b'\t'..=b'\r' | b' ' | b'=') {
            continue;
        }
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        width += 6;
        if width >= 8 {
            width -= 8;
            bytes.push(u8::try_from(bits >> width & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// A certificate as the one section of a text.
fn pem_of(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for three in der.chunks(3) {
        let bits = three
            .iter()
            .zip([16, 8, 0])
            .fold(0, |bits, (byte, at)| bits | usize::from(*byte) << at);
        for letter in 0..4 {
            text.push(match letter <= three.len() {
                true => char::from(ALPHABET[bits >> (18 - 6 * letter) & 63]),
                false => '=',
            });
        }
    }
    text + "\n-----END CERTIFICATE-----\n"
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_texts_and_certificates() {
    test_servers::try_seeds("pem", hold_for_pem);
    test_servers::try_seeds("certificate", hold_for_certificate);
}
