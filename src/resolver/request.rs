//! What a layer passes on to the next.

mod batch;
mod owned;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::TimeLimit;
use crate::name::NameRef;
use crate::secret::{Record, Version};
pub use batch::Batch;
pub(crate) use owned::OwnedRequest;

/// One read: small, passed by value.
///
/// ```
/// use secret_resolver::backend::{NameRef, Request};
/// use secret_resolver::Version;
///
/// let floor = Version::number(3);
/// let request = Request::new(NameRef::parse("prod/db#password")?).at_least(&floor);
/// assert!(request.accepts(&Version::number(4)));
/// assert!(!request.accepts(&Version::number(2)));
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    name: NameRef<'a>,
    version: Option<&'a Version>,
    floor: Option<&'a Version>,
    held: Option<Held<'a>>,
    deadline: Option<Moment>,
    /// What `Clock::lost` said when the deadline was set; `None` for a caller's own, which nothing moves.
    lost_before: Option<Duration>,
    endpoint: Option<usize>,
    tried: Tried,
    alternative: bool,
    latest: bool,
    batch: Option<&'a Arc<Batch>>,
}

/// Endpoints that were asked already: the first 64 of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried(u64);

impl Tried {
    pub(crate) fn add(&mut self, endpoint: usize) {
        self.0 |= Self::bit(endpoint);
    }

    pub(crate) fn has(self, endpoint: usize) -> bool {
        self.0 & Self::bit(endpoint) != 0
    }

    pub(crate) fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn bit(endpoint: usize) -> u64 {
        let shift = u32::try_from(endpoint).unwrap_or(u32::MAX);
        1_u64.checked_shl(shift).unwrap_or_default()
    }
}

