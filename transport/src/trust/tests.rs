//! Which files of authorities are taken, and until when.

use std::time::Duration;

use test_servers::{TestCa, Validity as Dates};

use super::*;

const DAY: u64 = 86_400;
/// 2020-01-01 and 2021-01-01, between which `Dates::EXPIRED` is good.
const FROM: u64 = 18_262 * DAY;
const UNTIL: u64 = 18_628 * DAY;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn pem(validity: Dates) -> String {
    TestCa::new(validity).unwrap().pem().to_owned()
}

fn refused(pem: impl AsRef<[u8]>, reason: &str) {
    let error = Trust::from_pem(pem.as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn an_authority_is_good_from_its_first_second_to_its_last() {
    let pem = pem(Dates::EXPIRED);
    for (now, good) in [
        (FROM - 1, false),
        (FROM, true),
        (UNTIL, true),
        (UNTIL + 1, false),
    ] {
        assert_eq!(
            Trust::from_pem_at(pem.as_bytes(), at(now)).is_ok(),
            good,
            "{now}"
        );
    }
}

#[test]
fn an_authority_out_of_its_dates_is_refused_at_load() {
    refused(pem(Dates::EXPIRED), "is expired");
    refused(pem(Dates::FUTURE), "not valid yet");
    // One bad one among good ones is not passed over: its owner should know.
    refused(pem(Dates::CURRENT) + &pem(Dates::EXPIRED), "is expired");
}

#[test]
fn dates_after_2049_are_read_in_their_other_form() {
    let far = pem(Dates {
        from: (2020, 1, 1),
        until: (2199, 1, 1),
    });
    assert!(Trust::from_pem(far.as_bytes()).is_ok());
    let both = pem(Dates {
        from: (2050, 1, 1),
        until: (2051, 1, 1),
    });
    refused(both, "not valid yet");
}

#[test]
fn an_authority_that_expires_later_is_dropped_from_the_set_then() {
    let both = pem(Dates::EXPIRED) + &pem(Dates::CURRENT);
    let trust = Trust::from_pem_at(both.as_bytes(), at(FROM)).unwrap();
    assert_eq!(trust.at(at(UNTIL)).roots.len(), 2);
    assert_eq!(trust.at(at(UNTIL + 1)).roots.len(), 1);
    assert_eq!(trust.at(at(200 * 365 * DAY)).roots.len(), 0);
}

#[test]
fn what_is_no_certificate_is_refused() {
    let good = pem(Dates::CURRENT);
    let key = TestCa::new(Dates::CURRENT)
        .unwrap()
        .issue(&["x"], Dates::CURRENT)
        .unwrap()
        .key_pem;
    let section =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    refused("", "no PEM certificate");
    refused("canary, not PEM at all\n", "no PEM certificate");
    refused([0xff, 0xfe, 0, 1], "no PEM certificate");
    refused(&key, "other than a certificate");
    refused(good.clone() + &key, "other than a certificate");
    refused(section(""), "does not parse");
    refused(section("Y2FuYXJ5"), "does not parse");
    refused(section("!!!! not base64 !!!!"), "damaged");
    refused("-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n", "damaged");
    refused(good.clone() + &section("Y2FuYXJ5"), "does not parse");
}

#[test]
fn a_certificate_cut_or_changed_anywhere_is_an_error_and_never_a_panic() {
    let pem = pem(Dates::CURRENT);
    let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).unwrap();
    for end in 0..der.len() {
        assert!(Authority::parse(der[..end].to_vec()).is_err(), "{end}");
    }
    for place in 0..der.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[place] ^= flip;
            // It may still parse (a changed key is a key): it must only return.
            let _ = Authority::parse(changed);
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let large = [b'#'].repeat(usize::try_from(LARGEST).unwrap() + 1);
    let bad = [
        (folder.path().join("missing.pem"), "cannot be read"),
        (folder.path().to_owned(), "cannot be read"),
        (file("empty.pem", b""), "no PEM certificate"),
        (file("text.pem", b"canary"), "no PEM certificate"),
        (file("large.pem", &large), "over 1 MiB"),
        (
            file("old.pem", pem(Dates::EXPIRED).as_bytes()),
            "is expired",
        ),
    ];
    for (path, reason) in bad {
        let error = Trust::from_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let text = error.to_string();
        assert!(
            text.contains(reason) && text.contains(&*path.to_string_lossy()),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
    }
    let good = file("ca.pem", pem(Dates::CURRENT).as_bytes());
    let trust = Trust::from_file(good).unwrap();
    assert_eq!(format!("{trust:?}"), "Trust { authorities: 1, .. }");
}
