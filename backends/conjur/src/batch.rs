//! Many variables in one request. A batch is answered as a whole or not at all, so the id that spoils one is looked for and left out. It
//! is then asked alone for its own error: what a caller sees does not depend on which other names were asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use secret_resolver::backend::{Batch, Request};
use secret_resolver::{Error, ErrorKind, Moment, Record};
use secret_resolver_session::Token;
use secret_resolver_transport::Reply;

use crate::answers::{self, Asked};
use crate::resolver::{Parts, Read};
use crate::wire;

/// Ids that spoiled a batch, for a while. When there are too many, all are forgotten.
#[derive(Default)]
pub(crate) struct Bad(Mutex<HashMap<Box<str>, Moment>>);

/// How long an id stays out of batches: as long as the resolver remembers its error at most.
const APART: Duration = Duration::from_secs(5);
const MOST_BAD: usize = 4096;

/// For how long one spoiler after the other is looked for: a third of an attempt's time. In how many parts those are asked that are left
/// then. The names of a spoiled part are asked alone.
const SEARCH_TIME: Duration = Duration::from_millis(600);
const PARTS: usize = 8;

impl Bad {
    pub(crate) fn has(&self, id: &str, now: Moment) -> bool {
        let bad = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bad.get(id).is_some_and(|&until| now < until)
    }

    fn note(&self, id: &str, now: Moment) {
        let mut bad = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bad.len() >= MOST_BAD {
            bad.retain(|_, until| now < *until);
        }
        if bad.len() >= MOST_BAD {
            bad.clear();
        }
        bad.insert(Box::from(id), now + APART);
    }
}

/// What became of one request for several ids.
enum Answer {
    /// One for each id; none for an id that has to be asked alone.
    Values(Vec<Option<Result<Record, Error>>>),
    /// One of them is not there or may not be read; perhaps it is named.
    Spoiled(Option<usize>),
    /// Together they are more than one answer may have.
    TooLarge,
    Refused(usize),
}

impl Parts {
    /// The record of `id`, which leads; the others get theirs through the batch. What spoils a batch is left without one and then asked
    /// alone: its error is then the one that it has alone, after attempts of its own, and it holds up nobody.
    pub(crate) async fn read_batch(
        &self,
        token: &Token,
        request: Request<'_>,
        id: &str,
        batch: &Batch,
    ) -> Result<Read<Record>, Error> {
        let mut search = Search::new(self, id, batch);
        let until = self.clock.now() + SEARCH_TIME;
        let mut searched = false;
        while let Some(mut group) = search.next_group() {
            let found = match self.ask(token, request, &search.ids, &group).await? {
                Answer::Values(values) => {
                    self.answered(&mut search, &group, values);
                    None
                }
                Answer::Refused(endpoint) => Some(endpoint),
                Answer::TooLarge => {
                    let half = group.split_off(group.len() / 2);
                    search.groups.extend([group, half]);
                    None
                }
                // One spoiler is the rule; where there is another, or time runs out, parts are asked at the same time.
                Answer::Spoiled(named)
                    if self.clock.now() < until && (named.is_some() || !searched) =>
                {
                    searched |= named.is_none();
                    let found = self.find(token, request, &mut search, group, named, until);
                    found.await?
                }
                Answer::Spoiled(_) => self.split(token, request, &mut search, &group).await?,
            };
            if let Some(endpoint) = found {
                return Ok(Read::Refused(endpoint));
            }
        }
        match search.first {
            Some(answer) => answer.map(Read::Done),
            None => Err(batch.leave_out()),
        }
    }

    fn answered(
        &self,
        search: &mut Search<'_>,
        places: &[usize],
        values: Vec<Option<Result<Record, Error>>>,
    ) {
        for (&place, value) in places.iter().zip(values) {
            match value {
                Some(value) => search.answer(place, value),
                None => self.bad.note(&search.ids[place], self.clock.now()),
            }
        }
    }

    /// Asks a few parts at the same time. One that is spoiled is left out. Returns an endpoint that refuses the token.
    async fn split(
        &self,
        token: &Token,
        request: Request<'_>,
        search: &mut Search<'_>,
        group: &[usize],
    ) -> Result<Option<usize>, Error> {
        let parts: Vec<_> = group.chunks(group.len().div_ceil(PARTS)).collect();
        let asked = parts
            .iter()
            .map(|part| self.ask(token, request, &search.ids, part));
        let answers = try_join_all(asked).await?;
        for (part, answer) in parts.into_iter().zip(answers) {
            match answer {
                Answer::Values(values) => self.answered(search, part, values),
                Answer::Spoiled(_) => self.leave_apart(search, part),
                Answer::TooLarge => search.groups.push(part.to_vec()),
                Answer::Refused(endpoint) => return Ok(Some(endpoint)),
            }
        }
        Ok(None)
    }

