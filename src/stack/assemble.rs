//! The one place where layers are put in order, with a reason for each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::clock::Clock;
use crate::downgrade::Downgrades;
use crate::driver::Driver;
use crate::error::Error;
use crate::foreign::foreign;
use crate::fork::Process;
use crate::invalidate::Invalidator;
use crate::layers::{
    Attempt, Breaker, BreakerMonitor, Cache, CacheConfig, Deadline, Fallback, Gather, Lanes, Limit,
    OwnThread, Retry, Route,
};
use crate::resolver::SecretResolver;
use crate::rules::ByPrefix;
use crate::status::StoreStatus;

use super::ResolverBuilder;
use super::privilege::Privilege;

/// Puts the layers in order, innermost first.
pub(super) fn assemble(config: ResolverBuilder, clock: Arc<dyn Clock>) -> Result<Stack, Error> {
    let ResolverBuilder {
        primary,
        routes,
        retry,
        breaker,
        limit,
        mut cache,
        deadline,
        fallbacks,
        on_downgrade,
        least_privilege,
        clock: _,
    } = config;
    let budget = cache.flight_budget;
    // What has its own limit takes no place of others anywhere.
    for (prefix, limit) in limit.prefixes() {
        let most = limit.max_concurrent as usize + limit.max_queued as usize;
        cache.max_flights.set(prefix, most);
    }
    let downgrades = Downgrades::new(on_downgrade);
    // Fetches of every cache run on one thread: it runs our code alone.
    let driver = Arc::new(Driver::for_fetches()?);
    let mut stores = Vec::new();
    let mut guarded = |name: &str, store: Arc<dyn SecretResolver>| {
        let unguarded = Arc::clone(&store);
        // Innermost, so that no store's code runs on a thread with ours or with another store's.
        let store = OwnThread::start(store)?;
        // All guards once for each prefix with its own limit, so that a flood there fills no
        // queue, opens no breaker and spends no retry of others.
        let layers = Lanes::new(store, limit.clone(), |store, limit_for, mut limit| {
            // An attempt has half of the fetch's budget, so that one which hangs leaves time for
            // another. Right above the store: it measures the store's time and nothing of ours.
            let attempt = budget / 2;
            let layers = Attempt::new(store, Arc::clone(&clock), attempt);
            // A timeout counts only of an attempt that had a fair time; no attempt has more than its
            // own.
            let mut breaker = breaker;
            breaker.fair_time = breaker.fair_time.min(attempt / 2);
            // The breaker counts attempts, and directs each to the next endpoint that answers.
            let layers = Breaker::new(layers, Arc::clone(&clock), breaker)?;
            stores.push(Guarded {
                name: name.to_owned(),
                limit_for: limit_for.map(str::to_owned),
                breaker: layers.monitor(),
                store: Arc::clone(&unguarded),
            });
            // Waiting for a permit is not a failure of the store: outside the attempt's time and of what
            // the breaker sees. The breaker is asked when the turn comes, not before: a store that
            // has asked to be left alone meanwhile is not sent the whole queue.
            // A request that has waited gets an attempt's whole time: otherwise a queue of ours would
            // make a store that is merely slow time out, and open its breaker.
            limit.fair_time = attempt;
            let layers = Limit::new(layers, Arc::clone(&clock), limit)?;
            // Retries go round both: a back-off holds no permit, and the next attempt finds the next
            // endpoint.
            let layers = Retry::new(layers, Arc::clone(&clock), retry)?;
            // Above all guards, so that names which the store reads in one request are one request to them.
            Ok(Gather::new(layers, Arc::clone(&clock)))
        })?;
        // One virtual call, at the edge: what is above is compiled as one.
        Ok::<Arc<dyn SecretResolver>, Error>(Arc::new(layers))
    };
    let primary = guarded(PRIMARY, primary)?;
    let layers = match routes.is_empty() {
        true => primary,
        false => {
            // Above the guards, so that a store which is away takes no other with it; below the
            // cache, so that there is one.
            let mut route = Route::builder();
            for (prefix, store) in routes {
                cache.stores.set(&prefix, audit::Store::new(&prefix));
                let store = guarded(&prefix, store)?;
                route = route.route(prefix, store);
            }
            Arc::new(route.otherwise(primary).build()?)
        }
    };
    // The cache shares one fetch among all waiters and gives it its own budget, which no caller
    // shortens. Stale values are its decision: only it knows what was invalidated.
    let layers = Cache::shared(
        layers,
        Arc::clone(&clock),
        cache,
        Arc::clone(&driver),
        downgrades.clone(),
    )?;
    let mut caches = vec![layers.invalidates()];
    // The fallback stands outside the cache, so that its answer can neither replace the primary's
    // entry nor hide the primary's error from the decision above.
    fallbacks.check()?;
    let fallbacks = fallbacks.map(|_, fallback| {
        let Some(fallback) = fallback else {
            return Ok(None);
        };
        tracing::warn!(
            "a dangerous fallback is configured: an outage of the store makes it the source"
        );
        let short = CacheConfig {
            stores: ByPrefix::new(audit::Store::new("fallback")),
            ttl: ByPrefix::new(FALLBACK_TTL),
            counts_hits: false,
            // What is left of a caller's deadline after the primary's budget, and no more.
            flight_budget: deadline / 5,
            ..CacheConfig::default()
        };
        let none = Downgrades::default();
        // As above: it is a store, too.
        let fallback: Arc<dyn SecretResolver> = Arc::new(OwnThread::start(fallback)?);
        let cache = Cache::shared(
            fallback,
            Arc::clone(&clock),
            short,
            Arc::clone(&driver),
            none,
        )?;
        caches.push(cache.invalidates());
        Ok(Some(cache))
    })?;
    let layers = Fallback::new(layers, fallbacks, Arc::clone(&clock), downgrades.clone());
    // The caller's deadline is outermost: it covers waiting for another's fetch and the fallback,
    // and ends a wait without ending the fetch.
    let layers = Deadline::strict(layers, Arc::clone(&clock), deadline);
    #[cfg(feature = "metrics")]
    {
        let primary = layers.inner().primary();
        let shown = stores.clone();
        let ended = stores.clone();
        primary.publish(
            move |now| shown.iter().for_each(|store: &Guarded| store.publish(now)),
            move |now| audit::has_ended(ended.iter().map(Guarded::at_rest).collect(), now),
        );
    }
    Ok(Stack {
        process: Process::current(),
        layers,
        clock,
        downgrades,
        invalidator: Invalidator::new(caches),
        stores,
        privilege: Privilege::new(least_privilege),
    })
}

