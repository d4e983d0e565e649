//! Requests and answers of the agent as HTTP: bodies, upgrades, statuses.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::READ_TIMEOUT;
use crate::agent::protocol::{self, Cause, Refusal};

/// The longest body of a request: a command and its input.
const LONGEST_REQUEST: u64 = 64 << 20;
/// Who sends nothing for so long waits for the answer.
const PAUSE: Duration = Duration::from_millis(200);
/// Of an answer that comes in lines.
pub(super) const LINES: &str = "application/x-ndjson";

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// The answer that says so.
pub(super) fn refused(refusal: &Refusal) -> Answer {
    with(status_of(&refusal.error.cause), "application/json", encoded(refusal))
}

/// Whether the connection is to carry frames. Another upgrade is not known.
pub(super) fn wants_frames(request: &Request<Incoming>) -> Result<bool, Refusal> {
    match request.headers().get(UPGRADE) {
        None => Ok(false),
        Some(to) if to == protocol::FRAMES => Ok(true),
        Some(_) => {
            Err(Refusal::new(Cause::Invalid, format!("Upgrade: expected {}", protocol::FRAMES)))
        }
    }
}

/// Whether the answer is to come in lines.
pub(super) fn wants_lines(request: &Request<Incoming>) -> bool {
    request.headers().get_all(ACCEPT).iter().any(|kinds| {
        kinds.to_str().is_ok_and(|kinds| {
            kinds.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == LINES)
        })
    })
}

/// What the client has sent, if it is what it has to be. Nothing is an empty object.
pub(super) async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let too_large = || {
        let message = format!(
            "the request is longer than {LONGEST_REQUEST} bytes: stream its input in frames"
        );
        Refusal::new(Cause::TooLarge, message)
    };
    let waits = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if body.size_hint().lower() > LONGEST_REQUEST {
        if !waits {
            pass_over(&mut body).await;
        }
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    loop {
        let frame = match timeout(READ_TIMEOUT, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(Refusal::new(
                    Cause::Invalid,
                    format!("the request cannot be read: {error}"),
                ));
            }
            Err(_) => {
                let message = format!(
                    "the request has not come to its end: nothing came for {READ_TIMEOUT:?}"
                );
                return Err(Refusal::new(Cause::TooSlow, message));
            }
        };
        // Trailers are of no use.
        let Some(data) = frame.data_ref() else { continue };
        if (bytes.len() + data.len()) as u64 > LONGEST_REQUEST {
            drop(bytes);
            pass_over(&mut body).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    let text = if bytes.is_empty() { b"{}" } else { &bytes[..] };
    // serde would also take a list of the values in their order.
    let parsed = match text.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(text).map_err(|error| error.to_string()),
        _ => Err("expected an object".to_owned()),
    };
    parsed.map_err(|why| {
        Refusal::new(Cause::Invalid, format!("the body is not what it has to be: {why}"))
    })
}

/// Reads what a client is sending, as far as that makes sense: many read no answer before all of it
/// is sent, or fail when that fails.
async fn pass_over(body: &mut Incoming) {
    let mut left = 4 * LONGEST_REQUEST;
    while left > 0
        && let Ok(Some(Ok(frame))) = timeout(PAUSE, body.frame()).await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
    }
}

fn status_of(cause: &Cause) -> StatusCode {
    match cause {
        Cause::Invalid => StatusCode::BAD_REQUEST,
        Cause::NotFound => StatusCode::NOT_FOUND,
        Cause::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Cause::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Cause::OtherVersion => StatusCode::CONFLICT,
        Cause::Place { .. } => StatusCode::PRECONDITION_REQUIRED,
        Cause::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
        Cause::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Cause::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Cause::Connect { .. }
        | Cause::Forward { .. }
        | Cause::Lost { .. }
        | Cause::OutputLimit { .. } => StatusCode::BAD_GATEWAY,
        Cause::TooManyClients
        | Cause::Leaving
        | Cause::Exhausted { .. }
        | Cause::Closed { .. }
        | Cause::NeverStarted { .. }
        | Cause::Local { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Cause::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        Cause::File { file_cause, .. } => match file_cause.as_str() {
            "not_found" => StatusCode::NOT_FOUND,
            "permission" => StatusCode::FORBIDDEN,
            "is_directory" | "not_directory" => StatusCode::CONFLICT,
            "no_space" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::BAD_GATEWAY,
        },
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a route gives")]
pub(super) fn json(value: &impl Serialize) -> Result<Answer, Refusal> {
    Ok(with(StatusCode::OK, "application/json", encoded(value)))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let mut text =
        serde_json::to_vec(value).expect("the answers have text keys and finite numbers");
    text.push(b'\n');
    text
}

pub(super) fn text(text: String) -> Answer {
    with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
}

fn with(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Answer {
    with_body(status, content_type, Full::new(Bytes::from(bytes)))
}

pub(super) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Answer {
    let mut answer = Response::new(UnsyncBoxBody::new(body.map_err(|never| match never {})));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Clients that keep connections for their next request know then for how long.
    answer.headers_mut().insert(
        "keep-alive",
        HeaderValue::from_str(&format!("timeout={}", READ_TIMEOUT.as_secs())).expect("digits"),
    );
    answer
}

/// The contents of a file. After an error the answer ends without its end.
pub(super) fn with_stream(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Answer {
    let body = StreamBody::new(pieces.map_ok(Frame::data));
    let mut answer = Response::new(UnsyncBoxBody::new(body));
    let kind = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

pub(super) fn switching() -> Answer {
    let body = Full::default().map_err(|never| match never {});
    let mut answer = Response::new(UnsyncBoxBody::new(body));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol::FRAMES));
    answer
}
