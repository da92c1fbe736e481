//! Every way of writing an origin that has ever been read two ways, and the few that are allowed.

use super::*;

fn refused(text: &str) -> Error {
    let error = match Origin::parse(text) {
        Ok(origin) => panic!("{text:?} was taken for {origin}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{text:?}");
    error
}

#[test]
fn an_origin_is_normalised() {
    let table = [
        ("https://vault", "https://vault:443", "vault"),
        ("https://vault/", "https://vault:443", "vault"),
        (
            "HTTPS://Vault.EXAMPLE:8200/",
            "https://vault.example:8200",
            "vault.example:8200",
        ),
        ("https://vault:443", "https://vault:443", "vault"),
        (
            "https://127.0.0.1:65535",
            "https://127.0.0.1:65535",
            "127.0.0.1:65535",
        ),
        ("https://[::1]:1", "https://[::1]:1", "[::1]:1"),
        ("https://[0:0:0::1]", "https://[::1]:443", "[::1]"),
        (
            "https://[2001:DB8::A]",
            "https://[2001:db8::a]:443",
            "[2001:db8::a]",
        ),
        (
            "https://xn--bcher-kva.example",
            "https://xn--bcher-kva.example:443",
            "xn--bcher-kva.example",
        ),
        (
            "https://my_vault-0.pod",
            "https://my_vault-0.pod:443",
            "my_vault-0.pod",
        ),
    ];
    for (text, shown, authority) in table {
        let origin = Origin::parse(text).unwrap();
        assert_eq!(
            (origin.to_string(), origin.authority()),
            (shown.into(), authority.into())
        );
        assert_eq!(shown.parse::<Origin>().unwrap(), origin);
    }
    assert_eq!(Origin::parse("https://[0::1]").unwrap().host(), "::1");
}

#[test]
fn an_address_without_its_brackets_is_named_as_that() {
    for text in [
        "https://::1:8200",
        "https://::1",
        "https://fe80::a:b",
        "https://2001:db8::1:443/",
    ] {
        assert!(refused(text).to_string().contains("brackets"), "{text}");
    }
    assert!(
        !refused("https://vault:1:2")
            .to_string()
            .contains("brackets")
    );
}

#[test]
fn an_origin_that_could_be_read_two_ways_is_refused() {
    let long_label = format!("https://{}.example", "a".repeat(64));
    let long_name = format!("https://{}a", "a.".repeat(127));
    let endless = format!("https://a{}", "/".repeat(1 << 20));
    let table = [
        // Not https, or not quite.
        "",
        "vault",
        "//vault",
        "http://vault",
        "httpss://vault",
        "https:/vault",
        "https:vault",
        "https//vault",
        "https:\\\\vault",
        " https://vault",
        "https://https://vault",
        "unix:///run/vault.sock",
        "file:///etc/passwd",
        // No host, or somebody else's.
        "https://",
        "https:///",
        "https://:443",
        "https://@",
        "https://user@vault",
        "https://user:pw@vault",
        "https://vault@evil.example",
        "https://vault:443@evil.example",
        "https://vault%40evil.example",
        // More than an origin.
        "https://vault/v1",
        "https://vault//",
        "https://vault?x",
        "https://vault/?x",
        "https://vault#x",
        "https://vault/#",
        "https://vault\\evil.example",
        "https://vault/..",
        "https://vault;evil.example",
        "https://vault,evil.example",
        // White space and control characters.
        "https://va ult",
        "https://vault ",
        "https://vault\n",
        "https://vault\r\nHost: evil",
        "https://\tvault",
        "https://vault\0",
        "https://vault\u{7f}",
        "https://vault:443\n",
        // Not ASCII: homographs, full-width dots and digits, a soft hyphen, an ideographic full stop.
        "https://v\u{430}ult",
        "https://vault\u{ff0e}example",
        "https://vault\u{3002}example",
        "https://vau\u{ad}lt",
        "https://vault:\u{ff14}\u{ff14}\u{ff13}",
        "https://b\u{fc}cher.example",
        // Percent-encoding, and other things no host has.
        "https://va%75lt",
        "https://%5b::1%5d",
        "https://vault%00",
        "https://va*lt",
        "https://va'lt",
        "https://va\"lt",
        "https://<vault>",
        "https://va|lt",
        "https://{vault}",
        "https://$VAULT",
        "https://va+lt",
        "https://va=lt",
        "https://va&lt",
        "https://va!lt",
        // Dots and hyphens where none may be.
        "https://.",
        "https://..",
        "https://.vault",
        "https://vault.",
        "https://va..ult",
        "https://-vault",
        "https://vault-",
        "https://vault.-a",
        &long_label,
        &long_name,
        &endless,
        // Ports.
        "https://vault:",
        "https://vault:/",
        "https://vault:0",
        "https://vault:00443",
        "https://vault:+443",
        "https://vault:-1",
        "https://vault:65536",
        "https://vault:99999999999999999999",
        "https://vault:4 43",
        "https://vault:443:443",
        "https://vault:0x1bb",
        "https://vault:https",
        "https://vault::443",
        // What some resolver takes for an address.
        "https://127.1",
        "https://0x7f.0.0.1",
        "https://0x7f000001",
        "https://2130706433",
        "https://017700000001",
        "https://127.0.0.01",
        "https://127.0.0.256",
        "https://127.0.0.1.",
        "https://1.2.3.4.5",
        "https://vault.0x1",
        "https://vault.1",
        "https://0x",
        // Brackets.
        "https://[::1",
        "https://::1",
        "https://::1]",
        "https://[]",
        "https://[::1]a",
        "https://[::1]:",
        "https://[::1]:0",
        "https://[::1]443",
        "https://[::1%25eth0]",
        "https://[::1%eth0]",
        "https://[vault]",
        "https://[127.0.0.1]",
        "https://[[::1]]",
        "https://a[::1]",
        "https://[::1]]",
        "https://[:::1]",
        "https://[1:2:3:4:5:6:7:8:9]",
        "https://[v1.a]",
    ];
    for text in table {
        refused(text);
    }
}

#[test]
fn a_refused_origin_says_what_is_to_be_corrected() {
    for (text, reason) in [
        ("https://user@vault", "user information"),
        ("https://user:word@vault:8200", "user information"),
        ("https://vault/v1", "path, query or fragment"),
        ("https://vault?a", "path, query or fragment"),
        ("https://vault#a", "path, query or fragment"),
        ("https://vault\\v1", "backslash or percent sign"),
        ("https://va%75lt", "backslash or percent sign"),
        ("https://va ult", "white space or a control character"),
        ("https://vault\n", "white space or a control character"),
        ("https://va\0ult", "white space or a control character"),
        ("https://vault\u{7f}", "white space or a control character"),
    ] {
        let error = refused(text).to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn a_changed_byte_never_changes_the_host_unseen() {
    // Every single byte at every place: what is accepted shows back as what went in.
    let good = "https://vault.example:8200/";
    for place in 0..good.len() {
        for byte in 0..=0x7f_u8 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[place] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(origin) = Origin::parse(&text) {
                let lower = text.to_ascii_lowercase();
                let given = lower.strip_suffix('/').unwrap_or(&lower);
                assert!(
                    origin.to_string() == given || origin.to_string() == format!("{given}:443"),
                    "{text:?} {origin}"
                );
            }
        }
    }
}

#[test]
fn a_refused_origin_is_not_quoted() {
    for text in [
        "https://user:canary@vault",
        "canary://",
        "https://vault/canary",
        "https://canary.",
        "https://vault:canary",
    ] {
        let shown = format!("{0} {0:?}", refused(text));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
