//! What holds for every text, a name or not. `fuzz/` looks for one that breaks this; its
//! seeds are a test here.

use super::*;

/// Whether it is taken.
pub(crate) fn hold(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let parsed = NameRef::parse(text);
    match &parsed {
        Ok(name) => {
            assert!(is_name(text), "taken for a name: {text:?}");
            is_whole(*name, text);
        }
        Err(error) => {
            assert!(!is_name(text), "refused: {text:?}");
            is_reported_by_its_place(error, text);
        }
    }
    parsed.is_ok()
}

/// The grammar once more, as a person would say it.
fn is_name(text: &str) -> bool {
    let is_segment = |part: &str| !matches!(part, "" | "." | "..");
    let (path, field) = match text.split_once('#') {
        Some((path, field)) => (path, Some(field)),
        None => (text, None),
    };
    let is_seen = |c: char| c != '\\' && !c.is_control() && !is_invisible(u32::from(c));
    text.len() <= SecretName::MAX_LEN
        && text.chars().all(is_seen)
        && path.split('/').all(is_segment)
        && field.is_none_or(|field| is_segment(field) && !field.contains(['/', '#']))
}

/// Its parts are the text and nothing else, however it is kept, and reading it again changes nothing.
fn is_whole(name: NameRef<'_>, text: &str) {
    let parts = match name.field() {
        Some(field) => format!("{}#{field}", name.path()),
        None => name.path().to_owned(),
    };
    assert_eq!(parts, text);
    assert_eq!(path_of(text), name.path());
    let owned = name.to_owned();
    assert_eq!(owned.borrowed(), name);
    let printed = owned.to_string();
    assert_eq!(printed, text);
    assert_eq!(SecretName::parse(&printed).ok().as_ref(), Some(&owned));
    assert_eq!((owned.path(), owned.field()), (name.path(), name.field()));
}

/// An error names a place in the text, and quotes none of it.
fn is_reported_by_its_place(error: &Error, text: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    let place = error
        .detail()
        .and_then(|detail| detail.strip_prefix("at byte "));
    let place = place.and_then(|place| place.parse::<usize>().ok());
    assert!(place.is_some_and(|place| place <= text.len()), "{error}");
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_names() {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let seeds = std::fs::read_dir(package + "/fuzz/corpus/name").unwrap();
    let (taken, refused): (Vec<_>, Vec<_>) = seeds
        .map(|seed| std::fs::read(seed.unwrap().path()).unwrap())
        .partition(|seed| hold(seed));
    assert!(!taken.is_empty() && !refused.is_empty());
}
