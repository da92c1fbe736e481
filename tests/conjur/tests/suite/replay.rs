//! Every recorded request, in order, against the double: the status, the recorded headers and the body must be as recorded. What is
//! minted is compared by its shape.

use std::sync::OnceLock;
use std::time::Duration;

use conjur_double::{Algorithm, ConjurDouble, JwtKey, Version};
use serde_json::{Value, json};

use crate::client::{Client, Response, encode};
use crate::exchanges::{Exchange, Transcript, document};
use crate::placeholders::Minted;

/// In their order; 11 is of another kind, and 12 is of another version.
const FILES: [&str; 11] = [
    "00-setup.json",
    "01-info.json",
    "02-login.json",
    "03-authenticate.json",
    "04-authorization.json",
    "05-secret.json",
    "06-batch.json",
    "07-resources.json",
    "08-authn-jwt.json",
    "09-write.json",
    "10-outage.json",
];

/// How many exchanges those files hold, so that none can be left out unseen.
const EXCHANGES: usize = 277;

/// What an answer of the kind may not have where none is recorded.
const TELLING: [&str; 5] = [
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Content-Transfer-Encoding",
    "WWW-Authenticate",
];

#[test]
fn every_recorded_request_gets_the_recorded_answer() {
    let mut replay = Replay::new();
    for file in FILES {
        replay.run(&Transcript::read(file));
    }
    replay.end(EXCHANGES);
}

#[test]
fn the_older_version_answers_a_batch_as_it_was_recorded() {
    let mut replay = Replay::new();
    replay.run(&Transcript::read(FILES[0]));
    replay.conjur.set_version(Version::V1_22);
    let older = Transcript::read("12-batch-v1.22.json");
    let before = replay.compared;
    replay.run(&older);
    replay.end(before + older.exchanges.len());
}

struct Replay {
    conjur: ConjurDouble,
    client: Client,
    minted: Minted,
    /// In the place of the recorded key set's, whose private halves nobody has.
    rsa: [JwtKey; 2],
    ec: JwtKey,
    differences: Vec<String>,
    compared: usize,
}

impl Replay {
    fn new() -> Self {
        let conjur = ConjurDouble::start().unwrap();
        // The recorded server was started with these switched on.
        conjur.set_enabled("authn-jwt/svc", true);
        conjur.set_enabled("authn-jwt/urlid", true);
        let client = Client::new(&conjur);
        let rsa = ["rsa-1", "rsa-2"].map(|id| JwtKey::rsa(id).unwrap());
        let mut replay = Self {
            conjur,
            client,
            minted: Minted::default(),
            rsa,
            ec: JwtKey::ec("ec-1").unwrap(),
            differences: Vec::new(),
            compared: 0,
        };
        let admin = replay.conjur.key_of("admin");
        replay.buy_token("admin", &admin);
        replay
    }

    fn end(self, expected: usize) {
        let differences = self.differences.join("\n");
        assert!(differences.is_empty(), "\n{differences}");
        assert_eq!(self.compared, expected, "exchanges were left out");
    }

    fn run(&mut self, transcript: &Transcript) {
        for (at, exchange) in transcript.exchanges.iter().enumerate() {
            self.before(transcript.file, at, &exchange.name);
            if !transcript.jwts.is_empty() || exchange.body == b"jwt={{jwt:good}}" {
                self.mint_jwts();
            }
            let response = self.send(exchange);
            for difference in self.compare(exchange, &response) {
                let name = &exchange.name;
                self.differences
                    .push(format!("{}: {name}: {difference}", transcript.file));
            }
            self.compared += 1;
            if exchange.name == "load policy" {
                self.buy_tokens();
                self.store_unrecorded();
            }
        }
    }

    /// What was done at the recording beside sending requests.
    fn before(&mut self, file: &str, at: usize, name: &str) {
        match (file, at, name) {
            ("10-outage.json", 0, _) => self.conjur.set_outage(true),
            ("10-outage.json", _, "read, database up again") => self.conjur.set_outage(false),
            (_, _, "two-second token, fresh") => {
                self.conjur.set_token_life(Duration::from_secs(2));
                let key = self.conjur.key_of("host/apps/reader");
                let kept = self.minted.tokens["host/apps/reader"].clone();
                self.buy_token("host/apps/reader", &key);
                let short = self.minted.tokens.insert("host/apps/reader".into(), kept);
                let name = "host/apps/reader (two seconds)";
                self.minted.tokens.insert(name.into(), short.unwrap());
                self.conjur.set_token_life(Duration::from_secs(480));
            }
            (_, _, "two-second token, three seconds later") => {
                self.conjur.advance(Duration::from_secs(3));
            }
            _ => {}
        }
    }

