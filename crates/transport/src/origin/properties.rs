//! What holds for every text, an origin or not. `fuzz/` looks for one that breaks this; its
//! seeds are a test here.

use hyper::Uri;

use super::*;

/// Whether it is taken.
pub(crate) fn hold(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let parsed = Origin::parse(text);
    match &parsed {
        Ok(origin) => {
            is_what_was_written(origin, text);
            is_what_others_read(origin, text);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert_eq!(error.detail(), None);
        }
    }
    parsed.is_ok()
}

/// What is shown is what was given, except for upper case, a last slash, the default port and the spelling of an
/// IPv6 address; and it is the same origin.
fn is_what_was_written(origin: &Origin, text: &str) {
    let shown = origin.to_string();
    assert_eq!(Origin::parse(&shown).ok().as_ref(), Some(origin));
    assert!(origin.port() > 0);
    let given = text.to_ascii_lowercase();
    let given = given.strip_suffix('/').unwrap_or(&given);
    if matches!(origin.host, Host::Plain(_)) {
        assert!(
            shown == given || shown == format!("{given}:443"),
            "{shown} for {text:?}"
        );
    }
    let authority = origin.authority();
    assert!(shown == format!("https://{authority}") || shown == format!("https://{authority}:443"));
}

/// Another parser reads the same host and port in it, and nothing else.
fn is_what_others_read(origin: &Origin, text: &str) {
    let Ok(uri) = text.parse::<Uri>() else {
        panic!("no URI, but taken for an origin: {text:?}");
    };
    assert_eq!(uri.scheme_str(), Some("https"));
    assert!(matches!(uri.path(), "" | "/") && uri.query().is_none());
    assert_eq!(uri.port_u16().unwrap_or(443), origin.port());
    let host = uri.host().unwrap_or_default();
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => assert_eq!(
            address.parse::<Ipv6Addr>().ok(),
            origin.host().parse::<Ipv6Addr>().ok()
        ),
        None => assert!(host.eq_ignore_ascii_case(origin.host()), "{host}"),
    }
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_origins() {
    test_servers::try_seeds("origin", hold);
}
