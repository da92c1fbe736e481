//! One HTTP answer, and the shapes of those that the server gives in many places.
//!
//! `finish` adds what the recorded server adds to every answer: an ETag that is a digest of the body, the caching rule, and the turn
//! into a 304.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use crate::json;

/// An answer: computed by the server, or given by a test as a fault.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names and values, in their order. `Content-Length` is added when the answer is written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// It comes from before the application, which would add its caching rule.
    bare: bool,
}

/// The caching rule of an answer with an ETag.
const REVALIDATE: &str = "max-age=0, private, must-revalidate";

impl Answer {
    /// An answer with neither headers nor a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            bare: false,
        }
    }

    /// An answer of JSON, given as text.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status)
            .with_header("Content-Type", "application/json; charset=utf-8")
            .with_body(body)
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// No body: what most refusals are, and a write that was done.
    pub(crate) fn empty(status: u16) -> Self {
        Self::new(status).with_header("Content-Type", "text/html")
    }

    /// A refusal of the part that checks tokens, before anything is routed.
    pub(crate) fn refused(status: u16, why: &str) -> Self {
        Self::text(status, "text/plain", why)
    }

    pub(crate) fn text(status: u16, media_type: &str, body: &str) -> Self {
        Self::new(status)
            .with_header("Content-Type", media_type)
            .with_body(body)
    }

    /// An error of the usual shape.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let (code, message) = (json::quote(code), json::quote(message));
        Self::json(
            status,
            &format!(r#"{{"error":{{"code":{code},"message":{message}}}}}"#),
        )
    }

    /// The one message for a variable that is missing, has no value or may not be seen.
    pub(crate) fn not_readable(full_id: &str) -> Self {
        let message = format!("CONJ00076E Variable {full_id} is empty or not found.");
        Self::error(404, "not_found", &message)
    }

    /// A record that is missing or may not be seen.
    pub(crate) fn no_record(account: &str, kind: &str, id: &str) -> Self {
        let mut title = kind.to_owned();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let message = json::quote(&format!("{title} '{id}' not found in account '{account}'"));
        let full_id = json::quote(&format!("{account}:{kind}:{id}"));
        let kind = json::quote(kind);
        Self::json(
            404,
            &format!(
                r#"{{"error":{{"code":"not_found","message":{message},"target":{kind},"details":{{"code":"not_found","target":"id","message":{full_id}}}}}}}"#
            ),
        )
    }

    /// What the framework says by itself, outside the application: an unknown path, a crash. It is JSON for those alone that ask for
    /// JSON first.
    pub(crate) fn framework(status: u16, accept: Option<&str>) -> Self {
        let first = accept.and_then(|accept| accept.split([',', ';']).next());
        let mut answer = match first.map(str::trim) {
            Some("application/json") => {
                let reason = match status {
                    400 => "Bad Request",
                    404 => "Not Found",
                    _ => "Internal Server Error",
                };
                Self::json(
                    status,
                    &format!(r#"{{"status":{status},"error":"{reason}"}}"#),
                )
            }
            _ => Self::text(status, "text/html; charset=utf-8", ""),
        };
        answer.bare = true;
        answer
    }

    /// Adds what every answer of the application has, and drops what a 304 and an answer to HEAD do not have.
    pub(crate) fn finish(mut self, method: &str, if_none_match: Option<&str>) -> Self {
        if self.bare {
            return self.without_body_for(method);
        }
        let tagged = matches!(self.status, 200 | 201) && !self.body.is_empty();
        if tagged {
            let tag = etag(&self.body);
            let reads = matches!(method, "GET" | "HEAD") && self.status == 200;
            let same = reads && if_none_match == Some(tag.as_str());
            self = self.with_header("ETag", &tag);
            if same {
                self.status = 304;
                self.body.clear();
                self.headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            }
        }
        let caching = if tagged { REVALIDATE } else { "no-cache" };
        self.with_header("Cache-Control", caching)
            .without_body_for(method)
    }

    fn without_body_for(mut self, method: &str) -> Self {
        if self.status != 204 {
            let length = self.body.len().to_string();
            self = self.with_header("Content-Length", &length);
        }
        if method == "HEAD" {
            self.body.clear();
        }
        self
    }
}

/// By the names of its headers alone: a body can be a value.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// The weak tag that the recorded server gives to a body: the first half of its SHA-256.
pub(crate) fn etag(body: &[u8]) -> String {
    let digest = digest(&SHA256, body);
    format!("W/\"{}\"", hex(&digest.as_ref()[..16]))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
