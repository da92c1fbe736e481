//! Many variables in one request. A batch is answered as a whole or not at all, so the id that spoils one is looked for, and asked alone
//! for its own error: what a caller sees does not depend on which other names were asked for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secret_resolver::backend::{Batch, Request};
use secret_resolver::{Error, ErrorKind, Moment, Record};
use secret_resolver_session::Token;

use crate::answers::{self, Asked};
use crate::resolver::{Parts, Read};
use crate::{error, wire};

/// Ids that spoiled a batch, for a while. The oldest leaves when there are too many.
#[derive(Default)]
pub(crate) struct Bad(Mutex<HashMap<Box<str>, Moment>>);

/// How long an id stays out of batches: as long as the resolver remembers its error at most.
const APART: Duration = Duration::from_secs(5);
const MOST_BAD: usize = 4096;

/// How many spoilers of one batch are looked for, and how many that the answer names are left out. The names that are left then are
/// asked alone.
const MOST_SEARCHES: usize = 3;
const MOST_NAMED: usize = 16;

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
    Values(Vec<Result<Record, Error>>),
    /// One of them is not there or may not be read; perhaps it is named.
    Spoiled(Option<usize>),
    /// It is not read: it may be larger than one answer may be.
    Unread,
    Refused(usize),
}

impl Parts {
    /// The record of `id`, which leads; the others get theirs through the batch.
    pub(crate) async fn read_batch(
        &self,
        token: &Token,
        request: Request<'_>,
        id: &str,
        batch: &Batch,
    ) -> Result<Read<Record>, Error> {
        let mut search = Search::new(self, id, batch);
        let (mut searches, mut names) = (0, 0);
        while search.goes_on() && searches < MOST_SEARCHES && names < MOST_NAMED {
            let rest = search.next();
            match self.ask(token, request, &search.ids, &rest).await? {
                Answer::Values(values) => search.answered(&rest, values),
                Answer::Unread => search.unread(rest),
                Answer::Refused(endpoint) => return Ok(Read::Refused(endpoint)),
                Answer::Spoiled(named) => {
                    match named {
                        Some(_) => names += 1,
                        None => searches += 1,
                    }
                    let found = self.find(token, request, &mut search, rest, named).await?;
                    if let Some(endpoint) = found {
                        return Ok(Read::Refused(endpoint));
                    }
                }
            }
        }
        search.give(batch);
        match search.answers.remove(&0) {
            Some(answer) => answer.map(Read::Done),
            None => self.read_one(token, request, id, None).await,
        }
    }

    /// Looks for an id that spoils these, and asks it alone. The others that are not answered are left in `rest`. Returns an endpoint
    /// that refuses the token.
    async fn find(
        &self,
        token: &Token,
        request: Request<'_>,
        search: &mut Search,
        mut among: Vec<usize>,
        mut named: Option<usize>,
    ) -> Result<Option<usize>, Error> {
        while among.len() > 1 {
            if let Some(place) = named {
                search
                    .rest
                    .extend(among.iter().filter(|&&other| other != place));
                among = vec![place];
                break;
            }
            let half = among.split_off(among.len() / 2);
            match self.ask(token, request, &search.ids, &among).await? {
                Answer::Values(values) => {
                    search.answered(&among, values);
                    among = half;
                }
                Answer::Spoiled(name) => {
                    search.rest.extend(half);
                    named = name;
                }
                Answer::Unread => {
                    search.rest.extend(half);
                    search.unread(among);
                    return Ok(None);
                }
                Answer::Refused(endpoint) => return Ok(Some(endpoint)),
            }
        }
        let Some(&place) = among.first() else {
            return Ok(None);
        };
        let id = search.ids[place].clone();
        let plain = Request::new(request.name());
        let plain = match request.endpoint() {
            Some(endpoint) => plain.at_endpoint(endpoint),
            None => plain,
        };
        let answer = match self.read_one(token, plain, &id, None).await {
            Ok(Read::Done(record)) => Ok(record),
            Ok(Read::Refused(endpoint)) => return Ok(Some(endpoint)),
            Err(error) => Err(error::ours(error)),
        };
        if answer.is_err() {
            self.bad.note(&id, self.clock.now());
        }
        search.answers.insert(place, answer);
        Ok(None)
    }

