//! The recorded exchanges, as they lie beside the backend's tests.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// One file.
pub(crate) struct Transcript {
    pub(crate) file: &'static str,
    pub(crate) exchanges: Vec<Exchange>,
    /// What JWTs are described there.
    pub(crate) jwts: Map<String, Value>,
}

/// One request and its recorded answer.
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) answer_headers: Vec<(String, String)>,
    pub(crate) answer: Vec<u8>,
}

impl Transcript {
    pub(crate) fn read(file: &'static str) -> Self {
        let document = document(file);
        let exchanges = document["exchanges"].as_array().unwrap();
        Self {
            file,
            exchanges: exchanges.iter().map(Exchange::read).collect(),
            jwts: document["jwts"].as_object().cloned().unwrap_or_default(),
        }
    }
}

/// One file, as it is.
pub(crate) fn document(file: &str) -> Value {
    let folder = package().join("../../backends/conjur/tests/transcripts");
    let text = std::fs::read(folder.join(file)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// This package's folder. Cargo says it to every program that it runs: checkouts that share a folder for what is compiled also share
/// what the compiler was given.
pub(crate) fn package() -> PathBuf {
    let given = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

impl Exchange {
    fn read(exchange: &Value) -> Self {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            name: text(&exchange["name"]),
            method: text(&request["method"]),
            target: text(&request["target"]),
            headers: headers(request),
            body: body(request),
            status: response["status"].as_u64().unwrap().try_into().unwrap(),
            answer_headers: headers(response),
            answer: body(response),
        }
    }
}

fn headers(message: &Value) -> Vec<(String, String)> {
    let headers = message["headers"].as_object().unwrap().iter();
    headers
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn body(message: &Value) -> Vec<u8> {
    match (message["body"].as_str(), message["body_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(encoded)) => STANDARD.decode(encoded).unwrap(),
        (None, None) => Vec::new(),
    }
}
