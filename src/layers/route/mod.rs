//! One resolver of several stores: each prefix of names belongs to one of them.
//!
//! It decides by the name alone, before anything is asked, and never asks a second store: what one
//! store refuses or lacks is not looked for in another. Falling back is policy, and not done here.
//!
//! Prefixes are compared byte by byte, in whole segments. A name in another letter case or Unicode
//! form is another name here, whatever a store makes of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use futures_util::future::join_all;

use crate::address::{Address, Located};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::name::NameRef;
use crate::resolver::{
    Excess, ExcessFuture, Request, ResolveFuture, SecretResolver, ShutdownFuture, ShutdownReport,
};
use crate::rules::check_prefix;
use crate::rules::is_below;
use crate::status::IdentityStatus;

/// Gives each name to the store of the longest prefix that it is below.
///
/// A prefix is a path. The prefix `prod` has the names whose path is `prod` or begins with
/// `prod/`, whatever their field: `prod#a` and `prod/db#a`, not `production`.
///
/// A name without a store is [`ErrorKind::NotFound`]: the same answer, for the same reason, as from a
/// store that does not have it. It permits neither stale values nor a fallback.
///
/// # Order
/// Below the cache: one cache, with one bound, one fence and one flight a record, serves all
/// stores, since [`locate`](SecretResolver::locate) keeps their addresses apart. Above retry,
/// breaker and limit, so that each store has its own: below a common one, a dead store would spend
/// the retries, open the breaker and hold the permits of the healthy ones.
///
/// # Cancel safety
/// It holds nothing: dropping a future drops what it asked for.
#[derive(Debug)]
pub(crate) struct Route {
    /// Which of the stores has a prefix.
    prefixes: BTreeMap<Box<str>, usize>,
    otherwise: Option<usize>,
    stores: Box<[Arc<dyn SecretResolver>]>,
}

/// Prefixes and their stores, on the way to a [`Route`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub(crate) struct RouteBuilder {
    prefixes: Vec<(Box<str>, usize)>,
    otherwise: Vec<usize>,
    stores: Vec<Arc<dyn SecretResolver>>,
}

impl Route {
    /// Without any store yet.
    pub(crate) fn builder() -> RouteBuilder {
        RouteBuilder::default()
    }

    /// The number of the store that has the names at and below `path`.
    fn number_for(&self, path: &str) -> Option<usize> {
        let mut prefix = path;
        loop {
            if let Some(&number) = self.prefixes.get(prefix) {
                return Some(number);
            }
            // From the whole path up, segment by segment: the first hit is the longest prefix.
            match prefix.rfind('/') {
                Some(end) => prefix = &prefix[..end],
                None => return self.otherwise,
            }
        }
    }

    fn store_for(&self, name: NameRef<'_>) -> Option<(usize, &Arc<dyn SecretResolver>)> {
        let number = self.number_for(name.path())?;
        Some((number, self.stores.get(number)?))
    }
}

impl RouteBuilder {
    /// Gives the names at and below `prefix` to `store`.
    ///
    /// The same `Arc` under several prefixes is one store.
    pub(crate) fn route(
        mut self,
        prefix: impl Into<Box<str>>,
        store: Arc<dyn SecretResolver>,
    ) -> Self {
        let number = self.number_of(store);
        self.prefixes.push((prefix.into(), number));
        self
    }

    /// Gives all other names to `store`. Without it they have none.
    pub(crate) fn otherwise(mut self, store: Arc<dyn SecretResolver>) -> Self {
        let number = self.number_of(store);
        self.otherwise.push(number);
        self
    }

    /// The router.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when there is no store, a prefix is not a path, or a prefix, or
    /// the rest, is given twice: which of the two was meant must not depend on their order.
    pub(crate) fn build(self) -> Result<Route, Error> {
        let wrong = |rule| Error::new(ErrorKind::Misconfigured, rule);
        if self.stores.is_empty() {
            return Err(wrong("a route needs a store: give it a prefix or the rest"));
        }
        if self.otherwise.len() > 1 {
            return Err(wrong("the rest of the names is given to a store twice"));
        }
        let mut prefixes = BTreeMap::new();
        for (prefix, number) in self.prefixes {
            let shown = format!("prefix {prefix:?}");
            check_prefix(&prefix).map_err(|error| error.with_detail(shown.clone()))?;
            if prefixes.insert(prefix, number).is_some() {
                return Err(wrong("a prefix is given to a store twice").with_detail(shown));
            }
        }
        Ok(Route {
            prefixes,
            otherwise: self.otherwise.first().copied(),
            stores: self.stores.into(),
        })
    }

