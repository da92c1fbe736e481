//! What was answered: status, headers and the whole body, which is treated as a secret.
//!
//! What a status means is for the backend to say; redirects never get here.

use std::fmt;
use std::time::Duration;

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};
use secret_resolver::SecretBuf;

/// The longest delay that is believed: a longer one would let a server switch a client off.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// A whole answer. `Debug` shows the status alone.
///
/// ```no_run
/// # async fn example(client: secret_resolver_transport::Client,
/// #     origin: secret_resolver_transport::Origin,
/// #     request: secret_resolver_transport::Request) -> Result<(), secret_resolver::Error> {
/// let response = client.send(&origin, request).await?;
/// if response.status() == 429 {
///     let delay = response.retry_after();
///     println!("asked to wait for {delay:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: SecretBuf,
}

impl Response {
    pub(crate) fn new(status: u16, headers: HeaderMap, body: SecretBuf) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// The status code: 200 to 299, 304, or 400 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in any case. `None` when there is none, or when its value
    /// has anything but visible ASCII characters, spaces and tabs.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The delay that `Retry-After` asks for, an hour at most (RFC 9110, 10.2.3): a number of seconds, or a
    /// date, which is measured by the answer's own `Date`, so that no clock of ours has to be right. `None`
    /// when there is none, or when it is neither.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let until = httpdate::parse_http_date(text).ok()?;
            let sent = httpdate::parse_http_date(self.headers.get(DATE)?.to_str().ok()?).ok()?;
            let delay = until.duration_since(sent).unwrap_or_default();
            return Some(delay.min(LONGEST_DELAY));
        }
        // More digits than fit is a longer delay than is believed.
        Some(
            text.parse()
                .map_or(LONGEST_DELAY, Duration::from_secs)
                .min(LONGEST_DELAY),
        )
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.expose()
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_body(self) -> SecretBuf {
        self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn with(name: &'static str, value: &[u8]) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        Response::new(429, headers, SecretBuf::from_slice(b"canary").unwrap())
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_capped_at_an_hour() {
        let table: [(&[u8], _); 10] = [
            (b"0", Some(0)),
            (b"7", Some(7)),
            (b" 7 ", Some(7)),
            (b"3600", Some(3600)),
            (b"3601", Some(3600)),
            (b"99999999999999999999999", Some(3600)),
            (b"-1", None),
            (b"1.5", None),
            (b"", None),
            (b"Wed, 21 Oct 2015 07:28:00 GMT", None),
        ];
        for (value, seconds) in table {
            assert_eq!(
                with("retry-after", value).retry_after(),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        }
        assert_eq!(with("x", b"7").retry_after(), None);
    }

    #[test]
    fn a_date_is_measured_by_the_answers_own() {
        let delay = |until: &'static str, sent: Option<&'static str>| {
            let mut response = with("retry-after", until.as_bytes());
            if let Some(sent) = sent {
                response
                    .headers
                    .insert("date", HeaderValue::from_static(sent));
            }
            response.retry_after().map(|delay| delay.as_secs())
        };
        // Whatever the year is here.
        let sent = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:02 GMT", sent), Some(2));
        assert_eq!(delay("Wednesday, 21-Oct-15 07:28:07 GMT", sent), Some(7));
        assert_eq!(delay("Wed, 21 Oct 2015 07:27:00 GMT", sent), Some(0));
        assert_eq!(delay("Wed, 21 Oct 2065 07:28:00 GMT", sent), Some(3600));
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:02 GMT", None), None);
        assert_eq!(delay("Wed, 21 Oct 2015 07:28:02 GMT", Some("now")), None);
        assert_eq!(delay("soon", sent), None);
    }

    #[test]
    fn a_header_that_is_not_visible_ascii_is_none() {
        assert_eq!(with("x-name", b"value").header("X-Name"), Some("value"));
        assert_eq!(with("x-name", b"v\xe9").header("x-name"), None);
        assert_eq!(with("x-name", b"value").header("not a name\n"), None);
    }

    #[test]
    fn debug_shows_the_status_alone() {
        assert_eq!(
            format!("{:?}", with("x", b"canary")),
            "Response { status: 429, .. }"
        );
    }
}