    /// Looks for an id that spoils these, and leaves it out. The others that are not answered are another group. Returns an endpoint
    /// that refuses the token.
    async fn find(
        &self,
        token: &Token,
        request: Request<'_>,
        search: &mut Search<'_>,
        mut among: Vec<usize>,
        mut named: Option<usize>,
        until: Moment,
    ) -> Result<Option<usize>, Error> {
        let mut rest = Vec::new();
        while among.len() > 1 {
            if let Some(place) = named {
                rest.extend(among.iter().filter(|&&other| other != place));
                among = vec![place];
                break;
            }
            if self.clock.now() >= until {
                // All of these may be it.
                break;
            }
            let half = among.split_off(among.len() / 2);
            match self.ask(token, request, &search.ids, &among).await? {
                Answer::Values(values) => {
                    self.answered(search, &among, values);
                    among = half;
                }
                Answer::Spoiled(name) => {
                    rest.extend(half);
                    named = name;
                }
                // The larger group was answered by an error, which is short.
                Answer::TooLarge => {
                    search.groups.extend([among, half, rest]);
                    return Ok(None);
                }
                Answer::Refused(endpoint) => return Ok(Some(endpoint)),
            }
        }
        search.groups.push(rest);
        self.leave_apart(search, &among);
        Ok(None)
    }

    fn leave_apart(&self, search: &Search<'_>, places: &[usize]) {
        for &place in places {
            self.bad.note(&search.ids[place], self.clock.now());
        }
    }

    async fn ask(
        &self,
        token: &Token,
        request: Request<'_>,
        ids: &[String],
        places: &[usize],
    ) -> Result<Answer, Error> {
        let (client, token, endpoint) = (self.client(), token.secret(), request.endpoint());
        let asked: Vec<String> = places
            .iter()
            .map(|&place| client.id_in_batch(&ids[place]))
            .collect();
        let reply = match client.read_batch(&asked, token, endpoint).await {
            // The answer came, and its body is not taken.
            Err(error) if matches!(error.status(), Some(200 | 207)) => return Ok(Answer::TooLarge),
            reply => reply?,
        };
        if answers::is_refusal(&reply) {
            return Ok(Answer::Refused(reply.endpoint()));
        }
        let values = match reply.status() {
            200 | 207 if client.is_saas() => wire::values(reply.body(), &asked, self.value_limit)?,
            200 => {
                let is_base64 = reply.header("Content-Encoding") == Some("base64");
                let values = wire::batch(reply.body(), &asked, is_base64, self.value_limit)?;
                values.into_iter().map(Some).collect()
            }
            _ => return self.spoiled(&reply, &asked, places),
        };
        let record = |(value, &place): (Option<Result<_, Error>>, &usize)| {
            let record = |value| self.record_of(value, &ids[place], None, None);
            value.map(|value| value.and_then(record))
        };
        let records = values.into_iter().zip(places).map(record);
        Ok(Answer::Values(records.collect()))
    }

    /// What an answer means that has no values.
    fn spoiled(
        &self,
        reply: &Reply<'_>,
        asked: &[String],
        places: &[usize],
    ) -> Result<Answer, Error> {
        let path = self.client().path_of_batch(&[]);
        if self.client().is_saas() {
            return Err(answers::error_of(Asked::Batch, &path, reply));
        }
        let error = answers::error_of(Asked::Read, &path, reply);
        if !matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound) {
            return Err(error);
        }
        let missing = wire::missing_id(reply.body());
        let named = missing.and_then(|missing| asked.iter().position(|id| *id == missing));
        Ok(Answer::Spoiled(named.map(|at| places[at])))
    }
}

/// The ids of a batch, each once, and what is known of them.
struct Search<'a> {
    batch: &'a Batch,
    ids: Vec<String>,
    /// The ids to ask for together, by their places in `ids`; the one that leads is at 0.
    groups: Vec<Vec<usize>>,
    /// The answer of the one that leads.
    first: Option<Result<Record, Error>>,
    /// Of each id the names of the batch.
    names: Vec<Vec<usize>>,
}

impl<'a> Search<'a> {
    /// Names that have an answer are not asked for again.
    fn new(parts: &Parts, id: &str, batch: &'a Batch) -> Self {
        let mut ids = vec![id.to_owned()];
        let mut names = vec![Vec::new()];
        let mut places = HashMap::from([(id.to_owned(), 0)]);
        for (number, name) in batch.names().enumerate() {
            let located = parts.names.locate(name);
            let id = located.address().as_str().to_owned();
            // What an attempt before has answered, or has left out.
            if batch.is_answered(number) || parts.bad.has(&id, parts.clock.now()) {
                continue;
            }
            let place = *places.entry(id).or_insert_with_key(|id| {
                ids.push(id.clone());
                names.push(Vec::new());
                ids.len() - 1
            });
            names[place].push(number);
        }
        Self {
            batch,
            groups: vec![(0..ids.len()).collect()],
            ids,
            first: None,
            names,
        }
    }

    /// Ids to ask for in one request. One that is left over is asked alone.
    fn next_group(&mut self) -> Option<Vec<usize>> {
        let at = self.groups.iter().rposition(|group| group.len() > 1)?;
        Some(self.groups.swap_remove(at))
    }

    fn answer(&mut self, place: usize, answer: Result<Record, Error>) {
        for &name in &self.names[place] {
            self.batch.answer(name, answer.clone());
        }
        if place == 0 {
            self.first = Some(answer);
        }
    }
}
