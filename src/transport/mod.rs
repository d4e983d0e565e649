//! The seam between who decides about connections and who makes them.
//!
//! [`Transport`] makes a [`Connection`], which opens a [`Session`], which runs one command. The
//! policy and the execution of commands are generic over these traits: they are tested in virtual
//! time with a fake, and know nothing of processes. Only `pool/` knows which mechanism stands
//! behind.

mod script;
mod streams;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::place::Needs;
use crate::host::{Host, Variables};
use crate::text::plain;

pub(crate) use script::Script;
pub(crate) use streams::{Marker, Output, Source, Streams};

/// How long the ending of remote commands may take, from its start to the answer.
pub(crate) const ENDING: Duration = Duration::from_secs(4);

/// A digest of what could mend a login.
pub(crate) type Configuration = u64;

/// Makes connections.
pub(crate) trait Transport: Send + Sync + 'static {
    type Connection: Connection;

    /// What a login goes over.
    type Way: Send;

    /// The host as a caller in its place reaches it: whom it shares connections with, and how long
    /// a login may take. A host that was resolved before stays as it is.
    fn resolve(&self, host: &Host) -> impl Future<Output = Result<Host, NotResolved>> + Send;

    /// A host that was resolved, after what its login goes by was looked at again. The policy asks
    /// where nobody is connected to it.
    fn refreshed(&self, host: Host) -> impl Future<Output = Host> + Send;

    /// Waits for what a login to this host goes over: a connection to a hop, for one.
    fn way(&self, host: &Host) -> impl Future<Output = Result<Self::Way, ConnectError>> + Send;

    /// Makes a connection and proves that it works, by the deadline. Where its server is known to
    /// open one session, nothing is proven: that session is for a command. Dropping the future ends
    /// what it had started.
    fn connect(
        &self,
        host: &Host,
        way: Self::Way,
        deadline: Instant,
        sessions: Sessions,
    ) -> impl Future<Output = Result<Self::Connection, ConnectError>> + Send;

    /// What could mend a login to this host that has failed so, as far as that can be seen from
    /// here: another value means that it is worth a try. It takes a moment at most.
    fn configuration(
        &self,
        host: &Host,
        kind: ConnectErrorKind,
    ) -> impl Future<Output = Configuration> + Send;

    /// Removes what is left once all connections are closed.
    fn shutdown(&self) -> impl Future<Output = ()> + Send;
}

/// What is known of a server: how many sessions it opens on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Nobody has tried, and its software does not tell.
    #[default]
    Unknown,
    /// Several, at once and one after another.
    Several,
    /// One, and the connection is of no use behind it.
    One,
}

/// What came of another session on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// The server opens it, and the connection outlives it.
    Opens,
    /// The server refuses it, or says nothing while it answers over the session that it has opened.
    Refuses,
    /// The connection has ended.
    Ends,
    /// Something else came in between.
    Fails,
}

/// Why a host could not be resolved.
#[derive(Debug)]
pub(crate) enum NotResolved {
    /// A login would fail so.
    Failed(ConnectError),
    /// More has to be known of the caller's place.
    Needs(Needs),
}

impl From<ConnectError> for NotResolved {
    fn from(error: ConnectError) -> Self {
        NotResolved::Failed(error)
    }
}

