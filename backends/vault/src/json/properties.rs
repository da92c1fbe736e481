//! What holds for every JSON string, and for every text that becomes one. `fuzz/` looks for one that breaks
//! this; its seeds are a test here.

use super::*;

/// Whether it is the inside of a string.
pub(crate) fn hold(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    is_read_as_others_read_it(text);
    is_quoted_so_that_others_read_it(text);
    // Most texts are not JSON: with quotes around them many are.
    is_read_as_others_read_it(&format!("\"{text}\""))
}

const ROOM: usize = 1 << 20;

fn is_read_as_others_read_it(raw: &str) -> bool {
    let read = string(raw, ROOM);
    // Others allow blanks around a value; here it was cut out without them.
    let is_whole = raw.starts_with('"') && raw.ends_with('"');
    let others = serde_json::from_str::<String>(raw)
        .ok()
        .filter(|_| is_whole);
    match (&read, &others) {
        (Ok(read), Some(others)) => assert_eq!(read.expose(), others.as_bytes()),
        (Err(_), None) => {}
        _ => panic!("{raw:?} is read as {others:?} by others alone, or by us alone"),
    }
    let Ok(read) = read else { return false };
    // There is room for it and for nothing else, and one byte less is not enough.
    let length = read.len();
    assert_eq!(read.capacity(), length);
    assert!(string(raw, length).is_ok());
    assert!(length == 0 || string(raw, length - 1).is_err());
    true
}

fn is_quoted_so_that_others_read_it(text: &str) {
    let room = quoted_len(text.as_bytes());
    let quoted = SecretBuf::with_capacity(room).and_then(|mut quoted| {
        quote(text.as_bytes(), &mut quoted)?;
        Ok(quoted)
    });
    let Ok(quoted) = quoted else {
        panic!("there is not enough room for {text:?}");
    };
    let others = serde_json::from_slice::<String>(quoted.expose());
    assert_eq!(others.ok().as_deref(), Some(text));
}

#[cfg(test)]
#[test]
fn they_hold_for_the_seeds_of_strings() {
    test_servers::try_seeds("json", hold);
}
