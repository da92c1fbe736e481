//! JSON Web Tokens as credentials of a login, and where they come from.
//!
//! A JWT is opaque here: its form is looked at, its claims are not. Whether it is good is for the store to
//! say.

mod file;

pub use file::JwtFile;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use secret_resolver::{Error, IdentityStatus, Moment, SecretBuf};

use crate::error;

/// A source of JWTs: it is asked at each login.
///
/// # Errors
/// A source that has no JWT now, and may have one soon, answers
/// [`Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated), marked by
/// [`held_back`](Error::held_back): the store was not asked. What can never be a JWT is
/// [`Misconfigured`](secret_resolver::ErrorKind::Misconfigured). No error quotes a JWT.
///
/// A login takes each error as [`Error::of_credential`] does, and a panic as `Unauthenticated`. So does it take one that hangs, or leaves the
/// store less than half of a read's time. Nothing of it is taken for an outage of the store, which permits exceptions. A source that
/// blocks its thread is: then nobody can look at the time. Work that blocks goes on after its login was given up, and names are resolved
/// on the same 32 threads (`tokio::task::spawn_blocking`): give it an end of its own.
///
/// # Cancel safety
/// The future may be dropped at any time.
///
/// ```
/// use secret_resolver::SecretBuf;
/// use secret_resolver_session::{Jwt, JwtFuture, JwtSource};
///
/// /// One JWT, given in code.
/// #[derive(Debug)]
/// struct Fixed(Jwt);
///
/// impl JwtSource for Fixed {
///     fn jwt(&self) -> JwtFuture<'_> {
///         JwtFuture::ready(Ok(self.0.clone()))
///     }
/// }
///
/// let jwt = Jwt::new(SecretBuf::from_slice(b"eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmVk")?)?;
/// assert_eq!(format!("{:?}", Fixed(jwt)), "Fixed(Jwt { ends: None, .. })");
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub trait JwtSource: fmt::Debug + Send + Sync + 'static {
    /// The JWT as it is now, for one login. Polled on a tokio runtime: the thread of the backend, which it may not block. It is waited for 12 s
    /// at most, and a read that waits for it ends before that, by its own time.
    fn jwt(&self) -> JwtFuture<'_>;

    /// The store has refused a login with this JWT. A source that keeps its JWTs for a while may get another sooner. It may not block.
    /// By default nothing is done.
    fn refused(&self, _: &Jwt) {}

    /// The identity that its JWTs prove, where it knows it; for readiness probes. By default there is none.
    fn status(&self) -> Option<IdentityStatus> {
        None
    }
}

/// A JWT in the compact form (RFC 7519, 3; RFC 7515, 7.1), and when it ends, if its source knows.
///
/// A clone shares the text. Two are equal when their texts are. `Debug` shows the end alone.
#[derive(Clone)]
pub struct Jwt {
    text: Arc<SecretBuf>,
    ends: Option<Moment>,
}

/// What [`JwtSource::jwt`] returns.
#[must_use = "a future does nothing until it is awaited"]
pub struct JwtFuture<'a>(Pin<Box<dyn Future<Output = Result<Jwt, Error>> + Send + 'a>>);

impl Jwt {
    /// A signed JWT without a known end.
    ///
    /// # Errors
    /// [`Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when it is not three parts in base64url
    /// with dots between them; nothing of it is quoted.
    pub fn new(text: impl Into<Arc<SecretBuf>>) -> Result<Self, Error> {
        let text = text.into();
        match is_compact(text.expose()) {
            true => Ok(Self { text, ends: None }),
            false => Err(error::no_jwt()),
        }
    }

    /// Its end on the resolver's clock. From then on it is not sent, and no token that it has given is used.
    #[must_use]
    pub fn with_end(mut self, ends: Moment) -> Self {
        self.ends = Some(ends);
        self
    }

    /// When it ends, if that is known.
    #[must_use]
    pub fn ends(&self) -> Option<Moment> {
        self.ends
    }

    /// The text, for the body of a login.
    #[must_use]
    pub fn secret(&self) -> &SecretBuf {
        &self.text
    }

    /// The text, where the JWT is itself the token.
    #[must_use]
    pub fn shared(&self) -> Arc<SecretBuf> {
        Arc::clone(&self.text)
    }
}

/// Three parts of base64url without padding, none of them empty: a JWT without a signature proves nothing.
fn is_compact(text: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // One digit more than whole groups of four is no byte (RFC 4648, 4).
        !part.is_empty() && part.len() % 4 != 1 && part.iter().all(is_digit)
    };
    let mut parts = text.split(|&byte| byte == b'.');
    let three = (0..3).all(|_| parts.next().is_some_and(is_part));
    three && parts.next().is_none()
}

impl<'a> JwtFuture<'a> {
    /// A JWT, or an error, that is there.
    pub fn ready(jwt: Result<Jwt, Error>) -> Self {
        Self::new(std::future::ready(jwt))
    }

    /// From any future of a JWT.
    pub fn new(future: impl Future<Output = Result<Jwt, Error>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for JwtFuture<'_> {
    type Output = Result<Jwt, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<S: JwtSource + ?Sized> JwtSource for Arc<S> {
    fn jwt(&self) -> JwtFuture<'_> {
        (**self).jwt()
    }

    fn refused(&self, jwt: &Jwt) {
        (**self).refused(jwt);
    }

    fn status(&self) -> Option<IdentityStatus> {
        (**self).status()
    }
}

impl PartialEq for Jwt {
    /// Whether the texts are equal, in time that depends on their length alone.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Jwt {}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secret_resolver::ErrorKind;

    fn jwt(text: &str) -> Result<Jwt, Error> {
        Jwt::new(SecretBuf::from_slice(text.as_bytes())?)
    }

    #[test]
    fn three_parts_in_base64url_are_a_jwt_and_nothing_else_is() {
        for good in ["ab.cd.ef", "eyJh.e30.c2ln", "a-.b_.c0d"] {
            assert!(jwt(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "ab.cd",
            "ab.cd.",
            ".cd.ef",
            "ab..ef",
            "ab.cd.ef.gh",
            "ab.cd.ef=",
            "ab.c+d.ef",
            "ab.c/d.ef",
            "ab.cd.ef\n",
            " ab.cd.ef",
            "abcde.cd.ef",
            "ab.cd.é",
            "hvs.canary-7f3a",
        ] {
            let error = jwt(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{bad}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn a_jwt_is_told_from_another_by_its_text_and_shows_none_of_it() {
        let (one, other) = (jwt("ab.canary0.ef").unwrap(), jwt("ab.canary1.ef").unwrap());
        assert_ne!(one, other);
        let later = one.clone().with_end(Moment::ZERO);
        assert_eq!(one, later);
        assert_eq!(later.ends(), Some(Moment::ZERO));
        assert!(!format!("{one:?} {later:#?}").contains("canary"));
    }
}