/// What the status calls the store of all names without a route.
const PRIMARY: &str = "primary";

/// How long a fallback's answer is kept: enough that an outage does not ask it at every get.
const FALLBACK_TTL: Duration = Duration::from_secs(2);

/// The layers, outermost first.
pub(super) struct Stack {
    pub(super) process: Process,
    pub(super) layers: Deadline<Fallback>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) downgrades: Downgrades,
    pub(super) invalidator: Invalidator,
    /// The guards of each store, the primary's first.
    pub(super) stores: Vec<Guarded>,
    pub(super) privilege: Privilege,
}

/// A store behind its guards, or those of a prefix with its own limit.
#[derive(Clone)]
pub(super) struct Guarded {
    name: String,
    limit_for: Option<String>,
    pub(super) breaker: BreakerMonitor,
    store: Arc<dyn SecretResolver>,
}

impl Guarded {
    /// As logs call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            name: self.name.clone(),
            limit_for: self.limit_for.clone(),
            endpoints: self.breaker.status(),
            held_back: self.breaker.held_back(),
            login_ends: foreign(|| self.store.login_ends()).flatten(),
            identity: foreign(|| self.store.identity_status()).flatten(),
        }
    }

    /// The same, without asking the store's code, which may be gone.
    #[cfg(feature = "metrics")]
    fn at_rest(&self) -> StoreStatus {
        StoreStatus {
            name: self.name.clone(),
            limit_for: self.limit_for.clone(),
            endpoints: self.breaker.status(),
            held_back: None,
            login_ends: None,
            identity: None,
        }
    }

    #[cfg(feature = "metrics")]
    fn publish(&self, now: crate::clock::Moment) {
        audit::store_is(self.status(), now);
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}
