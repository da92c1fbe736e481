//! The leader's answer, whichever endpoint is asked.
//!
//! Standbys of OpenBao (2.5 and later) answer reads from their own data, which may be behind. Since 2.7 each
//! answer says how far its node is (`X-Vault-Index`), and a request may say how far a node must be and what
//! it does if it is not (`X-Vault-Inconsistent`). No node is ever as far as we ask for, and the leader does not
//! compare: so every standby forwards the request to it, or fails. Tried on a cluster of 2.7.2; a dev server, and
//! servers without these headers, ignore them. They name the cluster, which is learned from what is answered;
//! an index of another cluster is ignored.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use secret_resolver::Error;
use secret_resolver_transport::{Request, Response};
use serde::{Deserialize, Serialize};

use crate::object::Object;

/// The cluster whose leader is asked for, once it is known.
#[derive(Debug, Default)]
pub(crate) struct Leader(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    cluster: Box<str>,
    header: Arc<str>,
}

/// What an index says, in base64.
#[derive(Deserialize, Serialize)]
struct Index<'a> {
    #[serde(borrow)]
    cluster: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

const INDEX: &str = "X-Vault-Index";

/// The largest number that every implementation reads, in decimals.
const NO_NODE: &str = "9223372036854775807";

/// The most that is read of an index; they have about a hundred bytes.
const LONGEST: usize = 1 << 10;

impl Leader {
    /// Learns which cluster this answer comes from, if it says so.
    pub(crate) fn learn(&self, response: &Response) {
        let Some(index) = response
            .header(INDEX)
            .filter(|index| index.len() <= LONGEST)
        else {
            return;
        };
        let Ok(json) = BASE64_STANDARD.decode(index) else {
            return;
        };
        // Another form comes from another server, such as Vault Enterprise: its nodes take only their own.
        let Ok(Object(Index { cluster, .. })) = serde_json::from_slice(&json) else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .as_ref()
            .is_some_and(|known| *known.cluster == *cluster)
        {
            return;
        }
        let index = Index {
            cluster: Cow::Borrowed(&cluster),
            value: Cow::Borrowed(NO_NODE),
        };
        *known = serde_json::to_vec(&index).ok().map(|json| Known {
            cluster: cluster.as_ref().into(),
            header: BASE64_STANDARD.encode(json).into(),
        });
    }

    /// The request, for the leader, where its cluster is known.
    pub(crate) fn only(&self, request: Request) -> Result<Request, Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let header = known.as_ref().map(|known| Arc::clone(&known.header));
        drop(known);
        match header {
            None => Ok(request),
            Some(header) => request
                .with_header(INDEX, &header)?
                .with_header("X-Vault-Inconsistent", "forward-active-node"),
        }
    }
}
