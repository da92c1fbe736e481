//! Percent-encoding: the rules of the backends differ in what they keep.

/// `text` as it stands in a path or a query: everything outside RFC 3986's unreserved characters is percent-encoded, except the
/// bytes in `keep`.
///
/// ```
/// use secret_resolver_transport::percent_encode;
///
/// assert_eq!(percent_encode("a/b c", b"/"), "a/b%20c");
/// assert_eq!(percent_encode("a/b c", b""), "a%2Fb%20c");
/// ```
#[must_use]
pub fn percent_encode(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for &byte in text.as_bytes() {
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if unreserved || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_unreserved_characters_and_what_is_kept_is_encoded() {
        for (text, keep, encoded) in [
            ("AZaz09-._~", &b""[..], "AZaz09-._~"),
            ("a//b/", b"/", "a//b/"),
            ("a//b/", b"", "a%2F%2Fb%2F"),
            (" +%?#&=,:", b"", "%20%2B%25%3F%23%26%3D%2C%3A"),
            ("ключ", b"", "%D0%BA%D0%BB%D1%8E%D1%87"),
            ("..", b"", ".."),
            ("", b"", ""),
        ] {
            assert_eq!(percent_encode(text, keep), encoded);
        }
    }
}
