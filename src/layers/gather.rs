//! Names that are asked for at the same time, in one request: for stores that read several at once.
//!
//! The first read goes at once. Those that arrive while it is under way go together next. There is no delay to wait for more.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::name::SecretName;
use crate::race::first;
use crate::resolver::{Batch, Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::secret::Record;
use crate::sync::lock;

/// Puts reads together that arrive while another is under way, as many as the store reads
/// [at once](SecretResolver::at_once).
///
/// One of them leads: its request carries the others ([`Request::batch`]), and it gives them their answers. A read that is slow
/// holds up the others for a quarter of a second at most: then they go without waiting for its end.
///
/// A read of one exact version, and one that is directed to an endpoint, go alone.
///
/// # Order
/// Below the cache, which asks for each record once. Right above the guards of a store, so that retries, the breaker, the
/// limit and the time of an attempt see one request.
///
/// # Cancel safety
/// A read that is dropped leaves. When it leads, the others go again, without it.
pub(crate) struct Gather<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many requests are under way that the others wait for.
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

/// A read that waits for its turn, or for the answer of the one that leads.
struct Waiting {
    name: SecretName,
    latest: bool,
    /// How much of one request it takes, of [`WHOLE`].
    share: u32,
    turn: oneshot::Sender<Turn>,
}

/// What a read that waited does next.
enum Turn {
    /// It leads these.
    Lead(Vec<Waiting>, UnderWay),
    /// It has been answered: `asked` is when it was asked at the earliest.
    Answered(Result<Record, Error>, Moment),
    /// It is asked alone.
    Alone,
}

/// What one request has room for.
const WHOLE: u32 = 1 << 20;

/// How long others wait for the end of a request that is under way.
const PATIENCE: Duration = Duration::from_millis(250);

impl<R: SecretResolver> Gather<R> {
    pub(crate) fn new(inner: R, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            state: Arc::default(),
        }
    }

    async fn together(&self, request: Request<'_>, share: u32) -> Result<Record, Error> {
        loop {
            let mut turn = match self.enter(&request, share) {
                Entered::First(under_way) => {
                    return self.lead(request, Vec::new(), under_way).await;
                }
                Entered::Waits(turn) => turn,
            };
            match (&mut turn).await {
                Ok(Turn::Lead(others, under_way)) => {
                    return self.lead(request, others, under_way).await;
                }
                Ok(Turn::Answered(answer, asked)) => {
                    let answer = answer.map(|record| record.asked_at(asked));
                    return answer.and_then(|record| request.admit(record));
                }
                Ok(Turn::Alone) => return self.inner.resolve(request).await,
                // The one that led was dropped.
                Err(_) => {}
            }
        }
    }

    fn enter(&self, request: &Request<'_>, share: u32) -> Entered {
        let mut state = lock(&self.state);
        if state.under_way == 0 {
            state.under_way = 1;
            return Entered::First(UnderWay(Some(Arc::clone(&self.state))));
        }
        let (turn, waits) = oneshot::channel();
        state.waiting.push_back(Waiting {
            name: request.name().to_owned(),
            latest: request.wants_latest(),
            share,
            turn,
        });
        Entered::Waits(waits)
    }

    /// Asks for `request` and the others in one, and gives these their answers.
    async fn lead(
        &self,
        request: Request<'_>,
        others: Vec<Waiting>,
        mut under_way: UnderWay,
    ) -> Result<Record, Error> {
        let began = self.clock.now();
        let names = others.iter().map(|other| other.name.clone());
        let batch = Arc::new(Batch::new(names));
        let asked = match others.is_empty() {
            true => request,
            false => request.with_batch(&batch),
        };
        let asked = match others.iter().any(|other| other.latest) {
            true => asked.latest(),
            false => asked,
        };
        let mut answer = pin!(self.inner.resolve(asked));
        let patience = self.clock.sleep_until(began + PATIENCE);
        let answer = match first(answer.as_mut(), patience).await {
            Some(answer) => answer,
            None => {
                under_way.end();
                answer.await
            }
        };
        let endpoint = match &answer {
            Ok(record) => record.endpoint(),
            Err(error) => error.endpoint(),
        };
        for (other, answered) in others.into_iter().zip(batch.answers()) {
            let turn = match (answered, &answer) {
                (Some(answered), _) => Turn::Answered(at(answered, endpoint), began),
                // The request has failed, and with it each name.
                (None, Err(error)) if !error.kind().is_of_the_secret() => {
                    Turn::Answered(Err(error.clone()), began)
                }
                (None, _) => Turn::Alone,
            };
            // Its caller may have left.
            let _ = other.turn.send(turn);
        }
        if batch.leaves_out() {
            return self.inner.resolve(request).await;
        }
        answer.and_then(|record| request.admit(record))
    }
}

enum Entered {
    First(UnderWay),
    Waits(oneshot::Receiver<Turn>),
}

/// The answer, with the endpoint that has given it.
fn at(answer: Result<Record, Error>, endpoint: Option<usize>) -> Result<Record, Error> {
    match (answer, endpoint) {
        (Ok(record), Some(endpoint)) => Ok(record.answered_at(endpoint)),
        (Err(error), Some(endpoint)) => Err(error.at_endpoint(endpoint)),
        (answer, None) => answer,
    }
}

/// A request that others wait for. When it ends, or is dropped, they go.
struct UnderWay(Option<Arc<Mutex<State>>>);

impl UnderWay {
    fn end(&mut self) {
        let Some(shared) = self.0.take() else {
            return;
        };
        let mut batches = {
            let mut state = lock(&shared);
            state.under_way -= 1;
            let batches = state.batches();
            state.under_way += batches.len();
            batches
        };
        // Outside of the lock: what is dropped here may come by again.
        while let Some(batch) = batches.pop() {
            let mut others = VecDeque::from(batch);
            let mut under_way = Self(Some(Arc::clone(&shared)));
            // The first whose caller still waits.
            while let Some(leads) = others.pop_front() {
                let turn = Turn::Lead(Vec::from(std::mem::take(&mut others)), under_way);
                match leads.turn.send(turn) {
                    Err(Turn::Lead(back, again)) => {
                        others = VecDeque::from(back);
                        under_way = again;
                    }
                    _ => {
                        under_way = Self(None);
                    }
                }
            }
            drop(under_way);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Takes those that wait, as many a batch as one request has room for.
    fn batches(&mut self) -> Vec<Vec<Waiting>> {
        let mut batches = Vec::new();
        let (mut batch, mut room) = (Vec::new(), WHOLE);
        for waiting in self
            .waiting
            .drain(..)
            .filter(|waiting| !waiting.turn.is_closed())
        {
            if waiting.share > room {
                batches.push(std::mem::take(&mut batch));
                room = WHOLE;
            }
            room -= waiting.share;
            batch.push(waiting);
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Gather<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let at_once = match (request.version(), request.endpoint()) {
            (None, None) => self.inner.at_once(&request),
            _ => 1,
        };
        match u32::try_from(at_once).unwrap_or(WHOLE) {
            0 | 1 => self.inner.resolve(request),
            at_once => ResolveFuture::new(self.together(request, WHOLE / at_once.min(WHOLE))),
        }
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner.shutdown(deadline)
    }
}

impl<R: fmt::Debug> fmt::Debug for Gather<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Gather")
            .field("inner", &self.inner)
            .field("under_way", &state.under_way)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