    fn send(&mut self, exchange: &Exchange) -> Response {
        let headers: Vec<_> = exchange
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), self.minted.fill(value)))
            .collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, it)| (*name, it.as_str()))
            .collect();
        let body = match std::str::from_utf8(&exchange.body) {
            Ok(_) if exchange.name.ends_with(" public-keys") => self.own_keys(&exchange.body),
            Ok(text) => self.minted.fill(text).into_bytes(),
            Err(_) => exchange.body.clone(),
        };
        self.client
            .ask(&exchange.method, &exchange.target, &headers, &body)
    }

    /// The recorded key set, with keys of our own.
    fn own_keys(&self, recorded: &[u8]) -> Vec<u8> {
        let mut set: Value = serde_json::from_slice(recorded).unwrap();
        let ids = set["value"]["keys"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(ids, ["rsa-1", "ec-1"]);
        set["value"]["keys"] = json!([self.rsa[0].jwk(), self.ec.jwk()]);
        set.to_string().into_bytes()
    }

    /// Tokens of all that the policy has made, before anything happens to their keys. Those of another network get none.
    fn buy_tokens(&mut self) {
        for (login, key) in self.minted.keys.clone() {
            if login != "host/apps/restricted" {
                self.buy_token(&login, &key);
            }
        }
    }

    /// The values of `bulk/…` are read in 06, but the writes that brought them are not among what was recorded.
    fn store_unrecorded(&self) {
        for number in 0..200 {
            let id = format!("prod/bulk/{number:03}");
            self.conjur.set(&id, format!("bulk value {number}"));
        }
    }

    fn buy_token(&mut self, login: &str, key: &str) {
        let target = format!("/authn/myorg/{}/authenticate", encode(login));
        let base64 = [("Accept-Encoding", "base64")];
        let response = self.client.ask("POST", &target, &base64, key.as_bytes());
        assert_eq!(response.status, 200, "{login}");
        let token = response.text().to_owned();
        self.minted.tokens.insert(login.to_owned(), token);
    }

    /// The JWTs that are described in 08, with times as of now.
    fn mint_jwts(&mut self) {
        let described = Transcript::read("08-authn-jwt.json").jwts;
        for (name, jwt) in described {
            let algorithm = match jwt["header"]["alg"].as_str().unwrap() {
                "RS256" => Algorithm::Rs256,
                "RS384" => Algorithm::Rs384,
                "RS512" => Algorithm::Rs512,
                "ES256" => Algorithm::Es256,
                other => panic!("{other}"),
            };
            let key = match jwt["signed_by"].as_str().unwrap() {
                "rsa-1" => &self.rsa[0],
                "rsa-2" => &self.rsa[1],
                _ => &self.ec,
            };
            let mut minted = self.conjur.jwt("").algorithm(algorithm).signed_by(key);
            minted = minted.key_id(jwt["header"]["kid"].as_str());
            for claim in ["iss", "aud", "sub", "iat", "exp"] {
                minted = minted.without(claim);
            }
            for (claim, value) in jwt["claims"].as_object().unwrap() {
                let from_now = value.as_str().and_then(|text| text.strip_prefix("now"));
                minted = match from_now {
                    Some(seconds) => minted.time(claim, seconds.parse().unwrap()),
                    None => minted.claim(claim, value.clone()),
                };
            }
            self.minted.jwts.insert(name, minted.mint());
        }
        let unsigned = self.conjur.jwt("spiffe://example.org/payments");
        let unsigned = unsigned.algorithm(Algorithm::None).key_id(Some("rsa-1"));
        self.minted.jwts.insert("alg none".into(), unsigned.mint());
    }

    fn compare(&mut self, exchange: &Exchange, response: &Response) -> Vec<String> {
        let mut found = Vec::new();
        if response.status != exchange.status {
            found.push(format!(
                "{} is recorded, not {}",
                exchange.status, response.status
            ));
        }
        for (name, value) in &exchange.answer_headers {
            if response.header(name) != Some(value) {
                let given = response.header(name);
                found.push(format!("{name} is recorded as {value:?}, not {given:?}"));
            }
        }
        for name in TELLING {
            let mut recorded = exchange.answer_headers.iter();
            let unrecorded = !recorded.any(|(recorded, _)| recorded == name);
            if unrecorded && !exchange.answer_headers.is_empty() && response.header(name).is_some()
            {
                found.push(format!("{name} is not recorded"));
            }
        }
        let same = match (
            std::str::from_utf8(&exchange.answer),
            std::str::from_utf8(&response.body),
        ) {
            (Ok(recorded), Ok(body)) => self.minted.matches(recorded, body),
            _ if exchange.answer == response.body => Ok(()),
            _ => Err("the bytes differ".to_owned()),
        };
        found.extend(same.err());
        found
    }
}

/// The token that was recorded in full.
pub(crate) fn sample_token() -> &'static Value {
    static SAMPLE: OnceLock<Value> = OnceLock::new();
    SAMPLE.get_or_init(|| document("03-authenticate.json")["sample_token"].clone())
}

#[test]
fn a_token_is_of_the_shape_that_was_recorded_in_full() {
    let conjur = ConjurDouble::start().unwrap();
    let token: Value = serde_json::from_str(&conjur.token("host/apps/reader")).unwrap();
    for (name, recorded) in sample_token().as_object().unwrap() {
        let (given, recorded) = (token[name].as_str().unwrap(), recorded.as_str().unwrap());
        assert_eq!(given.len(), recorded.len(), "{name}");
    }
}