    fn number_of(&mut self, store: Arc<dyn SecretResolver>) -> usize {
        // By the place in memory alone: two pointers to one store may differ in their tables.
        let place = |store: &Arc<dyn SecretResolver>| Arc::as_ptr(store).cast::<()>();
        let same = |known: &Arc<dyn SecretResolver>| place(known) == place(&store);
        match self.stores.iter().position(same) {
            Some(number) => number,
            None => {
                self.stores.push(store);
                self.stores.len() - 1
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Route {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        match self.store_for(request.name()) {
            Some((_, store)) => {
                // What was tried for this name was tried here.
                let tried = request.tried();
                store.resolve(request.renamed(request.name()).elsewhere(tried))
            }
            None => ResolveFuture::ready(Err(no_store(request.name()))),
        }
    }

    each_alone!(self);

    /// The store's own address behind the store's number, so that two stores which keep different
    /// secrets under one address are never one entry of a cache. The number counts stores in the
    /// order of the builder's calls.
    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        let Some((number, store)) = self.store_for(name) else {
            // No number is empty, so no store has this address.
            return Located::new(format!(":{}", name.path()), name.field().map(Cow::Borrowed));
        };
        let inner = store.locate(name);
        let field = inner.field().map(|field| Cow::Owned(field.to_owned()));
        Located::new(format!("{number}:{}", inner.address().as_str()), field)
    }

    /// Those of each store, behind its number: which of them a signal comes from is not known here.
    fn addresses<'a>(&'a self, own: &'a Address<'a>) -> Vec<Address<'a>> {
        let stores = self.stores.iter().enumerate();
        let of = |(number, store): (usize, &'a Arc<dyn SecretResolver>)| {
            let addresses = store.addresses(own).into_iter();
            addresses.map(move |address| Address::from(format!("{number}:{}", address.as_str())))
        };
        stores.flat_map(of).collect()
    }

    /// Those of each store that has names at or below the prefix.
    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        let path = prefix.path();
        let routed = self.prefixes.iter();
        let below = routed.filter(|(routed, _)| is_below(routed, path));
        let mut numbers: Vec<usize> = below.map(|(_, number)| *number).collect();
        numbers.extend(self.number_for(path));
        numbers.sort_unstable();
        numbers.dedup();
        let of = |number: usize| {
            let store = self.stores.get(number).into_iter();
            let addresses = store.flat_map(move |store| store.below(prefix));
            addresses.map(move |address| Address::from(format!("{number}:{}", address.as_str())))
        };
        numbers.into_iter().flat_map(of).collect()
    }

    /// Each store's own affair: its layers stand below.
    fn at_once(&self, _: &Request<'_>) -> usize {
        1
    }

    fn remembers(&self) -> bool {
        self.stores.iter().any(|store| store.remembers())
    }

    /// As many as the store with the most: a layer that asks again until every endpoint was asked asks
    /// often enough. Nobody above can direct a request, because endpoint 2 of one store is not endpoint
    /// 2 of another: a direction goes no further, and the layers of the store choose.
    fn endpoints(&self) -> usize {
        let endpoints = self.stores.iter().map(|store| store.endpoints());
        endpoints.max().unwrap_or(1)
    }

    /// Each store decides that: its layers stand below.
    fn origins(&self) -> Vec<String> {
        self.stores
            .iter()
            .flat_map(|store| store.origins())
            .collect()
    }

    fn spreads(&self) -> bool {
        false
    }

    /// Changes when any store's does.
    fn identity(&self) -> u64 {
        // Hashed, so that no two changes cancel each other out.
        let mut all = DefaultHasher::new();
        for store in &self.stores {
            all.write_u64(store.identity());
        }
        all.finish()
    }

    /// The first that ends.
    fn login_ends(&self) -> Option<Moment> {
        self.stores
            .iter()
            .filter_map(|store| store.login_ends())
            .min()
    }

    /// The first that there is.
    fn identity_status(&self) -> Option<IdentityStatus> {
        let mut stores = self.stores.iter();
        stores.find_map(|store| store.identity_status())
    }

    /// Each store is asked about its own names; one that has none of them is not asked.
    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        let mut of_stores = vec![(Vec::new(), Vec::new()); self.stores.len()];
        for (position, &name) in names.iter().enumerate() {
            let number = self.number_for(name.path());
            if let Some((own, positions)) = number.and_then(|number| of_stores.get_mut(number)) {
                own.push(name);
                positions.push(position);
            }
        }
        ExcessFuture::new(async move {
            let stores = self.stores.iter().zip(&of_stores);
            let asked = stores.filter(|(_, (own, _))| !own.is_empty());
            let answers = asked.map(async |(store, (own, positions))| {
                let found = store.excess(own).await?.into_iter();
                let found = found.filter_map(|excess| match excess {
                    Excess::Write(own) => positions.get(own).copied().map(Excess::Write),
                    other => Some(other),
                });
                Ok(found.collect::<Vec<_>>())
            });
            let answers: Result<Vec<_>, Error> = join_all(answers).await.into_iter().collect();
            answers.map(|answers| answers.concat())
        })
    }

    /// Shuts down all stores at once; the report is the sum of theirs.
    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            let ends = self.stores.iter().map(|store| store.shutdown(deadline));
            let reports = join_all(ends).await;
            reports
                .into_iter()
                .fold(ShutdownReport::default(), ShutdownReport::and)
        })
    }
}

fn no_store(name: NameRef<'_>) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "no store has a prefix of this name; add a route, or give the rest to a store",
    )
    .with_name(name)
}

#[cfg(test)]
mod tests;
