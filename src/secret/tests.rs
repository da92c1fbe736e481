use super::*;

fn buf(text: &str) -> SecretBuf {
    SecretBuf::from_slice(text.as_bytes()).unwrap()
}

fn login() -> Record {
    Record::builder("test")
        .field("user", buf("app"))
        .field("password", buf("canary-4711"))
        .version(Version::number(7))
        .build()
        .unwrap()
}

#[test]
fn debug_shows_neither_value_nor_length() {
    let record = login();
    let secret = record.field("password").unwrap();
    let shown = format!(
        "{record:?} {secret:?} {:?} {:?} {:?}",
        buf("canary-4711"),
        Version::tag(b"canary-4711"),
        Record::builder("test").field("f", buf("canary-4711")),
    );
    assert!(!shown.contains("canary"), "{shown}");
    let one = Record::single("test", buf("a")).into_secret().unwrap();
    let long = Record::single("test", buf(&"a".repeat(999)))
        .into_secret()
        .unwrap();
    assert_eq!(format!("{one:?}"), format!("{long:?}"));
    assert_eq!(format!("{:?}", buf("")), format!("{:?}", buf("abc")));
    // Neither as text nor as numbers.
    let tag = Version::tag(b"canary-4711");
    assert_eq!(format!("{tag:?}"), "Version([tag])");
    assert_eq!(format!("{:?}", Version::number(7)), "Version(7)");
}

#[test]
fn a_missing_field_is_not_found_and_leaves_the_record_usable() {
    let record = login().select(Some("nope"));
    let error = record.clone().into_secret().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(record.field("user").unwrap().expose_secret(), b"app");
    let unnamed = login().select(None).into_secret().unwrap_err();
    assert_eq!(unnamed.kind(), ErrorKind::NotFound);
}

#[test]
fn the_fields_of_a_record_share_one_version() {
    let secret = login().field("password").unwrap();
    assert_eq!(secret.version().as_number(), Some(7));
    assert_eq!(
        secret.record().field("user").unwrap().version(),
        secret.version()
    );
}

#[test]
fn a_record_with_one_field_twice_is_malformed() {
    let error = Record::builder("test")
        .field("a", buf("1"))
        .field("a", buf("2"))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn a_buffer_takes_what_fits_and_nothing_else() {
    let mut buf = SecretBuf::with_capacity(4).unwrap();
    buf.push(b"abc").unwrap();
    assert_eq!(buf.push(b"de").unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(buf.expose(), b"abc");
    buf.push(b"d").unwrap();
    assert_eq!((buf.len(), buf.capacity()), (4, 4));
    buf.clear();
    assert!(buf.is_empty());
}

#[test]
fn a_buffer_without_memory_for_it_is_overloaded() {
    let error = SecretBuf::with_capacity(usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
}

#[test]
fn secrets_are_equal_by_value_alone() {
    let of = |text| Record::single("test", buf(text)).into_secret().unwrap();
    assert_eq!(of("same"), of("same"));
    assert_ne!(of("same"), of("sama"));
    assert_ne!(of("same"), of("same longer"));
}

#[test]
fn text_that_is_not_utf8_is_malformed_and_its_bytes_are_there() {
    let secret = Record::single("test", SecretBuf::from_slice(b"\xffcanary").unwrap())
        .into_secret()
        .unwrap();
    let error = secret.expose_str().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(!error.to_string().contains("canary"));
    assert_eq!(secret.expose_secret(), b"\xffcanary");
    // What is said of another is the same: not its length, nor at which byte it stops being text.
    let other = Record::single("test", SecretBuf::from_slice(b"other\xc3").unwrap());
    let other = other.into_secret().unwrap().expose_str().unwrap_err();
    let shown = |error: Error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error} {error:?} {source:?}")
    };
    assert_eq!(shown(error), shown(other));
}

#[test]
fn versions_are_ordered_only_where_the_store_counts() {
    assert!(Version::number(2) > Version::number(1));
    assert_eq!(Version::tag(b"a"), Version::tag(b"a"));
    assert_eq!(Version::tag(b"a").partial_cmp(&Version::tag(b"b")), None);
    assert_ne!(Version::none(), Version::none());
}
