//! A transport whose sessions do what a test has planned, in virtual time.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

use super::plan::{Ending, Plan};
use super::world::{Pipes, Process, World};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Host, Variables};
use crate::transport::{
    Configuration, Connection, End, Group, Input, Marker, NotEnded, NotOpened, NotResolved, Output,
    Script, Session, SessionEnd, Sessions, Source, Streams, Transport,
};

/// What a pipe holds.
const PIPE: usize = 64 * 1024;

/// The transport: a handle to the world.
pub(super) struct Fake(pub Arc<World>);

pub(super) struct FakeConnection {
    pub id: usize,
    world: Arc<World>,
    is_up: watch::Sender<bool>,
}

impl Transport for Fake {
    type Connection = FakeConnection;
    type Way = ();

    async fn resolve(&self, host: &Host) -> Result<Host, NotResolved> {
        Ok(host.clone())
    }

    async fn refreshed(&self, host: Host) -> Host {
        host
    }

    async fn way(&self, _: &Host) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn connect(
        &self,
        _: &Host,
        (): (),
        _: Instant,
        _: Sessions,
    ) -> Result<FakeConnection, ConnectError> {
        sleep(self.0.books(|books| books.login)).await;
        let id = self.0.books(|books| {
            books.logins += 1;
            books.logins - 1
        });
        Ok(FakeConnection { id, world: Arc::clone(&self.0), is_up: watch::Sender::new(true) })
    }

    async fn configuration(&self, _: &Host, _: ConnectErrorKind) -> Configuration {
        0
    }

    async fn shutdown(&self) {}
}

impl FakeConnection {
    fn session(&self, plan: Plan, command: Option<String>, ahead: bool) -> FakeSession {
        let is_plain = self.is_plain();
        let group = if is_plain { Group::None } else { Group::NotBegun };
        let group = Arc::new(Mutex::new(group));
        let ((stdin, their_stdin), (stdout, their_stdout), (stderr, their_stderr)) =
            (duplex(PIPE), duplex(PIPE), duplex(PIPE));
        let pipes = Pipes { stdin: their_stdin, stdout: their_stdout, stderr: their_stderr };
        let (id, process) = self.world.opens(self.id, plan, pipes, command, ahead);
        let marker = Box::new(Sign { group: Arc::clone(&group), searched: 0 }) as _;
        let stdout = Output::new(Box::new(Pipe(stdout)), (!is_plain).then_some(marker));
        let streams =
            Streams { stdin: Some(Box::new(stdin)), stdout, stderr: Box::new(Pipe(stderr)) };
        let (world, streams) = (Arc::clone(&self.world), Some(streams));
        FakeSession { id, world, process, group, streams, is_plain }
    }
}

impl Connection for FakeConnection {
    type Session = FakeSession;

    fn open(&self, script: &Script, _: Input<'_>, _: &Variables) -> Result<FakeSession, NotOpened> {
        let plan = self.world.books(|books| books.own.pop_front()).unwrap_or_default();
        if let Some(why) = plan.not_opened {
            return Err(why());
        }
        let command = self.is_plain().then(|| script.text().to_string_lossy().into_owned());
        Ok(self.session(plan, command, false))
    }

    fn standby(&self, _: &Arc<Variables>) -> Option<FakeSession> {
        let plan = self.world.books(|books| books.ahead.pop_front()).unwrap_or_default();
        Some(self.session(plan, None, true))
    }

    fn is_plain(&self) -> bool {
        self.world.books(|books| books.is_plain)
    }

    async fn prove_input(&self) {
        sleep(self.world.books(|books| books.proving)).await;
    }

    async fn end_groups(&self, over: Option<FakeSession>, groups: &[i32]) -> Result<(), NotEnded> {
        let ending = self.world.books(|books| {
            let over = over.as_ref().map(|session| session.id);
            books.asked.extend(groups.iter().map(|&group| (group, self.id, over)));
            match over.is_none() && books.full.contains(&self.id) {
                true => Ending::Refused,
                false => books.endings.pop_front().unwrap_or_default(),
            }
        });
        match ending {
            Ending::Works(after) => {
                sleep(after).await;
                groups.iter().for_each(|&group| self.world.ends(group));
                Ok(())
            }
            Ending::Refused => Err(NotEnded::Refused),
            Ending::NotHere(reason) => Err(NotEnded::NotHere(reason.to_owned())),
            Ending::StillThere(reason) => Err(NotEnded::StillThere(reason)),
            Ending::Hangs => std::future::pending().await,
        }
    }