    async fn ask(
        &self,
        token: &Token,
        request: Request<'_>,
        ids: &[String],
        places: &[usize],
    ) -> Result<Answer, Error> {
        let asked: Vec<String> = places
            .iter()
            .map(|&place| self.client().full_id(&ids[place]))
            .collect();
        let reply = self
            .client()
            .read_batch(&asked, token.secret(), request.endpoint());
        let reply = match reply.await {
            Err(error) if error.kind() == ErrorKind::Malformed => return Ok(Answer::Unread),
            reply => reply?,
        };
        if answers::is_refusal(&reply) {
            return Ok(Answer::Refused(reply.endpoint()));
        }
        if reply.status() == 200 {
            let is_base64 = reply.header("Content-Encoding") == Some("base64");
            let values = wire::batch(reply.body(), &asked, is_base64, self.value_limit)?;
            let record = |(value, &place): (Result<_, Error>, &usize)| {
                self.record_of(value?, &ids[place], None, None)
            };
            return Ok(Answer::Values(
                values.into_iter().zip(places).map(record).collect(),
            ));
        }
        let path = self.client().path_of_batch(&[]);
        let error = answers::error_of(Asked::Read, &path, &reply);
        if !matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound) {
            return Err(error);
        }
        let missing = wire::missing_id(reply.body());
        let named = missing.and_then(|missing| asked.iter().position(|id| *id == missing));
        Ok(Answer::Spoiled(named.map(|at| places[at])))
    }
}

/// The ids of a batch, each once, and what is known of them.
struct Search {
    ids: Vec<String>,
    /// The ids that are not answered, by their places in `ids`; the one that leads is at 0.
    rest: Vec<usize>,
    /// How many are asked for at once: fewer, once an answer was too large.
    most: usize,
    answers: HashMap<usize, Result<Record, Error>>,
    /// For each name of the batch the place of its id.
    of_names: Vec<usize>,
}

impl Search {
    fn new(parts: &Parts, id: &str, batch: &Batch) -> Self {
        let mut search = Self {
            ids: vec![id.to_owned()],
            rest: Vec::new(),
            most: usize::MAX,
            answers: HashMap::new(),
            of_names: Vec::new(),
        };
        let mut places = HashMap::from([(id.to_owned(), 0)]);
        for name in batch.names() {
            let located = parts.names.locate(name);
            let id = located.address().as_str();
            let place = match places.get(id) {
                Some(&place) => place,
                None => {
                    let place = search.ids.len();
                    places.insert(id.to_owned(), place);
                    search.ids.push(id.to_owned());
                    place
                }
            };
            search.of_names.push(place);
        }
        search.rest = (0..search.ids.len()).collect();
        search
    }

    /// Whether there are several left that may go together.
    fn goes_on(&self) -> bool {
        self.rest.len() > 1 && self.most > 1
    }

    fn next(&mut self) -> Vec<usize> {
        let more = self.rest.split_off(self.rest.len().min(self.most));
        std::mem::replace(&mut self.rest, more)
    }

    /// These go again, in halves.
    fn unread(&mut self, places: Vec<usize>) {
        self.most = places.len() / 2;
        self.rest.extend(places);
    }

    fn answered(&mut self, places: &[usize], values: Vec<Result<Record, Error>>) {
        self.answers.extend(places.iter().copied().zip(values));
    }

    fn give(&self, batch: &Batch) {
        let answers = self
            .of_names
            .iter()
            .enumerate()
            .filter_map(|(name, place)| {
                let answer = self.answers.get(place)?;
                Some((name, answer.clone()))
            });
        for (name, answer) in answers {
            batch.answer(name, answer);
        }
    }
}
