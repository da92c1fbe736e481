//! One login for all requests of a backend.
//!
//! Most stores give a token for credentials and take it with every request. The rules for
//! that are the same for each of them, and are here: a [`Session`] logs in when a token is first needed,
//! keeps the token alive while it is in use, replaces it before it dies, and revokes what it leaves. The
//! [`Store`] trait has what differs between stores.
//!
//! - **One login at a time** at an endpoint, whatever the number of requests. It is its own task: a
//!   caller that leaves does not end it.
//! - **An outage is not a refusal.** A login or a lookup that the store did not answer uses up no cap,
//!   holds nothing back and ends no token. The error is the outage.
//! - **A refusal is held back** for 1 s, doubling up to 30 s, and answered meanwhile with its own kind
//!   and cause. A changed credential ends that. Where the store [may lock the identity out](Store::may_lock_out), the third is
//!   held back for 16 to 20 minutes, until the store has forgotten it. The logins that the store answers with a token or a refusal
//!   are at most three at once and one a second in the long run.
//! - **A refused read is looked into** ([`Session::judge`]): a policy that denies costs no login, a dead
//!   token costs one. All reads that are refused meanwhile share one lookup.
//! - **No single answer is final.** A refused token is asked about at the other endpoints, and one
//!   that knows it decides; a first refusal of a login is confirmed at one other endpoint, not at all of them, because
//!   stores lock out what is refused too often. A token that was given is tried again, and a token that may
//!   live is revoked.
//! - **What is left is revoked**: tokens that are replaced, given up, unfit for use or issued after the
//!   end; again and again, if it fails. What could not be revoked is counted at the shutdown.
//! - **A login outlasts nothing that it was made with**: a token that a [`Jwt`] gave is replaced before the end of the
//!   JWT, where that is known, and a token that a client certificate vouches for when the certificate is another
//!   ([`Store::certificate`]).
//!
//! It knows nothing of HTTP. Its errors name no backend; the backend adds its own name.
//!
//! # How a backend uses it
//! Each read is this loop, within [`Attempt::run`]: it asks for a token, sends, and has a refusal judged.
//!
//! ```
//! use std::sync::Arc;
//! use secret_resolver::{Clock, Error, ErrorKind, SecretBuf, testing::ManualClock};
//! use secret_resolver_session::{
//!     Attempt, Credential, Grant, Issued, Session, Store, Verdict, Waiting,
//! };
//!
//! /// A store that takes the key for the token, and lets it live for ever.
//! struct Keys(Credential);
//!
//! impl Store for Keys {
//!     const NAME: &'static str = "keys";
//!     type Credentials = Arc<SecretBuf>;
//!     fn method(&self) -> &'static str { "key" }
//!     fn issues_tokens(&self) -> bool { false }
//!     fn endpoints(&self) -> usize { 1 }
//!     fn endpoint(&self) -> usize { 0 }
//!     async fn load(&self) -> Result<Arc<SecretBuf>, Error> { self.0.load().await }
//!     async fn login(
//!         &self,
//!         key: &Arc<SecretBuf>,
//!         _: Option<usize>,
//!         _: &Waiting,
//!     ) -> Result<Issued, Error> {
//!         let grant = Grant { lease: None, renewable: false };
//!         Ok(Issued { token: Arc::clone(key), grant, revocable: false, unfit: None })
//!     }
//!     async fn renew(&self, _: &SecretBuf, _: u64) -> Result<Grant, Error> { unreachable!() }
//!     async fn revoke(&self, _: &SecretBuf, _: Option<usize>) -> Result<(), Error> { unreachable!() }
//!     async fn knows(&self, _: &SecretBuf, _: Option<usize>) -> Result<bool, Error> { Ok(true) }
//! }
//!
//! /// The store's answer to a read, and the endpoint that gave it.
//! enum Answer { Value(&'static str), Refused(usize) }
//! # fn send(_: &SecretBuf) -> Answer { Answer::Value("v") }
//!
//! async fn read(
//!     session: &Session<Keys>,
//!     attempt: &Attempt<'_, Keys>,
//! ) -> Result<&'static str, Error> {
//!     let mut again = false;
//!     loop {
//!         let token = attempt.token(None).await?;
//!         let sent = session.mark();
//!         match send(token.secret()) {
//!             Answer::Value(value) => {
//!                 token.worked();
//!                 return Ok(value);
//!             }
//!             Answer::Refused(endpoint) => match session.judge(&token, sent, endpoint, again).await? {
//!                 Verdict::Denied => return Err(Error::new(ErrorKind::Denied, "not by this login")),
//!                 Verdict::Replaced => {}
//!                 Verdict::Dead => again = true,
//!             },
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let key = Credential::value(SecretBuf::from_slice(b"correct horse")?);
//! let session = Session::new(Keys(key), Arc::new(ManualClock::new()) as Arc<dyn Clock>);
//! let attempt = session.attempt(None);
//! assert_eq!(attempt.run(std::pin::pin!(read(&session, &attempt))).await?, "v");
//! # Ok::<(), Error>(()) }).unwrap();
//! ```

mod attempt;
mod credential;
mod error;
mod jwt;
mod leaving;
mod life;
mod login;
mod pace;
mod random;
mod revocation;
mod session;
mod state;
mod store;
mod task;
mod verdict;
mod waiting;

pub use attempt::Attempt;
pub use credential::Credential;
pub use jwt::{Jwt, JwtFile, JwtFuture, JwtSource};
pub use session::{Session, Stats};
pub use state::Token;
pub use store::{Grant, Issued, Store};
pub use verdict::Verdict;
pub use waiting::Waiting;

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
