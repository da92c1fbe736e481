//! Where a request goes: scheme, host and port, and nothing else.
//!
//! An origin is parsed once, from text that a person configured, by rules stricter than a URL's:
//! text that two programs could read differently is refused. It resolves no name and decides
//! nothing; the [`Client`](crate::Client) compares it with its list.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use secret_resolver::{Error, ErrorKind};

/// The longest text that can be an origin: scheme, a name of 253 bytes, port and slash.
const LONGEST: usize = "https://".len() + 253 + ":65535/".len();

/// `https://host:port`, parsed once and normalised: two that reach the same server by the same
/// name are equal.
///
/// ```
/// use secret_resolver_transport::Origin;
///
/// let origin = Origin::parse("https://Vault.example:8200/")?;
/// assert_eq!((origin.host(), origin.port()), ("vault.example", 8200));
/// assert_eq!(Origin::parse("https://[0:0::1]")?.to_string(), "https://[::1]:443");
/// assert!(Origin::parse("http://vault.example").is_err());
/// assert!(Origin::parse("https://vault.example/v1").is_err());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    host: Host,
    port: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Host {
    /// A DNS name or an IPv4 address, in lower case.
    Plain(Box<str>),
    /// An IPv6 address in its one canonical spelling, without brackets.
    V6(Box<str>),
}

impl Origin {
    /// Reads `https://host`, `https://host:port` or either with one slash after it. The port is
    /// 443 where none is given; scheme and host may be in upper case; an IPv6 address stands in
    /// brackets.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] for anything else: another scheme, user information, a path,
    /// query or fragment, white space, a backslash, a percent sign, a control or non-ASCII
    /// character (write an international name in its `xn--` form), a host that is not a DNS name
    /// or an address, a name that ends in a dot, a port of 0 or over 65535. The text is not
    /// quoted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            return Err(misconfigured(
                "an origin is longer than any host name can be",
            ));
        }
        if !text.is_ascii() {
            return Err(misconfigured(
                "an origin has a character outside ASCII; write the host in its xn-- form",
            ));
        }
        let text = text.to_ascii_lowercase();
        let Some(rest) = text.strip_prefix("https://") else {
            return Err(misconfigured("an origin must begin with https://"));
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(reason) = authority.bytes().find_map(forbidden) {
            return Err(misconfigured(reason));
        }
        match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest
                    .split_once(']')
                    .ok_or_else(|| misconfigured("an origin has a bracket that is not closed"))?;
                let address = Ipv6Addr::from_str(address).map_err(|_| {
                    misconfigured("an origin has something other than an IPv6 address in brackets")
                })?;
                Ok(Self {
                    host: Host::V6(address.to_string().into()),
                    port: parse_port(port)?,
                })
            }
            None => {
                let host = authority
                    .rsplit_once(':')
                    .map_or(authority, |(host, _)| host);
                if [host, authority]
                    .map(Ipv6Addr::from_str)
                    .iter()
                    .any(Result::is_ok)
                {
                    return Err(misconfigured(
                        "an origin has an IPv6 address without brackets; write https://[::1]:8200",
                    ));
                }
                let colon = authority.find(':').unwrap_or(authority.len());
                let (host, port) = authority.split_at(colon);
                check_host(host)?;
                Ok(Self {
                    host: Host::Plain(host.into()),
                    port: parse_port(port)?,
                })
            }
        }
    }

    /// The name or address, as the server's certificate must have it: in lower case, an IPv6
    /// address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.host {
            Host::Plain(host) | Host::V6(host) => host,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the `Host` header says: the port only where it is not the default.
    pub(crate) fn authority(&self) -> String {
        let text = self.to_string();
        let authority = text.trim_start_matches("https://");
        authority
            .strip_suffix(":443")
            .unwrap_or(authority)
            .to_owned()
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Origin {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<&String> for Origin {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Origin {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Plain(host) => write!(f, "https://{host}:{}", self.port),
            Host::V6(host) => write!(f, "https://[{host}]:{}", self.port),
        }
    }
}

fn misconfigured(reason: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, reason)
}

/// Why a byte may not stand anywhere after the scheme. The grammar below would refuse each of these
/// too; the reasons are for the person who has to correct it.
fn forbidden(byte: u8) -> Option<&'static str> {
    match byte {
        b'@' => Some("an origin has user information; a credential belongs into the login"),
        b'/' | b'?' | b'#' => {
            Some("an origin has a path, query or fragment; give https://host:port")
        }
        b'\\' | b'%' => Some("an origin has a backslash or percent sign; write the host in plain"),
        0..=b' ' | 0x7f => Some("an origin has white space or a control character"),
        _ => None,
    }
}

/// A DNS name as RFC 1123 has it, underscores allowed as in the names of containers, or an IPv4
/// address of four decimal numbers.
fn check_host(host: &str) -> Result<(), Error> {
    if host.is_empty() {
        return Err(misconfigured("an origin has no host"));
    }
    let label_ok = |label: &str| {
        matches!(label.len(), 1..=63)
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_ok) {
        return Err(misconfigured(
            "an origin has a host that is neither a DNS name nor an IP address",
        ));
    }
    // Resolvers read 127.1, 0x7f000001 and 2130706433 as addresses: only the plain spelling of
    // an address is one here, and what another program would take for an address is not a name.
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(hexadecimal);
    if numeric && Ipv4Addr::from_str(host).is_err() {
        return Err(misconfigured(
            "an origin has a host that is neither a name nor a whole IPv4 address",
        ));
    }
    Ok(())
}

/// What follows the host: nothing, or a colon and a number without leading zeros.
fn parse_port(text: &str) -> Result<u16, Error> {
    if text.is_empty() {
        return Ok(443);
    }
    text.strip_prefix(':')
        // The standard parser would let a plus sign through.
        .filter(|digits| digits.starts_with(|first: char| matches!(first, '1'..='9')))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| misconfigured("an origin has a port that is not a number from 1 to 65535"))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
