//! Opening sessions on a master.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Account, Master};
use crate::host::Variables;
use crate::openssh::args;
use crate::openssh::bootstrap::{self, Group, Marker};
use crate::openssh::ends;
use crate::openssh::log::Log;
use crate::openssh::pipes;
use crate::openssh::session::Session;
use crate::openssh::supervisor::log_of;
use crate::transport::{Input, NotOpened, Script, Sessions};

/// Its log is looked at each time that so many sessions were opened.
const SESSIONS_TO_LOOK: u64 = 256;

impl Master {
    /// What it logs of its sessions would fill a disk in time.
    pub(super) fn cut_log(&self) {
        if ends::cut(&log_of(&self.socket)) {
            self.notes.ready_at.store(0, Ordering::Relaxed);
        }
    }

    /// Starts a session for this command. On a POSIX account it takes the command from its input.
    pub(crate) fn open(
        &self,
        script: &Script,
        input: Input<'_>,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        if self.notes.draining.load(Ordering::Relaxed) {
            return Err(NotOpened::Closing);
        }
        match self.account() {
            _ if script.is_subsystem() => self.spawn(script, input, "", None, variables),
            Account::Posix => self.bootstrap_with(input, bootstrap::line_of(script), variables),
            Account::Shell | Account::Silent => self.spawn(script, input, "", None, variables),
        }
    }

    /// Starts a session for a command that nobody has yet; none where the account does not allow
    /// that or no process can be started.
    pub(crate) fn standby(&self, variables: &Variables) -> Option<Session> {
        // Whoever closes waits for all processes when the connection has ended. So this one is
        // counted first: then it is waited for, or the end is seen here.
        let _counted = self.runtime.claim();
        if self.is_plain() || !self.is_alive() || self.sessions() == Sessions::One {
            return None;
        }
        match self.bootstrap_with(Input::Piped, "", variables) {
            Ok(session) => Some(session.ahead()),
            Err(why) => {
                tracing::debug!(pid = self.pid, ?why, "no session in standby");
                None
            }
        }
    }

    /// A session of ours, which sends no variables.
    pub(in crate::openssh) fn bootstrap(
        &self,
        input: Input<'_>,
        line: &str,
    ) -> Result<Session, NotOpened> {
        self.bootstrap_with(input, line, &Variables::default())
    }

    fn bootstrap_with(
        &self,
        input: Input<'_>,
        line: &str,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        let script = Script::new(self.bootstrap_text());
        self.spawn(&script, input, line, Some(bootstrap::marker()), variables)
    }

    /// What a shell does to get its commands.
    pub(super) fn bootstrap_text(&self) -> &'static str {
        match self.lanes.settings().is_fast {
            true => &bootstrap::FAST_BOOTSTRAP,
            false => &bootstrap::BOOTSTRAP,
        }
    }

    pub(super) fn spawn(
        &self,
        script: &Script,
        input: Input<'_>,
        preface: &str,
        marker: Option<Marker>,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        let stdin = pipes::input_behind(preface, input).map_err(NotOpened::NoProcess)?;
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        if number % SESSIONS_TO_LOOK == SESSIONS_TO_LOOK - 1 {
            self.cut_log();
        }
        let mut log = self.socket.clone().into_os_string();
        log.push(format!(".{number}"));
        let log = Log::create(log.into())?;
        let forwards = self.route.answer.forwards_agent();
        let arguments = args::session(&self.socket, log.path(), script, variables, forwards);
        let mut command = self.program.client(arguments);
        command.envs(&variables.0);
        let group = marker.as_ref().map_or_else(Group::none, |marker| marker.group().clone());
        let claims = (self.notes.counted(group.clone()), self.runtime.claim());
        let lanes = Arc::clone(&self.lanes);
        Session::spawn(command, log, claims, stdin, marker, group, lanes)
    }
}