/// Which version is held: one that is given, or that of a value for as long as it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held<'a> {
    Version(&'a Version),
    By(&'a Arc<dyn Holder>),
}

/// The holder of a value, which drops it when its time is over or it is invalidated. A read
/// that hangs must not keep the version then either: it may be a digest of the value.
pub(crate) trait Holder: fmt::Debug + Send + Sync {
    fn version(&self) -> Option<Version>;
    fn validator(&self) -> Option<Version>;
}

impl<'a> Request<'a> {
    /// A read of the current version of `name`.
    #[must_use]
    pub fn new(name: NameRef<'a>) -> Self {
        Self {
            name,
            version: None,
            floor: None,
            held: None,
            deadline: None,
            lost_before: None,
            endpoint: None,
            tried: Tried::default(),
            alternative: false,
            latest: false,
            batch: None,
        }
    }

    /// Asks for exactly this version. Such a read is never answered from a cache.
    #[must_use]
    pub fn with_version(mut self, version: &'a Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Accepts no version that is known to be lower than `floor`.
    #[must_use]
    pub fn at_least(mut self, floor: &'a Version) -> Self {
        self.floor = Some(floor);
        self
    }

    /// Asks for the version that the store has now, past replicas that may be behind: a signal has said that
    /// it has changed.
    #[must_use]
    pub fn latest(mut self) -> Self {
        self.latest = true;
        self
    }

    /// Says which version is held, for stores with conditional reads: a backend whose store answers
    /// "unchanged, and you may still read it" returns [`Record::unchanged`]. The value itself does not
    /// travel: a read that hangs must not keep it.
    #[must_use]
    pub fn with_held(mut self, held: &'a Version) -> Self {
        self.held = Some(Held::Version(held));
        self
    }

    pub(crate) fn with_held_by(mut self, held: Held<'a>) -> Self {
        self.held = Some(held);
        self
    }

    /// Ends the wait at `deadline`, a moment on the resolver's clock.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Moment) -> Self {
        self.deadline = Some(deadline);
        self.lost_before = None;
        self
    }

    /// Gives the store until `deadline`, and as much longer as this process does not run meanwhile.
    /// `lost` is what `Clock::lost` said when the deadline was set.
    pub(crate) fn while_running(mut self, deadline: Moment, lost: Duration) -> Self {
        self.deadline = Some(deadline);
        self.lost_before = Some(lost);
        self
    }

    /// The same request with its deadline as it is now, for code that knows only fixed deadlines.
    pub(crate) fn as_of_now(self, clock: &dyn Clock) -> Self {
        let (Some(deadline), Some(before)) = (self.deadline, self.lost_before) else {
            return self;
        };
        let lost = clock.lost();
        self.while_running(deadline + lost.saturating_sub(before), lost)
    }

    /// When the wait ends.
    pub(crate) fn limit<'c>(&self, clock: &'c dyn Clock) -> Option<TimeLimit<'c>> {
        let deadline = self.deadline?;
        Some(match self.lost_before {
            Some(before) => TimeLimit::since(clock, deadline, before),
            None => TimeLimit::strict(clock, deadline),
        })
    }

    /// When the wait ends, as far as is known now. To compare it with the time, ask for the time first.
    pub(crate) fn ends(&self, clock: &dyn Clock) -> Option<Moment> {
        self.limit(clock).map(|limit| limit.end())
    }

    /// Directs the read to one of the store's endpoints, counted from 0; see
    /// [`SecretResolver::endpoints`](crate::SecretResolver::endpoints).
    #[must_use]
    pub fn at_endpoint(mut self, endpoint: usize) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// The same request for endpoints that were not tried.
    pub(crate) fn elsewhere(mut self, tried: Tried) -> Self {
        self.tried = tried;
        self
    }

    pub(crate) fn tried(&self) -> Tried {
        self.tried
    }

    /// Whether this endpoint may be asked.
    pub(crate) fn may_ask(&self, endpoint: usize) -> bool {
        !self.tried.has(endpoint)
    }

    /// Says whether another endpoint is asked when this one gives no answer.
    pub(crate) fn with_alternative(mut self, alternative: bool) -> Self {
        self.alternative = alternative;
        self
    }

    pub(crate) fn has_alternative(&self) -> bool {
        self.alternative
    }

    /// The same request for another name, and for no particular endpoint: a request that leads to another
    /// resolver's names also leads to that resolver's endpoints.
    pub(crate) fn renamed<'b>(self, name: NameRef<'b>) -> Request<'b>
    where
        'a: 'b,
    {
        let mut request: Request<'b> = self;
        request.name = name;
        request.endpoint = None;
        request.tried = Tried::default();
        request.alternative = false;
        request.batch = None;
        request
    }

    /// The same request for these names, too. It accepts any version: a name whose version is refused fails alone.
    pub(crate) fn with_batch(mut self, batch: &'a Arc<Batch>) -> Self {
        self.batch = Some(batch);
        self.floor = None;
        self
    }

    /// Other names to be read in the same request of the store; for a backend that reads several
    /// [at once](crate::SecretResolver::at_once).
    #[must_use]
    pub fn batch(&self) -> Option<&'a Batch> {
        self.batch.map(|batch| &**batch)
    }

    /// The name asked for.
    #[must_use]
    pub fn name(&self) -> NameRef<'a> {
        self.name
    }

    /// The exact version asked for; `None` for the current one.
    #[must_use]
    pub fn version(&self) -> Option<&'a Version> {
        self.version
    }

    /// The lowest version accepted.
    #[must_use]
    pub fn floor(&self) -> Option<&'a Version> {
        self.floor
    }

    /// Whether an answer of a replica that may be behind is not good enough. A
    /// [`Resolver`](crate::Resolver) asks this after a signal for the secret, until it was answered and its
    /// settle time is over; for a minute at most. A backend whose
    /// store has replicas goes past them, by its store's own means.
    #[must_use]
    pub fn wants_latest(&self) -> bool {
        self.latest
    }

    /// The version already held, if the value is still there. Ask when it is to be sent, and keep it no
    /// longer: it may be a digest of the value.
    #[must_use]
    pub fn held(&self) -> Option<Version> {
        match self.held? {
            Held::Version(version) => Some(version.clone()),
            Held::By(holder) => holder.version(),
        }
    }

    /// The store's mark of the value already held, if it is still there ([`Version::as_tag`]): for a conditional read. Ask when it is
    /// to be sent, and keep it no longer: it may be a digest of the value.
    #[must_use]
    pub fn validator(&self) -> Option<Version> {
        let mark = match self.held? {
            Held::Version(version) => Some(version.clone()),
            Held::By(holder) => holder.validator(),
        };
        mark.filter(|mark| mark.as_tag().is_some())
    }

    /// When the caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// The endpoint to ask; `None` for the backend's own choice.
    #[must_use]
    pub fn endpoint(&self) -> Option<usize> {
        self.endpoint
    }

    /// The record if this request accepts its version: the last step of every backend.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for another version than the one asked for;
    /// [`ErrorKind::Refused`] for one below the lowest accepted.
    pub fn admit(&self, record: Record) -> Result<Record, Error> {
        let error = match record.version() {
            version if self.accepts(version) => return Ok(record),
            version if self.version.is_some_and(|wanted| version != wanted) => Error::new(
                ErrorKind::NotFound,
                "the store does not answer the version that was asked for",
            ),
            _ => Error::new(
                ErrorKind::Refused,
                "the store answers a lower version than the lowest accepted",
            ),
        };
        Err(error.with_backend(record.answer().backend()))
    }

    /// Whether an answer of `version` is one that this request accepts.
    #[must_use]
    pub fn accepts(&self, version: &Version) -> bool {
        // A version that cannot be compared with the floor is not known to be lower.
        let high_enough = self
            .floor
            .is_none_or(|floor| version.partial_cmp(floor) != Some(std::cmp::Ordering::Less));
        high_enough && self.version.is_none_or(|wanted| version == wanted)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::ManualClock;

    #[test]
    fn a_version_that_is_held_is_the_one_that_the_store_is_told() {
        let request = Request::new(NameRef::parse("a").unwrap());
        assert_eq!(request.held(), None);
        let version = Version::number(7);
        assert_eq!(request.with_held(&version).held(), Some(Version::number(7)));
    }

    #[test]
    fn a_deadline_of_a_caller_is_not_put_off_by_time_that_the_process_lost() {
        let clock = ManualClock::strict();
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let request = Request::new(NameRef::parse("a").unwrap());
        let request = request.while_running(at(5), Duration::ZERO);
        clock.stall(Duration::from_secs(2));
        assert_eq!(request.ends(&clock), Some(at(7)));
        assert_eq!(request.with_deadline(at(6)).ends(&clock), Some(at(6)));
    }
}
