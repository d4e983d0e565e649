//! The world behind the fake transport: what was planned for it, what its server did, and what it
//! was asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::plan::{Ending, Plan, Step};
use crate::transport::SessionEnd;

/// How long an ssh has still to do once it has told how its command ended.
const LINGERS: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct World(Mutex<Books>);

/// Everything that is known of it.
#[derive(Default)]
pub(super) struct Books {
    /// For the next sessions that are opened for a command; where there is none, the default.
    pub own: VecDeque<Plan>,
    /// For the next ones that are opened ahead of need.
    pub ahead: VecDeque<Plan>,
    pub endings: VecDeque<Ending>,
    /// Connections that have no session to spare for the ending of a command, but for those that
    /// are in standby.
    pub full: BTreeSet<usize>,
    /// Sessions get their command when they are opened.
    pub is_plain: bool,
    /// How long a login takes.
    pub login: Duration,
    /// How long it takes to find out about piped input.
    pub proving: Duration,
    /// Connections so far.
    pub logins: usize,
    pub sessions: Vec<Facts>,
    /// Every command that the server has executed, as often as it did.
    pub executed: Vec<String>,
    /// Process groups that live, with the alarm that tells their session of their end.
    living: BTreeMap<i32, Arc<Notify>>,
    /// Which group was to be ended over which connection, and over which session in standby.
    pub asked: Vec<(i32, usize, Option<usize>)>,
    /// Groups that were ended.
    pub ended: Vec<i32>,
}

/// What is known of one session.
pub(super) struct Facts {
    pub connection: usize,
    /// It was opened ahead of need.
    pub ahead: bool,
    /// What it was to run.
    pub command: Option<String>,
    /// What its command has read.
    pub input: String,
    /// When its local part was dropped.
    pub dropped: Option<Instant>,
    process: watch::Sender<Process>,
}

/// The local process of a session, as far as it has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub is_open: bool,
    pub end: Option<SessionEnd>,
    pub is_gone: bool,
}

/// The server's ends of the streams of a session.
pub(super) struct Pipes {
    pub stdin: DuplexStream,
    pub stdout: DuplexStream,
    pub stderr: DuplexStream,
}

/// The sign that a command has begun, with its process group; 0 where it has none.
pub(super) fn sign(group: i32) -> String {
    format!("\x1ebegun {group}\n")
}

/// The process group of the command of a session.
pub(super) fn group_of(session: usize) -> i32 {
    1000 + i32::try_from(session).expect("tests have few sessions")
}

impl World {
    pub(super) fn books<R>(&self, look: impl FnOnce(&mut Books) -> R) -> R {
        look(&mut self.0.lock().expect("nobody panics with the books open"))
    }

    /// Opens a session, and gives its number and what tells of its process. A command that is known
    /// already is what it runs.
    pub(super) fn opens(
        self: &Arc<Self>,
        connection: usize,
        plan: Plan,
        pipes: Pipes,
        command: Option<String>,
        ahead: bool,
    ) -> (usize, watch::Receiver<Process>) {
        let (process, receiver) = watch::channel(Process::default());
        let id = self.books(|books| {
            books.sessions.push(Facts {
                connection,
                ahead,
                command,
                input: String::new(),
                dropped: None,
                process: process.clone(),
            });
            books.sessions.len() - 1
        });
        let server = Server { world: Arc::clone(self), id, pipes, process, plan };
        tokio::spawn(server.run());
        (id, receiver)
    }

    /// Ends a process group.
    pub(super) fn ends(&self, group: i32) {
        self.books(|books| {
            books.ended.push(group);
            if let Some(alarm) = books.living.remove(&group) {
                alarm.notify_one();
            }
        });
    }

    /// Groups that live.
    pub(super) fn living(&self) -> Vec<i32> {
        self.books(|books| books.living.keys().copied().collect())
    }

    /// Whether this command lives.
    pub(super) fn runs(&self, command: &str) -> bool {
        self.books(|books| {
            let mut sessions = books.sessions.iter().enumerate();
            sessions.any(|(id, facts)| {
                facts.command.as_deref() == Some(command)
                    && books.living.contains_key(&group_of(id))
            })
        })
    }

