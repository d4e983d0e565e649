//! `PUT` and `GET /v1/file`: a file of a host as the body of a request or of an answer.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::hosts::host;
use super::http::{Answer, json, with_stream};
use super::peer::Peer;
use super::{Agent, READ_TIMEOUT, Running};
use crate::agent::protocol::{Cause, HostSpec, Origin, Refusal};
use crate::files::{Download, FileError, Options, Upload};

/// A body is passed on in pieces of so much at most.
const PIECE: usize = 64 * 1024;

/// What the query of a request says.
struct Query {
    host: String,
    path: PathBuf,
    options: Options,
}

pub(super) async fn file(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Answer, Refusal> {
    let query = Query::read(request.uri().query().unwrap_or_default())
        .map_err(|why| Refusal::new(Cause::Invalid, why))?;
    let running = Running::new(agent)?;
    let (host, pool) = host(agent, HostSpec::Name(query.host), Origin::default()).await?;
    let refusal = |error: &FileError| match error {
        FileError::Run(error) => running.refusal(error, &host),
        other => Refusal::of_file(other, host.name()),
    };
    let gone = || Refusal::new(Cause::Invalid, "the client is gone");
    if request.method() == Method::GET {
        let begun = tokio::select! {
            begun = Download::begin(&pool, &host, &query.path, &query.options) => begun,
            () = peer.gone() => return Err(gone()),
        };
        let begun = begun.map_err(|error| refusal(&error))?;
        let (ours, theirs) = tokio::io::duplex(PIECE);
        // What is wrong when some of it is on its way cannot be told: the answer is cut off then,
        // without the end that it would have.
        let (ended, end) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let written = begun.write_to(ours, &query.path, &|_| {}).await;
            drop(running);
            let _ = ended.send(written.map(|_| ()).map_err(io::Error::other));
        });
        let pieces = stream::unfold((theirs, Some(end)), async |(mut from, end)| {
            let mut piece = Vec::with_capacity(PIECE);
            match from.read_buf(&mut piece).await {
                Ok(1..) => Some((Ok(Bytes::from(piece)), (from, end))),
                _ => match end?.await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some((Err(error), (from, None))),
                    Err(_) => Some((Err(io::ErrorKind::BrokenPipe.into()), (from, None))),
                },
            }
        });
        return Ok(with_stream(pieces));
    }
    let body = request.into_body();
    let length = body.size_hint().exact();
    let (sender, receiver) = mpsc::channel(8);
    let from = BodyReader { receiver, piece: Bytes::new() };
    let upload = Upload::reader(Box::new(from), length, &query.path, &query.options);
    let hosts = std::slice::from_ref(&host);
    let copies = async {
        let (copied, ()) = tokio::join!(upload.run(&pool, hosts, &|_, _| {}), pass(body, sender));
        copied
    };
    let copied = tokio::select! {
        copied = copies => copied,
        () = peer.gone() => return Err(gone()),
    };
    let copied = copied.into_iter().next().expect("there is an answer for each host");
    let copied = copied.map_err(|error| refusal(&error))?;
    json(&serde_json::json!({ "bytes": copied.bytes, "sha256": copied.sha256 }))
}

/// Passes a body on, and what is wrong with it.
async fn pass(mut body: Incoming, to: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let piece = match timeout(READ_TIMEOUT, body.frame()).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(data),
                // Trailers are of no use.
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => {
                Err(io::Error::other(format!("the body did not go on within {READ_TIMEOUT:?}")))
            }
        };
        let is_last = piece.is_err();
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// A body, for a thread that reads it.
struct BodyReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

impl Query {
    fn read(text: &str) -> Result<Self, String> {
        let (mut host, mut path, mut options) = (None, None, Options::new());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| format!("{name}: not percent-encoded"))?;
            let flag = || match &value[..] {
                b"true" => Ok(true),
                b"false" => Ok(false),
                _ => Err(format!("{name}: expected true or false")),
            };
            match name {
                "host" => {
                    let text = String::from_utf8(value).map_err(|_| "host: not UTF-8")?;
                    host = Some(text);
                }
                "path" if value.is_empty() || value.contains(&0) => {
                    return Err("path: expected the path of a file".to_owned());
                }
                "path" => path = Some(PathBuf::from(OsString::from_vec(value))),
                "mode" => {
                    let mode = std::str::from_utf8(&value).ok();
                    let mode = mode.and_then(|text| u32::from_str_radix(text, 8).ok());
                    let mode = mode.filter(|&mode| mode <= 0o7777);
                    options = options.mode(mode.ok_or("mode: expected octal digits, such as 640")?);
                }
                "sha256" => options = options.sha256(flag()?),
                "sync" => options = options.sync(flag()?),
                name => {
                    return Err(format!(
                        "{name:?}: expected host, path, mode, sha256 or sync in the query"
                    ));
                }
            }
        }
        let host = host.ok_or("the query has no host")?;
        Ok(Query { host, path: path.ok_or("the query has no path")?, options })
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            // As forms have a blank.
            bytes.push(if *first == b'+' { b' ' } else { *first });
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("host=web1&path=%2Fa%20b", Ok(("web1", "/a b")))]
    #[case("path=x+y&host=web1&mode=640&sha256=true", Ok(("web1", "x y")))]
    #[case("host=web1", Err("the query has no path"))]
    #[case("path=x", Err("the query has no host"))]
    #[case("host=web1&path=", Err("path: expected the path of a file"))]
    #[case("host=web1&path=%zz", Err("path: not percent-encoded"))]
    #[case("host=a&path=b&mode=9", Err("mode: expected octal digits, such as 640"))]
    #[case("host=a&path=b&sync=1", Err("sync: expected true or false"))]
    fn a_query_is_read(#[case] text: &str, #[case] expected: Result<(&str, &str), &str>) {
        let read = Query::read(text);
        let read = read.as_ref().map(|query| (&*query.host, query.path.to_str().expect("text")));
        assert_eq!(read.map_err(|error| &**error), expected);
    }
}
