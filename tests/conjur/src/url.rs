//! Reading a request's target as Rails reads it: the path's segments and the query's parameters.

/// A target, cut but not yet decoded.
pub(crate) struct Target<'a> {
    /// The path's parts. Slashes that stand together count once, and one at the end does not count: so does the router.
    pub(crate) segments: Vec<&'a str>,
    pub(crate) query: &'a str,
}

/// What was percent-encoded is not UTF-8.
#[derive(Debug)]
pub(crate) struct NotUtf8;

impl<'a> Target<'a> {
    pub(crate) fn parse(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            segments: path.split('/').filter(|part| !part.is_empty()).collect(),
            query,
        }
    }

    /// Whether all of the query can be decoded.
    pub(crate) fn check_query(&self) -> Result<(), NotUtf8> {
        decode(self.query).map(drop)
    }

    /// The first parameter of this name, decoded. `a` and `a=` both give an empty one.
    pub(crate) fn parameter(&self, name: &str) -> Result<Option<String>, NotUtf8> {
        form_value(self.query, name)
    }
}

/// The value of `name` in `a=1&b=2`, where `+` is a space.
pub(crate) fn form_value(form: &str, name: &str) -> Result<Option<String>, NotUtf8> {
    for pair in form.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(&key.replace('+', " "))? == name {
            return decode(&value.replace('+', " ")).map(Some);
        }
    }
    Ok(None)
}

/// Undoes percent-encoding. A `%` that starts no pair of digits stands for itself.
pub(crate) fn decode(text: &str) -> Result<String, NotUtf8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        match pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_cut_before_it_is_decoded() {
        let target = Target::parse("/a//b%2Fc/?x=1+2%2B3&y");
        assert_eq!(target.segments, ["a", "b%2Fc"]);
        assert_eq!(target.parameter("x").unwrap().as_deref(), Some("1 2+3"));
        assert_eq!(target.parameter("y").unwrap().as_deref(), Some(""));
        assert_eq!(target.parameter("z").unwrap(), None);
        assert_eq!(decode("100%25 %zz %").unwrap(), "100% %zz %");
        assert!(decode("%FF").is_err());
    }
}