    async fn probe(&self, _: Option<&mut Self::Session>) -> Result<(), String> {
        Ok(())
    }

    async fn is_heard(&self, _: &mut Self::Session, _: bool) -> Option<bool> {
        None
    }

    async fn answers(&self) -> Result<(), String> {
        Ok(())
    }

    fn is_alive(&self) -> bool {
        *self.is_up.borrow()
    }

    async fn ended(&self) -> End {
        let _ = self.is_up.subscribe().wait_for(|is_up| !is_up).await;
        End { reason: "it was closed".to_owned(), by_server: false }
    }

    fn has_run(&self) -> bool {
        true
    }

    async fn close(&self, patience: Duration) {
        let runs = self.world.books(|books| {
            let mut of_this = books.sessions.iter().filter(|facts| facts.connection == self.id);
            of_this.any(|facts| facts.dropped.is_none())
        });
        if runs {
            sleep(patience).await;
        }
        self.world.loses(self.id);
        self.is_up.send_replace(false);
    }
}

pub(super) struct FakeSession {
    id: usize,
    world: Arc<World>,
    process: watch::Receiver<Process>,
    group: Arc<Mutex<Group>>,
    streams: Option<Streams>,
    is_plain: bool,
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.world.books(|books| books.sessions[self.id].dropped = Some(Instant::now()));
    }
}

impl Session for FakeSession {
    type Connection = FakeConnection;

    fn is_there(&mut self) -> bool {
        !self.process.borrow().is_gone
    }

    fn take_streams(&mut self) -> Streams {
        self.streams.take().expect("they are taken once")
    }

    fn preface<'a>(&self, script: &'a Script) -> Cow<'a, [u8]> {
        match self.is_plain {
            true => Cow::Borrowed(b""),
            false => {
                let line = script.encoded(|text| text.to_string_lossy().into_owned() + "\n");
                Cow::Borrowed(line.as_bytes())
            }
        }
    }

    fn tells_begin(&self) -> bool {
        !self.is_plain
    }

    async fn opened(&mut self, connection: &FakeConnection) -> Result<(), SessionEnd> {
        let is_told = |process: &Process| process.is_open || process.end.is_some();
        let is_open = self.process.wait_for(is_told).await.is_ok_and(|process| process.is_open);
        if is_open { Ok(()) } else { Err(self.wait(connection).await) }
    }

    async fn wait(&mut self, _: &FakeConnection) -> SessionEnd {
        let process = self.process.wait_for(|process| process.end.is_some()).await;
        let end = process.ok().and_then(|process| process.end.clone()).expect("an end is told");
        if !self.is_plain && !matches!(end, SessionEnd::Lost(_) | SessionEnd::ClientKilled(_)) {
            *self.group.lock().expect("nobody panics with it") = Group::Gone;
        }
        end
    }

    fn not_begun(&self, end: SessionEnd, _: &FakeConnection) -> SessionEnd {
        match end {
            SessionEnd::Exited(_) => SessionEnd::NotBegun,
            end => end,
        }
    }

    fn group(&self) -> Group {
        *self.group.lock().expect("nobody panics with it")
    }
}

/// Our end of an output.
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Source for Pipe {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Tokio's budget does not count: what has arrived is there.
        unconstrained(self.0.read(buf)).now_or_never().unwrap_or(Ok(0))
    }
}

/// Finds the sign that a command has begun.
struct Sign {
    group: Arc<Mutex<Group>>,
    /// So much of the output cannot be a part of it.
    searched: usize,
}

impl Marker for Sign {
    fn take_from(&mut self, output: &mut Vec<u8>) -> bool {
        let start = output.iter().position(|&byte| byte == 0x1e);
        self.searched = start.unwrap_or(output.len());
        let Some(start) = start else { return false };
        let Some(end) = output[start..].iter().position(|&byte| byte == b'\n') else {
            return false;
        };
        let line: Vec<u8> = output.drain(start..=start + end).collect();
        let line = String::from_utf8(line).expect("the sign is text");
        let number = line.trim().rsplit(' ').next().and_then(|number| number.parse().ok());
        let group = match number.expect("the sign ends with a number") {
            0 => Group::None,
            group => Group::Known(group),
        };
        *self.group.lock().expect("nobody panics with it") = group;
        true
    }

    fn forget(&mut self) -> usize {
        std::mem::take(&mut self.searched)
    }
}
