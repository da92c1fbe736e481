//! What holds for every text of a private key: it has one key, nothing of it is passed over, and no error tells a part of it. `fuzz/` looks
//! for a text that breaks this; its seeds are a test here.

use rustls::pki_types::pem::PemObject;
use secret_resolver::ErrorKind;

use super::*;

/// Whether there is a key.
pub(crate) fn hold(text: &[u8]) -> bool {
    let others = PrivateKeyDer::from_pem_slice(text).ok();
    let key = match key(text) {
        Ok(key) => key,
        Err(error) => {
            // The text of an error is fixed, and it has no detail.
            assert_eq!(
                (error.kind(), error.detail()),
                (ErrorKind::Misconfigured, None)
            );
            assert!(others.is_none_or(|others| is_only_read_by_others(text, &others)));
            return false;
        }
    };
    // Each section has its beginning and its end, and one of them is the key.
    let labels = labels_in(text);
    assert_eq!(labels.len(), places(text, END).len());
    let is_key = |label: &&&[u8]| !places(label, b"PRIVATE KEY").is_empty();
    let keys: Vec<_> = labels.iter().filter(is_key).collect();
    assert_eq!(keys, [&label_of(&key)]);
    assert!(has_these_digits(text, &key));
    // Where others miss the end of a section, they take what stands behind it for the next one's.
    if let (Some(others), 1) = (others, labels.len()) {
        assert_eq!(others, key.der());
    }
    is_read_in_its_plain_form(&key);
    is_not_taken_twice(text, &key);
    true
}

/// Others pass over what else is in a text, and take digits that are not those of the key: with bits that count for nothing.
fn is_only_read_by_others(text: &[u8], others: &PrivateKeyDer<'_>) -> bool {
    let ([begin], [end]) = (&*places(text, BEGIN), &*places(text, END)) else {
        return true;
    };
    // Behind the last dashes of its beginning: blanks between dashes make none of them.
    let section = text.get(*begin..*end).unwrap_or_default();
    let dashes = places(section, DASHES).last().copied();
    let body = dashes.and_then(|dashes| section.get(dashes + DASHES.len()..));
    digits_of(body.unwrap_or_default()) != BASE64_STANDARD.encode(others.secret_der())
}

/// What stands between the key's own marks is the key.
fn has_these_digits(text: &[u8], key: &Key) -> bool {
    let mark = [BEGIN, label_of(key), DASHES].concat();
    let [begin] = *places(text, &mark) else {
        return false;
    };
    let rest = text.get(begin + mark.len()..).unwrap_or_default();
    let end = places(rest, END).first().copied();
    let body = rest.get(..end.unwrap_or_default()).unwrap_or_default();
    digits_of(body) == BASE64_STANDARD.encode(&*key.der)
}

fn digits_of(body: &[u8]) -> String {
    let digits = body.iter().filter(|byte| !byte.is_ascii_whitespace());
    digits.copied().map(char::from).collect()
}

fn label_of(key: &Key) -> &'static [u8] {
    match key.form {
        Form::Pkcs1 => b"RSA PRIVATE KEY",
        Form::Pkcs8 => b"PRIVATE KEY",
        Form::Sec1 => b"EC PRIVATE KEY",
    }
}

/// As others write it, both read the same, whatever its lines end with and whatever stands around it.
fn is_read_in_its_plain_form(key: &Key) {
    let plain = pem_of(key);
    let others = PrivateKeyDer::from_pem_slice(plain.as_bytes());
    // They take no key that is empty, and neither does TLS.
    assert!(others.is_ok_and(|others| others == key.der()) || key.der.is_empty());
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
    for text in [
        plain.clone(),
        plain.replace('\n', "\r\n"),
        plain.replace('\n', ""),
        format!("a note\n{parameters}\n{plain}\nanother"),
        format!("{plain}{parameters}"),
    ] {
        let read = super::key(text.as_bytes()).ok();
        assert_eq!(read.map(|read| read.der() == key.der()), Some(true));
    }
}

/// With a second key there is none, wherever it stands, and even if it is the same.
fn is_not_taken_twice(text: &[u8], key: &Key) {
    let plain = pem_of(key);
    let section = [
        b"-----BEGIN X-----\n",
        plain.as_bytes(),
        b"-----END X-----\n",
    ]
    .concat();
    for second in [plain.as_bytes(), &section] {
        assert!(super::key(&[text, b"\n", second].concat()).is_err());
        assert!(super::key(&[second, text].concat()).is_err());
    }
    // Nor with half of one before it or behind it.
    let (front, back) = plain.split_at(plain.len() / 2);
    assert!(super::key(&[back.as_bytes(), text].concat()).is_err());
    assert!(super::key(&[text, b"\n", front.as_bytes()].concat()).is_err());
    // Nor with one that has only begun, inside of a section that is passed over.
    let begun = plain.split("-----END").next().unwrap_or_default();
    let section = format!("-----BEGIN X-----\n{begun}-----END X-----\n");
    assert!(super::key(&[section.as_bytes(), text].concat()).is_err());
}

fn pem_of(key: &Key) -> String {
    let digits = BASE64_STANDARD.encode(&*key.der);
    let lines = digits.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    let label = String::from_utf8_lossy(label_of(key));
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

/// What stands behind each beginning, up to the next dashes.
fn labels_in(text: &[u8]) -> Vec<&[u8]> {
    let label = |begin: usize| {
        let rest = text.get(begin + BEGIN.len()..).unwrap_or_default();
        let end = places(rest, DASHES).first().copied();
        rest.get(..end.unwrap_or_default()).unwrap_or_default()
    };
    places(text, BEGIN).into_iter().map(label).collect()
}

fn places(text: &[u8], what: &[u8]) -> Vec<usize> {
    let windows = text.windows(what.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == what);
    found.map(|(place, _)| place).collect()
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_private_keys() {
    test_servers::try_seeds("key", hold);
}