    /// How many sessions were given this command.
    pub(super) fn attempts(&self, command: &str) -> usize {
        self.books(|books| {
            let commands = books.sessions.iter().map(|facts| facts.command.as_deref());
            commands.filter(|given| *given == Some(command)).count()
        })
    }

    /// A connection is gone, and with it what runs on it.
    pub(super) fn loses(&self, connection: usize) {
        self.books(|books| {
            for facts in books.sessions.iter().filter(|facts| facts.connection == connection) {
                facts.process.send_modify(|process| {
                    let lost = || SessionEnd::Lost("its connection was closed".to_owned());
                    process.end.get_or_insert_with(lost);
                    process.is_gone = true;
                });
            }
        });
    }
}

/// The server's part of a session. It goes on when the local part is gone.
struct Server {
    world: Arc<World>,
    id: usize,
    pipes: Pipes,
    process: watch::Sender<Process>,
    plan: Plan,
}

impl Server {
    async fn run(mut self) {
        let alarm = Arc::new(Notify::new());
        let group = group_of(self.id);
        let steps = std::mem::take(&mut self.plan.steps);
        let work = async {
            for step in steps {
                if !self.does(step, &alarm).await {
                    break;
                }
            }
            if self.process.borrow().end.is_none() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = work => {}
            () = alarm.notified() => self.tell(SessionEnd::Killed),
        }
        if !self.process.borrow().is_gone {
            sleep(LINGERS).await;
            self.process.send_modify(|process| process.is_gone = true);
        }
        drop(self.pipes.stdout);
        // What was cut off leaves its stderr open for as long as its command runs.
        if self.world.books(|books| books.living.contains_key(&group)) {
            alarm.notified().await;
        }
    }

    /// Whether it goes on.
    async fn does(&mut self, step: Step, alarm: &Arc<Notify>) -> bool {
        match step {
            Step::Passes(time) => sleep(time).await,
            Step::Reads => return self.reads().await,
            Step::Begins => {
                if !self.executes(alarm).await {
                    return false;
                }
                self.process.send_modify(|process| process.is_open = true);
                if self.world.books(|books| !books.is_plain) {
                    let group = if self.plan.is_groupless { 0 } else { group_of(self.id) };
                    let _ = self.pipes.stdout.write_all(sign(group).as_bytes()).await;
                }
            }
            Step::BeginsUnheard => return self.executes(alarm).await,
            // Nobody may be there to read it.
            Step::Prints(text) => drop(self.pipes.stdout.write_all(text.as_bytes()).await),
            Step::Warns(text) => drop(self.pipes.stderr.write_all(text.as_bytes()).await),
            Step::ReadsInput => {
                let mut input = String::new();
                self.pipes.stdin.read_to_string(&mut input).await.expect("tests write text");
                self.world.books(|books| books.sessions[self.id].input = input);
            }
            Step::Ends(end) => self.tell(end),
        }
        true
    }

    /// Waits for the command. A shell that gets none ends.
    async fn reads(&mut self) -> bool {
        if self.world.books(|books| books.sessions[self.id].command.is_some()) {
            return true;
        }
        let mut line = Vec::new();
        while let Ok(byte) = self.pipes.stdin.read_u8().await {
            if byte == b'\n' {
                let command = String::from_utf8(line).expect("tests run text");
                self.world.books(|books| books.sessions[self.id].command = Some(command));
                return true;
            }
            line.push(byte);
        }
        self.tell(SessionEnd::Exited(1));
        false
    }

    async fn executes(&mut self, alarm: &Arc<Notify>) -> bool {
        if !self.reads().await {
            return false;
        }
        self.world.books(|books| {
            let command = books.sessions[self.id].command.clone().expect("it has read it");
            books.executed.push(command);
            books.living.insert(group_of(self.id), Arc::clone(alarm));
        });
        true
    }

    /// The local ssh knows its end. Where it has only lost its command, that lives on.
    fn tell(&self, end: SessionEnd) {
        let is_lost = matches!(end, SessionEnd::Lost(_) | SessionEnd::ClientKilled(_));
        if !is_lost {
            self.world.books(|books| books.living.remove(&group_of(self.id)));
        }
        self.process.send_modify(|process| {
            process.is_gone |= !matches!(end, SessionEnd::Exited(_));
            process.end.get_or_insert(end);
        });
    }
}
