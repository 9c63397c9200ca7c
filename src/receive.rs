//! Receives events like Logstash's http input: it decodes requests and chooses the response status in the same way.
//!
//! The model is logstash-input-http 4.1 with its default settings. The fields that this plugin adds about the request itself are
//! left out.

use std::future::Future;
use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde_json::value::RawValue;

/// Maximum length of a decompressed body, in bytes: the plugin's `max_content_length`.
pub const MAX_CONTENT_BYTES: usize = 100 * 1024 * 1024;

/// Stores received events.
pub trait EventStore: Send + Sync + 'static {
    /// Stores the events of one request, each one line of JSON. An error becomes a response with status 500.
    fn store(&self, events: Vec<String>) -> impl Future<Output = Result<(), String>> + Send;
}

/// What a receiver requires of requests.
#[derive(Clone, Debug, Default)]
pub struct ReceiveSettings {
    /// Required user name and password.
    pub credentials: Option<(String, String)>,
}

/// The result of decoding a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Any number of events, each as JSON.
    Events(Vec<String>),
    /// The body is longer than [`MAX_CONTENT_BYTES`].
    TooLarge,
    /// The body is not compressed as `Content-Encoding` says.
    BadEncoding(String),
}

/// Returns a service that stores what it receives in `store`.
pub fn router(settings: ReceiveSettings, store: impl EventStore) -> Router {
    Router::new().fallback(receive).with_state(Arc::new(Receiver { settings, store }))
}

#[derive(Debug)]
struct Receiver<S> {
    settings: ReceiveSettings,
    store: S,
}

/// Accepts any method and any path, as the plugin does.
async fn receive<S: EventStore>(State(receiver): State<Arc<Receiver<S>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = read(body).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    if !receiver.settings.allows(&head.headers) {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"Logstash\"")]).into_response();
    }
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match decode(header(CONTENT_TYPE), header(CONTENT_ENCODING), &body, MAX_CONTENT_BYTES) {
        Decoded::TooLarge => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Decoded::BadEncoding(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
        Decoded::Events(events) => match receiver.store.store(events).await {
            Ok(()) => (StatusCode::OK, "ok").into_response(),
            Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response(),
        },
    }
}

async fn read(body: Body) -> Result<Bytes, axum::Error> {
    axum::body::to_bytes(body, MAX_CONTENT_BYTES).await
}

impl ReceiveSettings {
    fn allows(&self, headers: &HeaderMap) -> bool {
        let Some((user, password)) = &self.credentials else { return true };
        let given =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Basic "));
        let given = given.and_then(|pair| base64::engine::general_purpose::STANDARD.decode(pair).ok());
        given.is_some_and(|given| given == format!("{user}:{password}").as_bytes())
    }
}

/// Decodes a body like the plugin.
pub fn decode(content_type: &str, content_encoding: &str, body: &[u8], max_bytes: usize) -> Decoded {
    let body = match inflate(content_encoding, body, max_bytes) {
        Ok(body) if body.len() > max_bytes => return Decoded::TooLarge,
        Ok(body) => body,
        Err(reason) => return Decoded::BadEncoding(reason),
    };
    // The plugin compares the media type with case, so `Application/JSON` is plain text.
    let mime_type = content_type.split(';').next().unwrap_or_default().trim();
    Decoded::Events(if mime_type == "application/json" { json_events(&body) } else { vec![message(&body, false)] })
}

/// Decompresses a body. A truncated body is cut off where it ends, a corrupt body is an error, and an unknown encoding is ignored.
fn inflate(encoding: &str, body: &[u8], max_bytes: usize) -> Result<Vec<u8>, String> {
    let mut decoder: Box<dyn std::io::Read> = match encoding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body)),
        "deflate" | "x-deflate" => Box::new(ZlibDecoder::new(body)),
        _ => return Ok(body.to_vec()),
    };
    let mut inflated = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok(inflated),
            Ok(length) => inflated.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(inflated),
            Err(error) => return Err(format!("the body is not {encoding}: {error}")),
        }
        if inflated.len() > max_bytes {
            return Ok(inflated);
        }
    }
}

