//! JSON strings from and to [`SecretBuf`], so that no value ever stands in a `String`.
//!
//! A string is decoded twice: once to learn its length, once into a buffer of exactly that size.
//! Nothing else is parsed here; `serde_json` finds where each value begins and ends.

use secret_resolver::{Error, SecretBuf};

use crate::error;

/// The bytes that a field with this JSON text has: a string's characters, the text itself of a
/// number, boolean, array or object; `None` for `null`.
pub(crate) fn value(raw: &str, limit: usize) -> Result<Option<SecretBuf>, Error> {
    match raw {
        "null" => Ok(None),
        _ if raw.starts_with('"') => string(raw, limit).map(Some),
        _ if raw.len() > limit => Err(error::value_too_large()),
        _ => SecretBuf::from_slice(raw.as_bytes())
            .map(Some)
            .map_err(error::ours),
    }
}

/// The characters of a JSON string, given with its quotes.
pub(crate) fn string(raw: &str, limit: usize) -> Result<SecretBuf, Error> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(broken)?;
    let mut len = 0;
    decode(inner, &mut |bytes| {
        len += bytes.len();
        Ok(())
    })?;
    if len > limit {
        return Err(error::value_too_large());
    }
    let mut buf = SecretBuf::with_capacity(len).map_err(error::ours)?;
    decode(inner, &mut |bytes| buf.push(bytes).map_err(error::ours))?;
    Ok(buf)
}

/// Appends `text` as a JSON string with its quotes; the room needed is at most [`quoted_len`].
pub(crate) fn quote(text: &[u8], into: &mut SecretBuf) -> Result<(), Error> {
    into.push(b"\"")?;
    for &byte in text {
        match byte {
            b'"' | b'\\' => into.push(&[b'\\', byte])?,
            0..0x20 => into.push(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ])?,
            _ => into.push(&[byte])?,
        }
    }
    into.push(b"\"")
}

/// The length that [`quote`] needs at most.
pub(crate) fn quoted_len(text: &[u8]) -> usize {
    text.len().saturating_mul(6).saturating_add(2)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Gives `out` the characters of `inner`, piece by piece (RFC 8259, section 7).
fn decode(inner: &str, out: &mut Sink<'_>) -> Result<(), Error> {
    let mut rest = inner.as_bytes();
    loop {
        let plain = rest
            .iter()
            .position(|&byte| byte == b'\\')
            .unwrap_or(rest.len());
        let (head, tail) = rest.split_at(plain);
        // The parser that found the string's end has refused these; a second look costs nothing.
        if head.iter().any(|&byte| byte < 0x20 || byte == b'"') {
            return Err(broken());
        }
        out(head)?;
        let Some((&escape, after)) = tail.get(1..).and_then(<[u8]>::split_first) else {
            return if tail.is_empty() {
                Ok(())
            } else {
                Err(broken())
            };
        };
        rest = match escape {
            b'"' | b'\\' | b'/' => out(&[escape]).map(|()| after)?,
            b'b' => out(b"\x08").map(|()| after)?,
            b'f' => out(b"\x0c").map(|()| after)?,
            b'n' => out(b"\n").map(|()| after)?,
            b'r' => out(b"\r").map(|()| after)?,
            b't' => out(b"\t").map(|()| after)?,
            b'u' => decode_unicode(after, out)?,
            _ => return Err(broken()),
        };
    }
}

/// The character of `\uXXXX`, or of two of them that are a surrogate pair; what follows it.
fn decode_unicode<'a>(after: &'a [u8], out: &mut Sink<'_>) -> Result<&'a [u8], Error> {
    let (first, rest) = hex4(after)?;
    let (code, rest) = match first {
        0xD800..0xDC00 => {
            let (second, rest) = hex4(rest.strip_prefix(b"\\u").ok_or_else(broken)?)?;
            if !(0xDC00..0xE000).contains(&second) {
                return Err(broken());
            }
            (0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00), rest)
        }
        _ => (first, rest),
    };
    // A low surrogate alone is not a character.
    let character = char::from_u32(code).ok_or_else(broken)?;
    let mut utf8 = zeroize::Zeroizing::new([0; 4]);
    out(character.encode_utf8(&mut *utf8).as_bytes())?;
    Ok(rest)
}

fn hex4(text: &[u8]) -> Result<(u32, &[u8]), Error> {
    let (digits, rest) = text.split_at_checked(4).ok_or_else(broken)?;
    let code = digits.iter().try_fold(0, |code, &digit| {
        Some(code << 4 | char::from(digit).to_digit(16)?)
    });
    Ok((code.ok_or_else(broken)?, rest))
}

fn broken() -> Error {
    error::malformed("a string of the answer is not valid JSON")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
