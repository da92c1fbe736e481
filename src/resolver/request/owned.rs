//! A request that owns its parts, to travel to another thread.

use std::sync::Arc;

use super::{Batch, Held, Holder, Request, Tried};
use crate::clock::Moment;
use crate::name::SecretName;
use crate::secret::Version;

pub(crate) struct OwnedRequest {
    name: SecretName,
    version: Option<Version>,
    floor: Option<Version>,
    held: Option<OwnedHeld>,
    deadline: Option<Moment>,
    endpoint: Option<usize>,
    tried: Tried,
    alternative: bool,
    latest: bool,
    batch: Option<Arc<Batch>>,
}

enum OwnedHeld {
    Version(Version),
    By(Arc<dyn Holder>),
}

impl OwnedRequest {
    pub(crate) fn of(request: &Request<'_>) -> Self {
        // Each by its name, so that none is forgotten that is added.
        let Request {
            name,
            version,
            floor,
            held,
            deadline,
            // There is one clock, but a store knows a plain deadline.
            lost_before: _,
            endpoint,
            tried,
            alternative,
            latest,
            batch,
        } = *request;
        Self {
            name: name.to_owned(),
            version: version.cloned(),
            floor: floor.cloned(),
            held: held.map(|held| match held {
                Held::Version(version) => OwnedHeld::Version(version.clone()),
                Held::By(holder) => OwnedHeld::By(Arc::clone(holder)),
            }),
            deadline,
            endpoint,
            tried,
            alternative,
            latest,
            batch: batch.cloned(),
        }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            name: self.name.borrowed(),
            version: self.version.as_ref(),
            floor: self.floor.as_ref(),
            held: self.held.as_ref().map(|held| match held {
                OwnedHeld::Version(version) => Held::Version(version),
                OwnedHeld::By(holder) => Held::By(holder),
            }),
            deadline: self.deadline,
            lost_before: None,
            endpoint: self.endpoint,
            tried: self.tried,
            alternative: self.alternative,
            latest: self.latest,
            batch: self.batch.as_ref(),
        }
    }
}
