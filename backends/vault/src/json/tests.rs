//! The decoder against the rules, and against `serde_json`'s own on thousands of generated texts.

use secret_resolver::ErrorKind;

use super::*;

const ROOM: usize = 1 << 16;

fn decoded(raw: &str) -> Result<Vec<u8>, ErrorKind> {
    string(raw, ROOM)
        .map(|buf| buf.expose().to_vec())
        .map_err(|error| error.kind())
}

/// A small generator with a fixed seed (xorshift64*), so that a failure comes again.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }

    fn text(&mut self, pieces: &[&str]) -> String {
        (0..self.below(12))
            .map(|_| pieces[self.below(pieces.len())])
            .collect()
    }
}

#[test]
fn every_escape_of_the_grammar_is_decoded_into_a_buffer_of_exact_size() {
    let buf = string(r#""\"\\\/\b\f\n\r\té😀 </>""#, ROOM).unwrap();
    assert_eq!(buf.expose(), "\"\\/\u{8}\u{c}\n\r\té😀 </>".as_bytes());
    assert_eq!(buf.capacity(), buf.len());
    assert_eq!(decoded("\"\""), Ok(vec![]));
    assert_eq!(decoded(r#""\u0000\uFFFF""#), Ok("\0\u{ffff}".into()));
    assert_eq!(decoded(r#""\uD83D\uDE00\ud83d\ude00""#), Ok("😀😀".into()));
}

#[test]
fn broken_strings_are_malformed_and_never_panic() {
    let broken = [
        "",
        "\"",
        "x",
        "\"a",
        "a\"",
        r#""\""#,
        r#""\x""#,
        r#""\u""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\ud800""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\ud800\u0041""#,
        r#""\ud800\ud800""#,
        r#""\udc00""#,
        "\"\n\"",
        "\"\0\"",
        "\"a\"b\"",
    ];
    for raw in broken {
        assert_eq!(decoded(raw), Err(ErrorKind::Malformed), "{raw:?}");
    }
}

#[test]
fn the_decoder_agrees_with_serde_json_on_generated_strings() {
    let pieces = [
        "a",
        "Z",
        " ",
        "é",
        "😀",
        "\u{7f}",
        "\u{2028}",
        "\\\"",
        "\\\\",
        "\\/",
        "\\b",
        "\\f",
        "\\n",
        "\\r",
        "\\t",
        "\\u0000",
        "\\u001f",
        "\\u00e9",
        "\\uFfFf",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\udfff",
        "\\",
        "\\u",
        "\\u1",
        "\"",
        "\n",
        "/",
        "<",
    ];
    let mut seeded = Seeded(0x5EED);
    let mut accepted = 0;
    for round in 0..20_000 {
        let raw = format!("\"{}\"", seeded.text(&pieces));
        let expected = serde_json::from_str::<String>(&raw)
            .map(String::into_bytes)
            .ok();
        accepted += usize::from(expected.is_some());
        assert_eq!(decoded(&raw).ok(), expected, "round {round}: {raw:?}");
    }
    assert!(
        (1_000..19_000).contains(&accepted),
        "{accepted} of the generated strings were valid"
    );
}

#[test]
fn what_is_quoted_is_read_back_by_serde_json() {
    let pieces = [
        "a", "\"", "\\", "\0", "\n", "\u{1f}", "\u{7f}", "é", "😀", "/", "\u{2028}",
    ];
    let mut seeded = Seeded(0xFEED);
    for _ in 0..5_000 {
        let text = seeded.text(&pieces);
        let mut buf = SecretBuf::with_capacity(quoted_len(text.as_bytes())).unwrap();
        quote(text.as_bytes(), &mut buf).unwrap();
        assert_eq!(
            serde_json::from_slice::<String>(buf.expose()).unwrap(),
            text
        );
    }
}

#[test]
fn other_values_keep_their_json_text_and_null_is_not_a_value() {
    for raw in ["0", "-1.5e+22", "true", "false", "[1, 2]", r#"{"a": "b"}"#] {
        assert_eq!(value(raw, ROOM).unwrap().unwrap().expose(), raw.as_bytes());
    }
    assert!(value("null", ROOM).unwrap().is_none());
    assert_eq!(value(r#""null""#, ROOM).unwrap().unwrap().expose(), b"null");
}

#[test]
fn the_bound_is_on_the_decoded_value() {
    let kind = |raw: &str, limit| value(raw, limit).map(drop).map_err(|error| error.kind());
    assert_eq!(kind(r#""abc""#, 3), Ok(()));
    assert_eq!(kind(r#""\u0061\u0062\u0063""#, 3), Ok(()));
    assert_eq!(kind(r#""abcd""#, 3), Err(ErrorKind::Overloaded));
    assert_eq!(kind("12345", 4), Err(ErrorKind::Overloaded));
}
