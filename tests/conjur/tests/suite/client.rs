//! An HTTPS client of a few lines, which shares rustls alone with the double: it sends what it is given, and hides nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conjur_double::{ClientCertificate, ConjurDouble};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// An answer, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn new(conjur: &ConjurDouble) -> Self {
        Self::with_certificate(conjur, None).unwrap()
    }

    /// Connects, with a certificate where there is one, and ends the handshake.
    pub(crate) fn with_certificate(
        conjur: &ConjurDouble,
        certificate: Option<&ClientCertificate>,
    ) -> std::io::Result<Self> {
        Self::with_config(conjur, &config(conjur, certificate))
    }

    /// Connections with one configuration may go on where an earlier one ended.
    pub(crate) fn with_config(
        conjur: &ConjurDouble,
        config: &Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", conjur.port()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        connection.complete_io(&mut stream)?;
        Ok(Self {
            stream: BufReader::new(StreamOwned::new(connection, stream)),
        })
    }

    pub(crate) fn get(&mut self, target: &str, token: &str) -> Response {
        self.ask("GET", target, &[("Authorization", &header(token))], b"")
    }

    /// Asks, and expects an answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.try_ask(method, target, headers, body).unwrap()
    }

    pub(crate) fn try_ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            if !name.eq_ignore_ascii_case("content-length") {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if method != "GET" && method != "HEAD" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let out = self.stream.get_mut();
        out.write_all(&[head.as_bytes(), body].concat())?;
        out.flush()?;
        self.read(method)
    }

    fn read(&mut self, method: &str) -> std::io::Result<Response> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("no status"))?;
        let mut response = Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let header = (name.to_owned(), value.to_owned());
            response.headers.push(header);
        }
        if method == "HEAD" || status == 304 {
            return Ok(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = usize::from_str_radix(&self.line()?, 16).unwrap();
                let mut chunk = vec![0; length];
                self.stream.read_exact(&mut chunk)?;
                self.line()?;
                if length == 0 {
                    return Ok(response);
                }
                response.body.extend(chunk);
            }
        }
        let length = response
            .header("content-length")
            .map_or(0, |it| it.parse().unwrap());
        response.body.resize(length, 0);
        self.stream.read_exact(&mut response.body)?;
        Ok(response)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Trust in the server's authority alone, and a certificate where there is one.
pub(crate) fn config(
    conjur: &ConjurDouble,
    certificate: Option<&ClientCertificate>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(conjur.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::from_pem_slice(own.certificate_pem.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes());
            builder
                .with_client_auth_cert(vec![chain.unwrap()], key.unwrap())
                .unwrap()
        }
    };
    Arc::new(config)
}

/// The Authorization header of a token, given as JSON.
pub(crate) fn header(token: &str) -> String {
    format!("Token token=\"{}\"", STANDARD.encode(token))
}

/// A part of a path or a query, with all encoded that may be.
pub(crate) fn encode(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
