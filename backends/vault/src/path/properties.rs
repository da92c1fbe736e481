//! What holds for every path of a request: it leads to the record that was meant, and to nothing else. `fuzz/`
//! looks for one that breaks this; its seeds are a test here.

use secret_resolver_transport::{Method, Request};

use super::*;

/// Whether it is a path of any sort.
pub(crate) fn hold(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let of_a_name = NameRef::parse(text).map(NameRef::path).ok();
    let of_an_alias = checked_id(text).ok();
    let of_a_mount = checked(text, "mount").ok();
    // Where all below a path was meant, nothing is read at a path with a star in it.
    assert!(of_a_mount.as_deref().is_none_or(|path| !path.contains('*')));
    let paths = [of_a_name, of_an_alias.as_deref(), of_a_mount.as_deref()];
    paths.iter().flatten().for_each(|path| is_one_place(path));
    paths.iter().any(Option::is_some)
}

fn is_one_place(path: &str) {
    let encoded = encode(path);
    assert_eq!(decoded(&encoded).as_deref(), Some(path.as_bytes()));
    // What a server cleans up, cuts off or reads twice is not in it.
    let segments = encoded.split('/');
    assert!(
        !segments
            .clone()
            .any(|segment| matches!(segment, "" | "." | ".."))
    );
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
    assert!(encoded.bytes().all(plain), "{encoded}");
    let target = format!("/v1/secret/data/{encoded}");
    assert!(Request::new(Method::Get, &target).is_ok(), "{target}");
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    let mut parts = encoded.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_paths() {
    test_servers::try_seeds("path", hold);
}
