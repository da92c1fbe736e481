//! Which files of authorities are taken, and until when.

use std::time::Duration;

use rustls::pki_types::pem::{PemObject, SectionKind};
use test_servers::{TestCa, Validity as Dates};

use super::source::LARGEST;
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
fn each_of_several_authorities_is_one_and_neither_a_stranger_nor_a_pin_is() {
    let all = [(); 3].map(|()| pem(Dates::CURRENT));
    let der = |pem: &String| {
        <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes())
            .unwrap()
            .1
    };
    let trust = Trust::from_pem((all[0].clone() + &all[1]).as_bytes()).unwrap();
    assert!(trust.is_authority(&der(&all[0])) && trust.is_authority(&der(&all[1])));
    assert!(!trust.is_authority(&der(&all[2])));
    let pinned = Trust::pinned(all[0].as_bytes()).unwrap();
    assert!(!pinned.is_authority(&der(&all[0])));
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
fn what_is_not_a_certificate_is_refused() {
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
        (folder.path().join("missing.pem"), "there is no such file"),
        (folder.path().to_owned(), "is a directory"),
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

fn authorities(pem: impl AsRef<[u8]>) -> usize {
    Trust::from_pem(pem.as_ref()).unwrap().set().list().len()
}

#[test]
fn no_section_of_a_file_is_passed_over() {
    let (one, two) = (pem(Dates::CURRENT), pem(Dates::CURRENT));
    let both = || one.clone() + &two;
    // A byte order mark, glued sections, some that share their dashes, other line ends, blanks around them, the older name.
    for text in [
        both(),
        format!("\u{feff}{}", both()),
        one.trim_end().to_owned() + &two,
        one.trim_end().to_owned() + two.trim_start_matches('-'),
        both().replace('\n', "\r\n"),
        both().replace('\n', "\n  "),
        format!("# the first\n{one}\n\n# the second\n\t{two}# the end"),
        both().replace(" CERTIFICATE-", " X509 CERTIFICATE-"),
    ] {
        assert_eq!(authorities(&text), 2, "{text}");
    }
    let mut latin = b"# Z\xfcrich\n".to_vec();
    latin.extend_from_slice(both().as_bytes());
    assert_eq!(authorities(latin), 2);
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(both().encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    refused(utf16, "save it as UTF-8");
    for (label, reason) in [
        ("TRUSTED CERTIFICATE", "openssl x509"),
        ("OPENSSH PRIVATE KEY", "private key has no business"),
        ("ENCRYPTED PRIVATE KEY", "private key has no business"),
        ("RSA PRIVATE KEY", "private key has no business"),
        ("PUBLIC KEY", "other than a certificate"),
        ("X509 CRL", "other than a certificate"),
        ("CERTIFICATE REQUEST", "other than a certificate"),
        ("PKCS7", "other than a certificate"),
        ("", "other than a certificate"),
    ] {
        let other = format!("-----BEGIN {label}-----\nY2FuYXJ5\n-----END {label}-----\n");
        for text in [other.clone() + &one, one.clone() + &other, other] {
            refused(text, reason);
        }
    }
}

#[test]
fn a_section_without_its_end_is_damaged_wherever_it_stands() {
    let (one, two) = (pem(Dates::CURRENT), pem(Dates::CURRENT));
    let end = "-----END CERTIFICATE-----\n";
    for text in [
        one.replace(end, "") + &two,
        one.clone() + &two.replace(end, ""),
        one.clone() + end,
        end.to_owned() + &one,
        one.clone() + "-----BEGIN ",
        one.clone() + "-----BEGIN CERTIFICATE",
        one.replace(end, "-----END X509 CERTIFICATE-----\n"),
        // The older name, with an end of the other inside: what follows that would not be read.
        one.replace("BEGIN CERT", "BEGIN X509 CERT") + "Y2FuYXJ5\n-----END X509 CERTIFICATE-----\n",
        // A mark that shares its dashes with the one before.
        one.replace(
            "BEGIN CERTIFICATE-----",
            "BEGIN CERTIFICATE-----BEGIN CERTIFICATE",
        ),
        one.clone() + one.trim_end() + "END CERTIFICATE-----\n",
    ] {
        refused(text, "damaged");
    }
}

#[test]
fn an_error_names_the_section_and_its_line() {
    let text = format!("# one\n{}{}", pem(Dates::CURRENT), pem(Dates::EXPIRED));
    let line = 1 + text[..text.rfind("-----BEGIN").unwrap()]
        .matches('\n')
        .count();
    let error = Trust::from_pem(text.as_bytes()).unwrap_err();
    let place = format!("section 2, at line {line}, subject \"Test CA\"");
    assert_eq!(error.detail(), Some(&*place));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, text).unwrap();
    let error = Trust::from_file(&path).unwrap_err();
    let detail = format!("{}, {place}", path.display());
    assert_eq!(error.detail(), Some(&*detail));
}

#[test]
fn what_is_valid_is_taken_where_that_is_asked_for_and_the_rest_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.pem");
    let text = [Dates::EXPIRED, Dates::CURRENT, Dates::FUTURE]
        .map(pem)
        .concat()
        + "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, text).unwrap();
    assert!(Trust::from_file(&path).is_err());
    let (trust, left_out) = Trust::valid_in_file(&path).unwrap();
    assert_eq!((trust.set().list().len(), left_out.len()), (1, 3));
    let reasons: Vec<_> = left_out
        .iter()
        .map(|left| left.reason.to_string())
        .collect();
    for (reason, part) in reasons
        .iter()
        .zip(["is expired", "not valid yet", "does not parse"])
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert!(left_out.is_sorted_by_key(|left| left.line));
    // A section that is not a certificate still does not belong in such a file.
    std::fs::write(
        &path,
        pem(Dates::CURRENT) + "-----BEGIN X-----\n-----END X-----\n",
    )
    .unwrap();
    assert!(Trust::valid_in_file(&path).is_err());
    std::fs::write(&path, pem(Dates::EXPIRED)).unwrap();
    let error = Trust::valid_in_file(&path).unwrap_err();
    assert!(error.to_string().contains("bundle.pem"), "{error}");
}

