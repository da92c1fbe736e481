//! What must not be in a text, in each form in which bytes are written.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Parts of JWTs and of private keys.
#[derive(Default)]
pub(crate) struct Needles {
    jwts: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Needles {
    pub(crate) fn jwt(&mut self, jwt: &[u8]) {
        keep(&mut self.jwts, jwt.to_vec());
    }

    /// In DER, as PKCS #8 on P-256.
    pub(crate) fn key(&mut self, der: &[u8]) {
        keep(&mut self.keys, der.to_vec());
    }

    pub(crate) fn jwts(&self) -> usize {
        self.jwts.len()
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Says which form of what is there, and quotes nothing.
    pub(crate) fn assert_none_in(&self, place: &str, text: &str) {
        let text = &text.split_whitespace().collect::<String>();
        assert!(!text.contains("eyJ"), "the head of a JWT is in the {place}");
        for jwt in &self.jwts {
            // What is between the dots, and the signature.
            let parts = jwt.split(|byte| *byte == b'.').skip(1);
            for part in parts.flat_map(|part| part.chunks_exact(16)) {
                assert_no_form("a JWT", part, place, text);
            }
        }
        for key in &self.keys {
            // What is secret stands from here on; the public part after it is in the certificate too.
            for part in key[36..68].chunks_exact(8) {
                assert_no_form("a private key", part, place, text);
            }
            let encoded = BASE64_STANDARD.encode(key);
            for part in encoded.as_bytes()[48..88].chunks_exact(16) {
                assert_no_form("a private key in base64", part, place, text);
            }
        }
    }
}

fn keep(all: &mut Vec<Vec<u8>>, one: Vec<u8>) {
    if !all.contains(&one) {
        all.push(one);
    }
}

/// `text` is without blanks and line ends, whatever the layout of a list was.
fn assert_no_form(what: &str, part: &[u8], place: &str, text: &str) {
    let decimal: Vec<_> = part.iter().map(u8::to_string).collect();
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = part.escape_ascii().to_string();
    for (form, written) in [
        ("as text", written.replace(' ', "")),
        ("as a list", decimal.join(",")),
        ("in hexadecimal", hex.to_uppercase()),
        ("in lower hexadecimal", hex),
    ] {
        assert!(!text.contains(&written), "{what} {form} is in the {place}");
    }
}

#[test]
fn a_part_of_a_secret_is_found_in_each_form() {
    let mut needles = Needles::default();
    let secret: Vec<u8> = (0..138).map(|byte: u8| byte.wrapping_mul(37)).collect();
    let (jwt, text) = (
        "a.bcdefghijklmnopqrstuv.ABCDEFGHIJKLMNOPQRSTUV",
        BASE64_STANDARD.encode(&secret),
    );
    needles.jwt(jwt.as_bytes());
    needles.key(&secret);
    needles.assert_none_in("text", "nothing");
    let part = &secret[40..60];
    for leak in [
        format!("{:?}", jwt.as_bytes()),
        format!("{:#?}", vec![jwt.as_bytes().to_vec()]),
        jwt[24..].to_owned(),
        format!("{part:?}"),
        format!("{part:02x?}").replace(", ", ""),
        format!("{part:02X?}").replace(", ", ""),
        format!("b\"{}\"", part.escape_ascii()),
        text,
    ] {
        let found = std::panic::catch_unwind(|| needles.assert_none_in("text", &leak));
        assert!(found.is_err(), "{leak}");
    }
}
