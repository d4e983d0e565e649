//! One request to the agent, and its answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::NoAgent;
use crate::agent::protocol::{self, Question};

/// How long the head of an answer may take that depends on nobody but the agent.
const ANSWER: Duration = Duration::from_secs(30);

/// A request.
pub(super) struct Outgoing<'a> {
    pub method: Method,
    pub path: &'a str,
    pub body: Bytes,
    /// The connection is to carry frames afterwards.
    pub upgrade: bool,
    /// Only an agent of our version is to answer.
    pub version: bool,
    /// How long the head of the answer may take.
    pub patience: Duration,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// The agent has closed the connection.
    Gone(hyper::Error),
    Failed(hyper::Error),
}

impl<'a> Outgoing<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Outgoing { method: Method::GET, ..Outgoing::post(path, Vec::new()) }
    }

    pub(super) fn post(path: &'a str, body: Vec<u8>) -> Self {
        let body = Bytes::from(body);
        Outgoing {
            method: Method::POST,
            path,
            body,
            upgrade: false,
            version: true,
            patience: ANSWER,
        }
    }

    pub(super) async fn send(&self, stream: UnixStream) -> Result<Response<Incoming>, Unanswered> {
        // What has arrived is read before the end is seen: an answer that was given is not missed.
        let gone = |error: hyper::Error| match error.is_parse() {
            true => Unanswered::Failed(error),
            false => Unanswered::Gone(error),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(HOST, "sshpool")
            .header(CONTENT_TYPE, "application/json");
        if self.version {
            request = request.header(protocol::VERSION_HEADER, protocol::VERSION);
        }
        if self.upgrade {
            request = request.header(CONNECTION, "upgrade").header(UPGRADE, protocol::FRAMES);
        }
        let request = request.body(Full::new(self.body.clone())).expect("these headers are valid");
        sender.send_request(request).await.map_err(gone)
    }
}

pub(super) fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the requests have text keys")
}

pub(super) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NoAgent> {
    serde_json::from_slice(bytes)
        .map_err(|error| NoAgent::Failed(format!("the agent's answer is not understood: {error}")))
}

pub(super) async fn collected(answer: Response<Incoming>) -> Result<Bytes, NoAgent> {
    let body = answer.into_body().collect().await;
    Ok(body.map_err(|error| NoAgent::NoAnswer(error.to_string()))?.to_bytes())
}

/// Gives a question of ssh to the agent that has started it. `None` where nobody answers.
pub(crate) async fn pass_on(prompt: String) -> Option<String> {
    let socket = std::env::var_os(protocol::ASKPASS_SOCKET)?;
    let token = std::env::var(protocol::ASKPASS_TOKEN).ok()?;
    let hint = std::env::var("SSH_ASKPASS_PROMPT").ok();
    let stream = UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let body = encoded(&Question { token, prompt, hint });
    let request =
        Request::post("/v1/question").header(HOST, "sshpool").body(Full::new(Bytes::from(body)));
    let answer = sender.send_request(request.ok()?).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let answer: Answer = parsed(&collected(answer).await.ok()?).ok()?;
    Some(answer.answer)
}

#[derive(serde::Deserialize)]
struct Answer {
    answer: String,
}