#[test]
fn a_bundle_of_which_nothing_is_valid_says_why_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
    for (text, parts) in [
        (
            pem(Dates::EXPIRED),
            [
                "authorities are expired",
                "bundle.pem, section 1, at line 1",
            ],
        ),
        (
            pem(Dates::EXPIRED).repeat(2),
            [
                "authorities are expired",
                "2 certificates, the first in section 1",
            ],
        ),
        (pem(Dates::FUTURE), ["out of their dates", "Test CA"]),
        (
            pem(Dates::EXPIRED) + broken,
            ["or do not parse", "2 certificates"],
        ),
        (String::new(), ["there is no PEM certificate", "bundle.pem"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Trust::valid_in_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let shown = error.to_string();
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
    }
}

fn is_due(trust: &Trust, now: Moment, urgent: bool) -> bool {
    trust.begin_look(now, urgent).is_some()
}

#[test]
fn a_file_is_due_once_a_minute_and_once_a_second_when_nobody_vouches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, pem(Dates::CURRENT)).unwrap();
    let trust = Trust::from_file(&path).unwrap();
    let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
    assert!(!is_due(&trust, at(0), false));
    assert!(!is_due(&trust, at(59), false) && is_due(&trust, at(60), false));
    assert!(!is_due(&trust, at(61), false) && is_due(&trust, at(61), true));
    assert!(!is_due(&trust, at(61), true) && is_due(&trust, at(62), true));
    assert!(!is_due(&trust, at(121), false) && is_due(&trust, at(122), false));
    // One that hangs is the only one, and is not taken for one that has ended.
    let hangs = trust.begin_look(at(200), true);
    assert!(hangs.is_some() && !is_due(&trust, at(201), true));
    assert!(!is_due(&trust, at(1000), false));
    drop(hangs);
    assert!(is_due(&trust, at(1000), false));
    let text = Trust::from_pem(pem(Dates::CURRENT).as_bytes()).unwrap();
    assert!(!is_due(&text, at(1000), true) && !text.read_again());
}

#[test]
fn a_file_that_cannot_be_used_any_more_leaves_the_authorities_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let (old, new) = (pem(Dates::CURRENT), pem(Dates::CURRENT));
    std::fs::write(&path, &old).unwrap();
    let trust = Trust::from_file(&path).unwrap();
    let before = trust.set().list()[0].der.clone();
    for bad in [
        "",
        "canary",
        &pem(Dates::EXPIRED),
        &(new.clone() + "-----BEGIN X-----"),
    ] {
        std::fs::write(&path, bad).unwrap();
        assert!(!trust.read_again());
        assert_eq!(trust.set().list()[0].der, before);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(!trust.read_again());
    std::fs::write(&path, new.clone() + &old).unwrap();
    assert!(trust.read_again() && !trust.read_again());
    assert_eq!(
        (
            trust.set().list().len(),
            trust.set().list()[1].der == before
        ),
        (2, true)
    );
}

#[test]
fn the_reasons_why_a_file_cannot_be_read_are_distinguished() {
    // By the kind of the system's error: tests may run as root, and root reads every file.
    use std::io::ErrorKind::{InvalidInput, IsADirectory, NotFound, Other, PermissionDenied};
    let all = [
        NotFound,
        PermissionDenied,
        IsADirectory,
        InvalidInput,
        Other,
    ]
    .map(source::why);
    let parts = [
        "no such file",
        "may not read",
        "is a directory",
        "is a pipe or a device",
        "cannot be read",
    ];
    for (why, part) in all.into_iter().zip(parts) {
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn the_path_of_a_file_is_trust_and_pem_text_is_not_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, pem(Dates::CURRENT)).unwrap();
    let text = path.to_str().unwrap();
    assert!(Trust::try_from(text).is_ok() && Trust::try_from(text.to_owned()).is_ok());
    assert!(Trust::try_from(&*path).is_ok() && Trust::try_from(path.clone()).is_ok());
    let error = Trust::try_from(pem(Dates::CURRENT).as_str()).unwrap_err();
    assert!(error.to_string().contains("Trust::from_pem"), "{error}");
}