/// Decodes JSON like the plugin's json codec: an object is one event, and an array is one event per element. After an invalid
/// element, the earlier events stay, and the whole body becomes one more event with a tag. Text after the first JSON value is
/// ignored.
fn json_events(body: &[u8]) -> Vec<String> {
    if body.trim_ascii().is_empty() {
        return Vec::new();
    }
    let first = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>().next();
    let Some(Ok(value)) = first else { return vec![message(body, true)] };
    if value.get().starts_with('{') {
        return vec![one_line(value)];
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else { return vec![message(body, true)] };
    let mut events = Vec::with_capacity(elements.len());
    for element in elements {
        if !element.get().starts_with('{') {
            events.push(message(body, true));
            break;
        }
        events.push(one_line(element));
    }
    events
}

/// Removes line breaks, which valid JSON has only between tokens.
fn one_line(json: &RawValue) -> String {
    json.get().replace(['\n', '\r'], " ")
}

fn message(body: &[u8], parse_failure: bool) -> String {
    let message = String::from_utf8_lossy(body);
    let event = if parse_failure {
        serde_json::json!({"message": message, "tags": ["_jsonparsefailure"]})
    } else {
        serde_json::json!({"message": message})
    };
    event.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[track_caller]
    fn check(content_type: &str, body: &str, expected: &[&str]) {
        let expected = Decoded::Events(expected.iter().map(|&event| event.to_owned()).collect());
        assert_eq!(decode(content_type, "", body.as_bytes(), 1_000), expected, "{content_type}: {body}");
    }

    #[test]
    fn decodes_json_bodies() {
        let json = "application/json";
        check(json, r#"{"a":0.000}"#, &[r#"{"a":0.000}"#]);
        check(json, r#"[{"a":1},{"b":2}]"#, &[r#"{"a":1}"#, r#"{"b":2}"#]);
        check("application/json; charset=utf-8", "[{\"a\":\n1}]", &["{\"a\": 1}"]);
        check(json, "[]", &[]);
        check(json, " \n", &[]);
        check(json, "{\"a\":1}\n{\"b\":2}", &[r#"{"a":1}"#]);
        check(json, "{", &[r#"{"message":"{","tags":["_jsonparsefailure"]}"#]);
        check(json, "7", &[r#"{"message":"7","tags":["_jsonparsefailure"]}"#]);
        check(
            json,
            r#"[{"a":1},7,{"b":2}]"#,
            &[r#"{"a":1}"#, r#"{"message":"[{\"a\":1},7,{\"b\":2}]","tags":["_jsonparsefailure"]}"#],
        );
    }

    #[test]
    fn other_media_types_are_one_message() {
        check("", "", &[r#"{"message":""}"#]);
        check("text/plain", "a\nb", &[r#"{"message":"a\nb"}"#]);
        check("Application/JSON", "{}", &[r#"{"message":"{}"}"#]);
        check("application/x-ndjson", "{}\n{}\n", &[r#"{"message":"{}\n{}\n"}"#]);
    }

    #[test]
    fn decompresses_bodies() {
        let body = gzip(br#"[{"a":1}]"#);
        let decode = |encoding: &str, body: &[u8]| decode("application/json", encoding, body, 1_000);
        let one = Decoded::Events(vec![r#"{"a":1}"#.to_owned()]);
        assert_eq!(decode("gzip", &body), one);
        assert_eq!(decode("X-GZIP", &body), one);
        assert_eq!(decode("gzip", &[gzip(b"[{\"a\""), gzip(b":1}]")].concat()), one);
        assert!(
            matches!(decode("gzip", br#"[{"a":1},{"b":2}]"#), Decoded::BadEncoding(_)),
            "an uncompressed body is accepted as gzip"
        );
        let truncated = decode("gzip", &body[..body.len() - 9]);
        assert!(
            matches!(&truncated, Decoded::Events(events) if events.len() == 1),
            "a truncated body is not one event: {truncated:?}"
        );
        assert_eq!(decode("br", br#"[{"a":1}]"#), one);
    }

    #[test]
    fn limits_the_decompressed_size() {
        assert_eq!(decode("application/json", "gzip", &gzip(&[b' '; 2_000]), 1_000), Decoded::TooLarge);
        assert_eq!(decode("application/json", "", &[b' '; 1_001], 1_000), Decoded::TooLarge);
        assert_eq!(decode("application/json", "", &[b' '; 1_000], 1_000), Decoded::Events(vec![]));
    }
}