/// One authenticated connection.
pub(crate) trait Connection: Send + Sync + 'static {
    type Session: Session<Connection = Self>;

    /// Starts a session for this command, which sends these variables.
    fn open(
        &self,
        script: &Script,
        input: Input<'_>,
        variables: &Variables,
    ) -> Result<Self::Session, NotOpened>;

    /// The session that has proven the login and waits for a command, with the variables that it
    /// sends. None where there is none, and the second time.
    fn first(&self) -> Option<(Self::Session, Arc<Variables>)> {
        None
    }

    /// Begins to open a session ahead of need, which sends these variables; it may be used at once.
    /// None where that is not possible on this connection.
    fn standby(&self, variables: &Arc<Variables>) -> Option<Self::Session>;

    /// No session can be opened here before its command is known.
    fn is_plain(&self) -> bool;

    /// What is known of its server.
    fn sessions(&self) -> Sessions {
        Sessions::Several
    }

    /// Opens a session beside this one, which waits, or else beside one of its own; ends it, and
    /// opens another one. Nothing else is to be opened on the connection, or to run there,
    /// meanwhile. The session is of use afterwards if [`is_idle`](Session::is_idle) says so.
    fn try_another(
        &self,
        _beside: Option<&mut Self::Session>,
    ) -> impl Future<Output = Trial> + Send {
        async { Trial::Opens }
    }

    /// Finds out, once, whether a command with an input of its own can have a session of
    /// [`standby`](Self::standby)'s kind.
    fn prove_input(&self) -> impl Future<Output = ()> + Send;

    /// Ends the process groups of remote commands, over this session or another one, and completes
    /// when nothing is left of them. It takes [`ENDING`] at most.
    fn end_groups(
        &self,
        over: Option<Self::Session>,
        groups: &[i32],
    ) -> impl Future<Output = Result<(), NotEnded>> + Send;

    /// Proves that a command could run now. `Err` says what did not work. An idle session that has
    /// run a command saves the opening of another one; it is of use afterwards if
    /// [`is_idle`](Session::is_idle) says so.
    fn probe(
        &self,
        over: Option<&mut Self::Session>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether a command that does nothing runs over this idle session in a short time. None where
    /// the session itself cannot tell. It is of use afterwards if [`is_idle`](Session::is_idle)
    /// says so.
    fn is_heard(
        &self,
        over: &mut Self::Session,
        busy: bool,
    ) -> impl Future<Output = Option<bool>> + Send;

    /// Proves that this machine's part of it works. What the server does is not looked at: it may
    /// have a lot to do.
    fn answers(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether it has not ended at this instant. `ended` completes a moment later: until then it
    /// must not be handed out.
    fn is_alive(&self) -> bool;

    /// Completes when the connection has ended, with the reason.
    fn ended(&self) -> impl Future<Output = End> + Send;

    /// Whether a session was opened on it and ran, be it the echo of a proof.
    fn has_run(&self) -> bool;

    /// Lets what runs on it finish within `patience`, then ends it. Completes when it is gone.
    fn close(&self, patience: Duration) -> impl Future<Output = ()> + Send;
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// In one line.
    pub reason: String,
    /// The server has closed it. Otherwise it ended here, or on the way, or nobody knows.
    pub by_server: bool,
}

/// One session: a command, its streams and its end. Dropping it ends the local part of it; the
/// remote command notices only when it reads or writes.
pub(crate) trait Session: Send + 'static {
    type Connection;

    /// Whether it has not ended, as far as is known here.
    fn is_there(&mut self) -> bool;

    /// Whether this command can be given to it; `again` where the session may be used once more.
    fn suits(&self, _script: &Script, _again: bool) -> bool {
        true
    }

    /// The streams of this command, which reads nothing, where the session can be used once more
    /// behind it. None where that cannot be had; then [`take_streams`](Self::take_streams) has
    /// those of a session that ends with the command.
    fn streams_of_one(&mut self, _script: &Script) -> Option<Streams> {
        None
    }

    /// Whether its command has ended and it takes another one.
    fn goes_on(&self) -> bool {
        false
    }

    /// Whether it waits for a command, its first one or another one, whatever its age.
    fn is_idle(&self) -> bool {
        self.goes_on()
    }

    /// The streams, once.
    fn take_streams(&mut self) -> Streams;

    /// What is to be written to the session before the command's own input: the command itself,
    /// where the session did not get it when it was opened.
    fn preface<'a>(&self, script: &'a Script) -> Cow<'a, [u8]>;

    /// Whether [`Output::begun`] tells when the command begins.
    fn tells_begin(&self) -> bool;

    /// Completes when the server has opened the session, or with the end of one that it has not.
    fn opened(
        &mut self,
        connection: &Self::Connection,
    ) -> impl Future<Output = Result<(), SessionEnd>> + Send;

    /// Waits for its end. All that the command has written has arrived by then.
    ///
    /// Cancel safe: dropped and called again, it gives the same.
    fn wait(&mut self, connection: &Self::Connection) -> impl Future<Output = SessionEnd> + Send;

    /// What the end of a session means whose command has not begun.
    fn not_begun(&self, end: SessionEnd, connection: &Self::Connection) -> SessionEnd;

    /// The process group of the remote command.
    fn group(&self) -> Group;
}

/// The process group to signal, of a remote command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The command has not begun, as far as is known.
    NotBegun,
    Known(i32),
    /// The command has none.
    None,
    /// The command has ended, and nothing is left to signal.
    Gone,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// With this status of the remote command, 255 included.
    Exited(i32),
    /// A signal killed the remote command; the connection lives.
    Killed,
    /// It started, or may have, and the connection was lost.
    Lost(String),
    /// Somebody killed the local ssh, or the shell that runs one command after another; the
    /// connection lives.
    ClientKilled(String),
    /// The server would not open one more session. The command was not executed; the connection
    /// lives.
    Refused(String),
    /// The connection could not be reached. The command was not executed.
    NotReached(String),
    /// The shell ended before it had taken its command. The command was not executed; the
    /// connection lives.
    NotBegun,
}

/// What a command is to read.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// This, and nothing behind it.
    Bytes(&'a [u8]),
    /// What somebody writes.
    Piped,
}

/// Why there is no session. The command was not executed.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// The connection is being closed.
    Closing,
    /// The directory of the control sockets is gone, and with it the way to the master.
    NoDirectory(io::Error),
    /// No ssh could be started.
    NoProcess(io::Error),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOpened::Closing => f.write_str("the connection is being closed"),
            NotOpened::NoDirectory(error) => {
                write!(f, "the directory of the control sockets is gone: {}", plain(error))
            }
            NotOpened::NoProcess(error) => write!(f, "cannot start ssh: {}", plain(error)),
        }
    }
}

/// Why process groups were not ended, or may not be.
#[derive(Debug)]
pub(crate) enum NotEnded {
    /// The server opens no more sessions on this connection now. Another one may have one to spare.
    Refused,
    /// This connection is of no use for it, for this reason.
    NotHere(String),
    /// They were signalled, and some of it is still there, for this reason.
    StillThere(&'static str),
}
