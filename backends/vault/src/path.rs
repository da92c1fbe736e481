//! Paths of the store: checked once in the configuration, percent-encoded for each request.
//!
//! Knows nothing of names; that mapping is `alias`'s.

use secret_resolver::Error;
use secret_resolver::backend::NameRef;
use secret_resolver_transport::percent_encode;

use crate::error;

/// A mount, namespace or prefix of one or more segments, without the slashes around it.
///
/// The grammar is that of a name's path, without what has a meaning in a URL: nothing in a
/// configured path should look like a query, an escape or a way up.
pub(crate) fn checked(text: &str, what: &'static str) -> Result<Box<str>, Error> {
    let plain = NameRef::parse(text).is_ok_and(|name| name.field().is_none());
    // The text itself is not shown: what is rejected may be a secret, pasted by mistake.
    let wrong = |rule| Err(error::misconfigured(rule).with_detail(what));
    if text.ends_with('/') {
        return wrong("a configured path is given without the slash at its end");
    }
    if text.starts_with('/') {
        return wrong("a configured path is given without the slash at its beginning");
    }
    if text.contains('*') {
        return wrong("a configured path has no '*': give the path alone, all below it is meant");
    }
    if !plain || text.contains(['?', '%', '&', ';']) {
        return wrong(
            "a configured path is not one: give segments joined by '/', without '..', '#', '?', '%', '&', ';' or control characters",
        );
    }
    Ok(Box::from(text))
}

/// An id that follows no grammar of ours, such as `a//b` or `a#b`: anything but a way up and
/// control characters. It comes from the configuration, so it is not held to the rest.
pub(crate) fn checked_id(text: &str) -> Result<Box<str>, Error> {
    let bounded = (1..=1024).contains(&text.len());
    let climbs = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if !bounded || climbs || text.chars().any(char::is_control) {
        return Err(error::misconfigured(
            "an alias's path is empty, too long, or has a '.' or '..' segment or a control character",
        ));
    }
    Ok(Box::from(text))
}

/// `path` percent-encoded, and its slashes kept.
///
/// A path with an empty segment has its slashes encoded too: the server answers a plain `//` with
/// a redirect to the path without it (OpenBao 2.7.2, by Go's `ServeMux`).
pub(crate) fn encode(path: &str) -> String {
    let keep: &[u8] = match path.split('/').any(str::is_empty) {
        true => b"",
        false => b"/",
    };
    percent_encode(path, keep)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_path_has_plain_segments_only() {
        for good in ["secret", "team/secret", "a-b_c.d~e", "é", "with space"] {
            assert!(checked(good, "mount").is_ok(), "{good:?}");
        }
        let bad = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "a?b",
            "a%2Fb",
            "a#b",
            "a\\b",
            "a\nb",
            "a&b",
            "a\u{202e}b",
            "*",
            "team/*",
            "te*m",
            &"a".repeat(513),
        ];
        for bad in bad {
            let error = checked(bad, "mount").unwrap_err();
            assert_eq!(
                error.kind(),
                secret_resolver::ErrorKind::Misconfigured,
                "{bad:?}"
            );
            assert!(error.to_string().contains("mount"));
        }
    }

    #[test]
    fn a_slash_or_a_star_too_many_is_named() {
        for (bad, part) in [
            ("secret/", "slash at its end"),
            ("/", "slash at its end"),
            ("/secret", "slash at its beginning"),
            ("team/*", "no '*'"),
        ] {
            let error = checked(bad, "mount").unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("mount"), "{error}");
        }
    }

    #[test]
    fn an_alias_may_leave_the_grammar_but_not_the_mount() {
        for good in ["a//b", "a/", "a#b", "a?b%", "...", "a\\b"] {
            assert!(checked_id(good).is_ok(), "{good:?}");
        }
        for bad in ["", "..", "a/../b", "./a", "a\0b", &"a".repeat(1025)] {
            assert!(checked_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        assert_eq!(encode("a/B-1._~"), "a/B-1._~");
        assert_eq!(encode("k#h é?%&=+"), "k%23h%20%C3%A9%3F%25%26%3D%2B");
        assert_eq!(encode("a//b"), "a%2F%2Fb");
        assert_eq!(encode("a/b/"), "a%2Fb%2F");
        assert_eq!(encode("\n\u{7f}"), "%0A%7F");
    }
}
