use super::*;

fn refused(text: &str) -> String {
    let error = NameRef::parse(text).expect_err("the name must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    error.to_string()
}

#[test]
fn a_name_splits_at_its_first_hash() {
    for (text, path, field) in [
        ("a", "a", None),
        ("prod/token", "prod/token", None),
        ("prod/db#password", "prod/db", Some("password")),
        ("ключ/база#пароль", "ключ/база", Some("пароль")),
        ("a b/c d#e f", "a b/c d", Some("e f")),
        (".../..a", ".../..a", None),
    ] {
        let name = NameRef::parse(text).unwrap();
        assert_eq!((name.path(), name.field()), (path, field), "{text}");
        let owned = name.to_owned();
        assert_eq!((owned.path(), owned.field()), (path, field), "{text}");
        assert_eq!(owned.to_string(), text);
    }
}

#[test]
fn a_name_outside_the_grammar_is_refused() {
    for text in [
        "",
        "/",
        "#",
        "a/",
        "/a",
        "a//b",
        "a#",
        "#a",
        ".",
        "..",
        "a/../b",
        "a/.",
        "./a",
        "a#.",
        "a#..",
        "a#b#c",
        "a#b/c",
        "a\\b",
        "a\0",
        "a\nb",
        "a\tb",
        "a\u{7f}",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{2029}b",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{feff}b",
        "a\u{2066}b",
        "a\u{ad}b",
        "a#b\u{e0041}",
    ] {
        refused(text);
    }
}

#[test]
fn a_name_has_at_most_512_bytes() {
    assert!(NameRef::parse(&"a".repeat(512)).is_ok());
    refused(&"a".repeat(513));
    refused(&"ü".repeat(257));
    refused(&"a".repeat(1 << 20));
    let longest = format!("{}#b", "a".repeat(510));
    assert_eq!(NameRef::parse(&longest).unwrap().field(), Some("b"));
}

#[test]
fn a_refused_name_is_not_quoted() {
    for text in [
        "hunter2\n",
        "hunter2/../x",
        "hunter2#a#b",
        "hunter2\u{202e}",
    ] {
        let said = refused(text);
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert_eq!(
        refused("ab/../c"),
        "invalid name: a name has no '.' or '..' segment (at byte 3)"
    );
}

#[test]
fn every_char_of_the_four_categories_is_refused_and_letters_are_not() {
    // One character of each range, its ends, and their neighbours outside.
    for c in [
        '\u{600}',
        '\u{605}',
        '\u{61c}',
        '\u{6dd}',
        '\u{70f}',
        '\u{891}',
        '\u{8e2}',
        '\u{180e}',
        '\u{200f}',
        '\u{202a}',
        '\u{2064}',
        '\u{206f}',
        '\u{fff9}',
        '\u{110bd}',
        '\u{110cd}',
        '\u{13430}',
        '\u{1bca0}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e007f}',
    ] {
        refused(&format!("a{c}b"));
    }
    for c in [
        '\u{606}', '\u{61b}', '\u{2010}', '\u{2070}', '\u{fffc}', 'é', '\u{a0}', '密', '🔑',
    ] {
        assert!(NameRef::parse(&format!("a{c}b")).is_ok(), "{c:?}");
    }
}

#[test]
fn every_character_is_read_as_itself_and_judged_where_it_begins() {
    for c in '\u{80}'..=char::MAX {
        let text = format!("a{c}b");
        assert_eq!(char_at(text.as_bytes(), 1), u32::from(c));
        let invisible = c.is_control() || is_invisible(u32::from(c));
        assert_eq!(NameRef::parse(&text).is_err(), invisible, "{c:?}");
    }
    assert!(refused("aé\u{202e}b").contains("byte 3"));
}

#[test]
fn a_name_is_text_where_text_is_wanted() {
    fn text(name: impl AsRef<str>) -> String {
        name.as_ref().to_owned()
    }
    let name: SecretName = "a/b#c".parse().unwrap();
    assert_eq!(text(&name), "a/b#c");
    assert_eq!(text(name.borrowed()), "a/b#c");
    assert_eq!(text(crate::secret_name!("a/b#c")), "a/b#c");
}

#[cfg(feature = "serde")]
#[test]
fn a_name_in_a_configuration_file_is_checked_and_not_quoted() {
    let name: SecretName = serde_json::from_str("\"prod/db#password\"").unwrap();
    assert_eq!(name.field(), Some("password"));
    assert_eq!(
        serde_json::to_string(&name).unwrap(),
        "\"prod/db#password\""
    );
    let error = serde_json::from_str::<SecretName>("\"hunter2/../x\"").unwrap_err();
    assert!(error.to_string().contains("'..'"), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
