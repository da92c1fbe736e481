//! The messages of the Workload API, in protobuf. They are few and small, so they are written by hand: a test then has power over every
//! byte, and no code of the client under test is in them.

use super::svid::TestSvid;

/// `X509SVIDResponse`.
#[derive(Clone, Debug, Default)]
pub struct X509Message {
    /// The default one first.
    pub svids: Vec<TestSvid>,
    /// Trust domains, and the certificates of their authorities in DER.
    pub federated: Vec<(String, Vec<u8>)>,
}

impl X509Message {
    /// With these and nothing else.
    #[must_use]
    pub fn of(svids: &[TestSvid]) -> Self {
        Self {
            svids: svids.to_vec(),
            federated: Vec::new(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        for svid in &self.svids {
            let mut entry = Vec::new();
            field(&mut entry, 1, svid.id.as_bytes());
            field(&mut entry, 2, &svid.chain.concat());
            field(&mut entry, 3, &svid.key);
            field(&mut entry, 4, &svid.bundle);
            field(&mut entry, 5, svid.hint.as_bytes());
            always(&mut message, 1, &entry);
        }
        message.extend(map(3, &self.federated));
        message
    }
}

/// `JWTSVIDResponse`: SPIFFE IDs and tokens.
#[must_use]
pub fn jwt_message(svids: &[(&str, &str)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (id, token) in svids {
        let mut entry = Vec::new();
        field(&mut entry, 1, id.as_bytes());
        field(&mut entry, 2, token.as_bytes());
        always(&mut message, 1, &entry);
    }
    message
}

/// `JWTBundlesResponse`: trust domains and their key sets in JSON.
#[must_use]
pub fn jwt_bundles_message(bundles: &[(String, Vec<u8>)]) -> Vec<u8> {
    map(1, bundles)
}

/// `X509BundlesResponse`: trust domains and the certificates of their authorities in DER.
#[must_use]
pub fn x509_bundles_message(bundles: &[(String, Vec<u8>)]) -> Vec<u8> {
    map(2, bundles)
}

/// What `JWTSVIDRequest` asks for: audiences, and a SPIFFE ID or nothing. `None` for what is no such message.
pub(super) fn jwt_request(mut message: &[u8]) -> Option<(Vec<String>, String)> {
    let (mut audiences, mut id) = (Vec::new(), String::new());
    while !message.is_empty() {
        let tag = *message.split_off_first()?;
        let text = String::from_utf8(delimited(&mut message)?.to_vec()).ok()?;
        match tag {
            0x0a => audiences.push(text),
            0x12 => id = text,
            _ => return None,
        }
    }
    Some((audiences, id))
}

/// A message in the frame that gRPC puts it into.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

/// The message in a whole frame.
pub(super) fn unframed(frame: &[u8]) -> Option<&[u8]> {
    let (head, message) = frame.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    (head[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

fn map(number: u8, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, value) in entries {
        let mut entry = Vec::new();
        field(&mut entry, 1, key.as_bytes());
        field(&mut entry, 2, value);
        always(&mut message, number, &entry);
    }
    message
}

/// Text or bytes. What is empty is the default, and is left out.
fn field(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    if !value.is_empty() {
        always(message, number, value);
    }
}

fn always(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    // The wire type 2: a length, and so many bytes.
    message.push((number << 3) | 2);
    let mut length = value.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or_default());
    message.extend(value);
}

fn delimited<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0_usize;
    for shift in (0..28).step_by(7) {
        let byte = *message.split_off_first()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return message.split_off(..length);
        }
    }
    None
}
