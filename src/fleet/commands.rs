//! One command on many hosts.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::Instant;

use super::Each;
use crate::command::{Command, Output};
use crate::error::Error;
use crate::host::Host;

/// One command on many hosts, at most so many at once.
///
/// ```no_run
/// use std::time::Duration;
/// use sshpool::{Fleet, Host, HostSet, Pool};
///
/// # async fn example(pool: &Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let names: HostSet = "web[1-20],db1".parse()?;
/// let hosts: Vec<Host> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
/// let reload = |host| pool.shell(host, "systemctl reload nginx").timeout(Duration::from_secs(20));
/// let mut outcomes = Fleet::new(&hosts).width(8.try_into()?).fail_fast(true).run(reload);
/// while let Some(outcome) = outcomes.next().await {
///     match &outcome.result {
///         Ok(output) => {
///             let (name, elapsed) = (outcome.host.name(), outcome.elapsed);
///             println!("{name}: {} after {elapsed:?}", output.status);
///         }
///         Err(error) => println!("{error}"),
///     }
/// }
/// println!("not started: {}", sshpool::fold(outcomes.not_started().iter().map(Host::name)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is run until the outcomes are awaited"]
pub struct Fleet<'a> {
    hosts: &'a [Host],
    width: NonZeroUsize,
    fail_fast: bool,
}

/// What is too much for this machine at once is not decided here: the pool has few logins under way
/// at a time.
const WIDTH: NonZeroUsize = NonZeroUsize::new(32).expect("it is not 0");

impl<'a> Fleet<'a> {
    /// These hosts, 32 of them at once.
    pub fn new(hosts: &'a [Host]) -> Self {
        Fleet { hosts, width: WIDTH, fail_fast: false }
    }

    /// How many hosts have the command at once, at most.
    pub fn width(mut self, width: NonZeroUsize) -> Self {
        self.width = width;
        self
    }

    /// Whether the first host that fails is the last one to be started: by an error or by a status
    /// other than 0. Those that run then are let finish: to cut a command off in the middle may do
    /// more harm than it has done.
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.fail_fast = fail_fast;
        self
    }

    /// Runs the command that is made for each host, and captures what it writes.
    pub fn run(self, command: impl Fn(&'a Host) -> Command + Send + 'a) -> Outcomes<'a> {
        let run = move |host| {
            let command = command(host);
            async move {
                let begun = Instant::now();
                let result = command.output().await;
                (result, begun.elapsed())
            }
        };
        Outcomes {
            each: Each::new(self.hosts, self.width, run),
            fail_fast: self.fail_fast,
            left: &[],
        }
    }
}

/// The result of a command on one host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// Where.
    pub host: &'a Host,
    /// What it left. A status other than 0 is no error here.
    pub result: Result<Output, Error>,
    /// From the first look for a connection to the end.
    pub elapsed: Duration,
}

impl Outcome<'_> {
    /// Whether the command ran to its end with the status 0.
    pub fn success(&self) -> bool {
        self.result.as_ref().is_ok_and(|output| output.status.success())
    }
}

/// What becomes of one command on many hosts. Made by [`Fleet::run`].
///
/// The commands go on only while [`next`](Self::next) is awaited. Dropping it ends those that run,
/// as dropping the future of [`Command::output`] does.
#[must_use = "nothing is run until next is awaited"]
pub struct Outcomes<'a> {
    each: Each<'a, Host, (Result<Output, Error>, Duration)>,
    fail_fast: bool,
    left: &'a [Host],
}

impl<'a> Outcomes<'a> {
    /// The next host that is done, in the order in which they are. `None` when there is none left.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no outcome is lost, and the next call goes on.
    pub async fn next(&mut self) -> Option<Outcome<'a>> {
        let (host, (result, elapsed)) = self.each.next().await?;
        let outcome = Outcome { host, result, elapsed };
        if self.fail_fast && !outcome.success() {
            self.stop();
        }
        Some(outcome)
    }

    /// Starts the command on no more hosts. Those that run are let finish.
    pub fn stop(&mut self) {
        let left = self.each.stop();
        if !left.is_empty() {
            self.left = left;
        }
    }

    /// The hosts that have not got the command, and will not, because it was stopped.
    pub fn not_started(&self) -> &'a [Host] {
        self.left
    }
}
