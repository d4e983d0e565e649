//! What a test plans for the sessions of the fake, and for the ending of commands.

use std::time::Duration;

use crate::transport::{NotOpened, SessionEnd};

/// What one session does, one step after the other. Behind its last step a session that has not
/// ended runs until its group is ended.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Why it cannot even be opened.
    pub not_opened: Option<fn() -> NotOpened>,
    /// The server gives its command no process group.
    pub is_groupless: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Passes(Duration),
    /// Waits for its command. Where none comes the shell ends.
    Reads,
    /// Has its command executed, and gives the sign of it, or tells that it is open.
    Begins,
    /// The same, but nobody hears of it.
    BeginsUnheard,
    Prints(String),
    Warns(String),
    /// Reads its input to the end.
    ReadsInput,
    /// The end is told. The steps behind it are what is still on its way.
    Ends(SessionEnd),
}

impl Plan {
    /// A session that does nothing yet.
    pub(super) fn new() -> Self {
        Plan { steps: Vec::new(), not_opened: None, is_groupless: false }
    }

    /// One whose command begins at once.
    pub(super) fn begins() -> Self {
        Plan::new().begin()
    }

    /// One that ends so when it has its command, which is not executed.
    pub(super) fn ends_unbegun(end: SessionEnd) -> Self {
        Plan::new().read().end(end)
    }

    pub(super) fn not_opened(why: fn() -> NotOpened) -> Self {
        Plan { not_opened: Some(why), ..Plan::new() }
    }

    pub(super) fn groupless(mut self) -> Self {
        self.is_groupless = true;
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn pass(self, time: Duration) -> Self {
        self.step(Step::Passes(time))
    }

    pub(super) fn read(self) -> Self {
        self.step(Step::Reads)
    }

    pub(super) fn begin(self) -> Self {
        self.step(Step::Begins)
    }

    pub(super) fn begin_unheard(self) -> Self {
        self.step(Step::BeginsUnheard)
    }

    pub(super) fn print(self, text: &str) -> Self {
        self.step(Step::Prints(text.to_owned()))
    }

    pub(super) fn warn(self, text: &str) -> Self {
        self.step(Step::Warns(text.to_owned()))
    }

    pub(super) fn read_input(self) -> Self {
        self.step(Step::ReadsInput)
    }

    pub(super) fn end(self, end: SessionEnd) -> Self {
        self.step(Step::Ends(end))
    }

    pub(super) fn exit(self, status: i32) -> Self {
        self.end(SessionEnd::Exited(status))
    }
}

/// A command of 10 ms that succeeds.
impl Default for Plan {
    fn default() -> Self {
        Plan::begins().pass(Duration::from_millis(10)).exit(0)
    }
}

/// What comes of an attempt to end process groups.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// They are gone after that time.
    Works(Duration),
    Refused,
    NotHere(&'static str),
    StillThere(&'static str),
    Hangs,
}

/// It takes 10 ms.
impl Default for Ending {
    fn default() -> Self {
        Ending::Works(Duration::from_millis(10))
    }
}
