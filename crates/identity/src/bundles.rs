//! The authorities of trust domains, as the agent has given them last. Each domain has its own, and they are never put together: what
//! vouches for one domain vouches for no other (SPIFFE, X509-SVID 5.1).

use std::collections::HashMap;
use std::sync::Mutex;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::Authorities;
use spiffe::{TrustDomain, X509BundleSet};
use tokio::sync::watch;

use crate::error;
use crate::identity::lock;

/// The authorities of one trust domain, or why there are none.
pub(crate) type Bundle = Result<Authorities, Error>;

pub(crate) struct Bundles(Mutex<State>);

struct State {
    last: Result<X509BundleSet, Error>,
    /// Those who want to know, by domain.
    told: HashMap<TrustDomain, watch::Sender<Bundle>>,
}

impl Bundles {
    /// None yet, and why.
    pub(crate) fn new(why: Error) -> Self {
        Self(Mutex::new(State {
            last: Err(why),
            told: HashMap::new(),
        }))
    }

    /// Those of this domain, and each change of them.
    pub(crate) fn of(&self, domain: &TrustDomain) -> watch::Receiver<Bundle> {
        let State { last, told } = &mut *lock(&self.0);
        let sender = told
            .entry(domain.clone())
            .or_insert_with(|| watch::Sender::new(authorities(last, domain)));
        sender.subscribe()
    }

    /// A message is the whole state.
    pub(crate) fn learn(&self, bundles: &X509BundleSet) {
        self.set(Ok(bundles.clone()));
    }

    /// Nobody is believed from now on.
    pub(crate) fn forget(&self, why: &Error) {
        self.set(Err(why.clone()));
    }

    /// Where nobody is believed, this is why.
    pub(crate) fn explain(&self, why: &Error) {
        if lock(&self.0).last.is_err() {
            self.forget(why);
        }
    }

    /// Wakes those who wait for the agent's first word.
    pub(crate) fn tell_again(&self) {
        let told = &lock(&self.0).told;
        told.values().for_each(|sender| sender.send_modify(|_| {}));
    }

    fn set(&self, bundles: Result<X509BundleSet, Error>) {
        let State { last, told } = &mut *lock(&self.0);
        *last = bundles;
        for (domain, sender) in told {
            let bundle = authorities(last, domain);
            sender.send_if_modified(|held| {
                let is_same = matches!((&*held, &bundle), (Ok(held), Ok(bundle)) if held == bundle);
                if !is_same {
                    *held = bundle;
                }
                !is_same
            });
        }
    }
}

fn authorities(bundles: &Result<X509BundleSet, Error>, domain: &TrustDomain) -> Bundle {
    let bundle = bundles.as_ref().map_err(Error::clone)?.get_ref(domain);
    let certificates = bundle.map(|bundle| bundle.authorities());
    let certificates = certificates.filter(|some| !some.is_empty()).ok_or_else(|| {
        let what = "the agent gives no authorities of the server's trust domain; does this workload's entry federate with it?";
        error::new(ErrorKind::Refused, what).with_detail(domain.to_string())
    })?;
    let ders = certificates.iter().map(|one| one.as_bytes().to_vec());
    Authorities::from_der(ders).map_err(|_| {
        let what = "the agent gives an authority that does not parse";
        error::new(ErrorKind::Malformed, what).with_detail(domain.to_string())
    })
}
