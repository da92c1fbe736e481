//! Several variables as one record, of one moment.
//!
//! Conjur gives no common moment of several variables, so they are read between two looks at their versions: where both looks
//! agree, none was written in between.

use futures_util::future::try_join_all;
use secret_resolver::backend::Request;
use secret_resolver::{Error, ErrorKind, Record, SecretBuf, Version};
use secret_resolver_session::Token;

use crate::answers::{self, Asked};
use crate::error;
use crate::names::Joined;
use crate::resolver::{Parts, Read};

/// How often they are read before it is an error.
const TRIES: usize = 3;

impl Parts {
    /// The variables of a record. Its version is the sum of theirs: each write adds one, so a lower sum is an older moment.
    pub(crate) async fn read_joined(
        &self,
        token: &Token,
        request: Request<'_>,
        joined: &Joined,
    ) -> Result<Read<Record>, Error> {
        if request.version().is_some() {
            return Err(error::new(
                ErrorKind::NotFound,
                "a record of several variables cannot be asked for in one version; ask for a variable",
            ));
        }
        // All at one endpoint: another may be behind.
        let (mut before, endpoint) = match self.versions(token, request.endpoint(), joined).await? {
            Read::Done(versions) => versions,
            Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
        };
        for _ in 0..TRIES {
            let fields = joined.fields().zip(&before);
            let values = fields.map(async |((_, id), &version)| {
                self.value(token, Some(endpoint), id, version).await
            });
            let values = match try_join_all(values).await {
                // Perhaps written so often meanwhile that the store has dropped these versions.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                values => values,
            };
            let after = match self.versions(token, Some(endpoint), joined).await? {
                Read::Done((versions, _)) => versions,
                Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
            };
            if before != after {
                before = after;
                continue;
            }
            let mut record = Record::builder(error::BACKEND);
            for ((field, _), value) in joined.fields().zip(values?) {
                match value {
                    Read::Done(value) => record = record.field(field, value),
                    Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
                }
            }
            let version = before
                .iter()
                .fold(0_u64, |sum, &one| sum.saturating_add(one));
            return record
                .version(Version::number(version))
                .build()
                .map(Read::Done);
        }
        Err(error::new(
            ErrorKind::Unavailable,
            "the variables of a record were written while they were read, each time; ask again",
        ))
    }

    /// The version of each variable, and the endpoint that gave them.
    async fn versions(
        &self,
        token: &Token,
        endpoint: Option<usize>,
        joined: &Joined,
    ) -> Result<Read<(Vec<u64>, usize)>, Error> {
        let mut ids = joined.fields().map(|(_, id)| id);
        let first = ids.next().unwrap_or_default();
        let (first, endpoint) = match self.latest(token, endpoint, first).await? {
            Read::Done(found) => found,
            Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
        };
        let others = ids.map(async |id| self.latest(token, Some(endpoint), id).await);
        let mut versions = vec![first];
        for other in try_join_all(others).await? {
            match other {
                Read::Done((version, _)) => versions.push(version),
                Read::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
            }
        }
        Ok(Read::Done((versions, endpoint)))
    }

    async fn value(
        &self,
        token: &Token,
        endpoint: Option<usize>,
        id: &str,
        version: u64,
    ) -> Result<Read<SecretBuf>, Error> {
        let path = self.client().path_of_version(id, version);
        let reply = self.client().read(&path, token.secret(), endpoint).await?;
        if answers::is_refusal(&reply) {
            return Ok(Read::Refused(reply.endpoint()));
        }
        match reply.status() {
            200 if answers::is_value(&reply) => self.checked(reply.into_body()).map(Read::Done),
            _ => Err(answers::error_of(Asked::Read, &path, &reply)),
        }
    }
}
