//! Reads of one given version, past the cache.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Error;
use crate::layers::cache::{Cache, core};
use crate::resolver::Request;
use crate::secret::Record;

impl Cache {
    /// A read of one given version: neither cached nor shared, but on the driver like every fetch,
    /// and within the same bounds.
    pub(super) async fn exact(&self, request: Request<'_>) -> Result<Record, Error> {
        let place = self.core.place(request.name())?;
        let (answer, wait) = oneshot::channel();
        let core = Arc::clone(&self.core);
        let name = request.name().to_owned();
        let version = request.version().cloned();
        let job = async move {
            let lost = core.clock.lost();
            let began = core.clock.now();
            let mut read = Request::new(name.borrowed());
            if let Some(version) = &version {
                read = read.with_version(version);
            }
            let record = core.ask(read, began, lost).await;
            drop(place);
            let record = record.and_then(|record| core.fits(record));
            let brought = |record: &Record| (record.answer().backend(), record.version().clone());
            let told = record.as_ref().map(brought).map_err(Error::clone);
            let _ = answer.send(record);
            core.tell_fetched(name.borrowed(), began, told);
        };
        self.driver.spawn(job);
        let answer = self.driver.aside().woken(wait).await;
        answer.unwrap_or_else(|_| Err(core::lost()))
    }
}
