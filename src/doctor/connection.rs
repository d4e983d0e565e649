//! A connection as the pool makes it, step by step, and what can be seen over it. There is one
//! login.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::advice;
use super::finding::{Finding, duration_text};
use super::report::{Recorder, Verdict};
use crate::error::{ConnectError, ConnectErrorKind, Error};
use crate::host::Host;
use crate::openssh::{Account, Limit, Resolved, Step, Trace};
use crate::pool::{Lease, Pool};
use crate::text::{printable, without_host};
use crate::transport::Sessions;

/// Steps that take longer than this are told.
const SLOW: Duration = Duration::from_secs(1);
/// How many commands are run, and what is waited for before each, so that a session in standby can
/// be there.
const COMMANDS: usize = 5;
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_millis(500);
/// So many more sessions are asked for than the settings want, and so many at most.
const MORE_SESSIONS: usize = 4;
const MOST_SESSIONS: usize = 32;
/// So much of what a start-up file prints is shown.
const SHOWN: usize = 60;

/// The steps of a connect, as they are called here.
const STEPS: [(Step, &str); 7] = [
    (Step::Reached, "tcp"),
    (Step::Greeted, "server"),
    (Step::Exchanged, "kex"),
    (Step::LoggedIn, "login"),
    (Step::Listening, "socket"),
    (Step::Answered, "check"),
    (Step::Echoed, "account"),
];

/// Connects, and sees what the account and the server are like.
pub(super) async fn examine(
    pool: &Pool,
    host: &Host,
    resolved: &Resolved,
    recorder: &mut Recorder<'_>,
) -> Verdict {
    let trace = Arc::new(Trace::default());
    pool.core().transport.watch(Arc::clone(&trace));
    let started = Instant::now();
    let acquired = tokio::select! {
        acquired = pool.acquire(host) => acquired,
        never = trace.follow() => match never {},
    };
    let took = started.elapsed();
    let facts = &mut recorder.facts;
    (facts.server, facts.kex, facts.host_key) = (trace.server(), trace.kex(), trace.host_key());
    match acquired {
        Ok(lease) => {
            facts.connect_ms = Some(milliseconds(took));
            for finding in steps_done(&trace, resolved) {
                recorder.add(finding);
            }
            recorder.add(connected(took, pool));
            let steps = trace.steps();
            let at = |wanted| steps.iter().find(|(step, _)| *step == wanted).map(|(_, at)| *at);
            let echo = at(Step::Echoed)
                .zip(at(Step::Listening))
                .map_or(Duration::ZERO, |(end, start)| end - start);
            over(pool, host, lease, echo, recorder).await
        }
        Err(Error::Connect { source, .. }) => {
            not_connected(&source, started, host, resolved, &trace, recorder).await
        }
        Err(error) => {
            let why = without_host(&error, host.name());
            recorder.add(Finding::failed("connect", "no connection").why(why));
            Verdict::of(&error)
        }
    }
}

async fn not_connected(
    error: &ConnectError,
    started: Instant,
    host: &Host,
    resolved: &Resolved,
    trace: &Trace,
    recorder: &mut Recorder<'_>,
) -> Verdict {
    for finding in steps_done(trace, resolved) {
        recorder.add(finding);
    }
    let done = trace.steps();
    let last = done.last().copied();
    // By a proxy nothing tells when TCP has a connection.
    let missing = |step: Step| {
        last.is_some_and(|(last, _)| last < step)
            && (step != Step::Reached || resolved.destination.proxy.is_none())
    };
    let step = STEPS.iter().find(|(step, _)| missing(*step));
    let (step, check) = step.map_or((Step::Started, "connect"), |(step, check)| (*step, *check));
    let mut finding =
        advice::failed(check, error).took(last.map_or(started, |(_, since)| since).elapsed());
    if !recorder.has_failed("name") {
        finding = finding.todo(advice::after(error, step, host, resolved, trace));
    }
    let offered = trace.offered();
    if error.kind() == ConnectErrorKind::Authentication && !offered.is_empty() {
        let server = trace
            .methods()
            .map(|methods| format!("; the server takes {methods}"))
            .unwrap_or_default();
        finding = finding.why(format!(
            "{}; offered: {}{server}",
            error.detail().trim_end_matches('.'),
            offered.join("; ")
        ));
    }
    recorder.add(finding);
    match error.kind() {
        ConnectErrorKind::TimedOut => Verdict::TimedOut,
        _ => Verdict::Fails,
    }
}

/// A finding for each step of the way that was done; the account is told elsewhere.
fn steps_done(trace: &Trace, resolved: &Resolved) -> Vec<Finding> {
    let steps = trace.steps();
    let mut findings = Vec::new();
    if let (Some(proxy), true) = (&resolved.destination.proxy, steps.len() > 1) {
        findings.push(Finding::skipped("tcp", format!("by way of {proxy}")));
    }
    for pair in steps.windows(2) {
        let [(_, before), (step, at)] = pair else { continue };
        let Some((_, check)) = STEPS.iter().find(|(known, _)| known == step) else { continue };
        let known = |text: Option<String>| text.unwrap_or_else(|| "done".to_owned());
        let what = match step {
            Step::Reached => "connected".to_owned(),
            Step::Greeted => known(trace.server()),
            Step::Exchanged => {
                let parts = [trace.kex(), trace.cipher(), trace.host_key()];
                parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
            }
            Step::LoggedIn => format!("{} by {}", resolved.user, known(trace.accepted())),
            Step::Listening => "the control socket is there".to_owned(),
            Step::Answered => "the control master answers".to_owned(),
            Step::Echoed | Step::Started => continue,
        };
        let took = at.duration_since(*before);
        findings.push(
            match (step, took > SLOW) {
                (Step::Reached | Step::Greeted | Step::Exchanged | Step::LoggedIn, true) => Finding::warning(
                    check, what,
                )
                .why(format!("this step alone took {}", duration_text(took)))
                .todo(match step {
                    Step::Reached => {
                        "see whether the network loses packets, or an address of the name does not answer \
                             (AddressFamily inet)"
                    }
                    Step::LoggedIn => {
                        "see what the server waits for: a name service or PAM (UseDNS, GSSAPIAuthentication, \
                             the log of sshd)"
                    }
                    _ => "see whether the server is overloaded or looks up who calls (UseDNS)",
                }),
                _ => Finding::ok(check, what),
            }
            .took(took),
        );
    }
    findings
}

/// The whole of it.
fn connected(took: Duration, pool: &Pool) -> Finding {
    let limit = pool.config().connect_timeout;
    let what = format!("of {limit:?} (connect_timeout), ssh's start and configuration included");
    match took > limit / 2 {
        false => Finding::ok("connect", what),
        true => Finding::warning("connect", what)
            .why("it took more than half of what it may take: under load it will fail")
            .todo("raise connect_timeout, in [pool] or SSH_POOL_CONNECTION_TIMEOUT_MS"),
    }
    .took(took)
}

/// What is seen over a connection.
async fn over(
    pool: &Pool,
    host: &Host,
    lease: Lease,
    echo: Duration,
    recorder: &mut Recorder<'_>,
) -> Verdict {
    let master = lease.master();
    let (name, finding) = account(master.account(), master.no_shell(), echo);
    recorder.facts.account = Some(name);
    recorder.add(finding);
    drop(lease);
    if master.account() == Account::Silent {
        recorder.add(Finding::skipped("command", "not run: it would be the forced one"));
        recorder.add(Finding::skipped("sessions", "not opened: each would run the forced command"));
        return Verdict::Works;
    }
    let verdict = commands(pool, host, echo, recorder).await;
    if verdict == Verdict::Works {
        match pool.sessions_known(host).await {
            Sessions::One => {
                recorder.facts.limit(Limit::Is(1));
                recorder.add(one_session());
            }
            _ => sessions(pool, &master, recorder).await,
        }
    }
    verdict
}

/// What runs there, and how long it took to run an echo.
fn account(account: Account, no_shell: Option<&str>, echo: Duration) -> (&'static str, Finding) {
    let (name, what) = match account {
        Account::Posix => ("posix", "a POSIX shell: bootstrap and standby work"),
        Account::Shell => (
            "shell",
            "a shell, but no POSIX one (csh, fish): commands go as arguments, without standby",
        ),
        Account::Silent => {
            let cause = "nologin, git-shell, a forced command (command= in authorized_keys, \
                         ForceCommand) or an appliance: whatever is asked for, that runs";
            let why = match no_shell {
                Some(no_shell) => format!("{no_shell}; {cause}"),
                None => cause.to_owned(),
            };
            let todo = "nothing, if that is meant; else log in with another key or as another user";
            return (
                "silent",
                Finding::warning("account", "no shell answers").why(why).todo(todo).took(echo),
            );
        }
    };
    let finding = match echo > SLOW {
        false => Finding::ok("account", what),
        true => Finding::warning("account", what)
            .why(format!("it took {} until it ran an echo", duration_text(echo)))
            .todo(
                "see what a start-up file of the account does before each command: ~/.bashrc, \
                   ~/.zshenv, ~/.ssh/rc",
            ),
    };
    (name, finding.took(echo))
}

/// Runs a command that does nothing, some times.
async fn commands(
    pool: &Pool,
    host: &Host,
    echo: Duration,
    recorder: &mut Recorder<'_>,
) -> Verdict {
    // A start-up file that is slow is so for those sessions, too.
    let pause = echo.clamp(*PAUSE.start(), *PAUSE.end());
    let mut times = Vec::new();
    for number in 0..COMMANDS {
        sleep(pause).await;
        let started = Instant::now();
        let output = match pool.shell(host, "true").output().await {
            Ok(output) => output,
            Err(error) => {
                let finding = Finding::failed("command", "`true` cannot be run")
                    .why(without_host(&error, host.name()));
                recorder.add(finding.todo(format!("see what `ssh {} true` does", host.name())));
                return Verdict::of(&error);
            }
        };
        times.push(started.elapsed());
        if number > 0 {
            continue;
        }
        if !output.status.success() {
            let what = format!("`true` ended with {}", output.status);
            let finding = Finding::warning("command", what)
                .why("a start-up file of the account, or its shell, interferes");
            recorder.add(finding.todo("look at ~/.bashrc, ~/.zshenv and the like on the host"));
        }
        for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                recorder.add(noise(stream, bytes));
            }
        }
    }
    times.sort();
    let median = times[times.len() / 2];
    recorder.facts.command_ms = Some(milliseconds(median));
    let what = format!("median of {COMMANDS} over the warm connection");
    recorder.add(match median > SLOW {
        false => Finding::ok("command", what),
        true => Finding::warning("command", what)
            .why("a command that does nothing should take a round trip or two")
            .todo("see what a start-up file of the account does (~/.bashrc, ~/.zshenv), and whether the \
                   host is overloaded"),
    }.took(median));
    Verdict::Works
}

/// A start-up file prints.
fn noise(stream: &str, bytes: &[u8]) -> Finding {
    let text = String::from_utf8_lossy(bytes);
    let first = printable(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default());
    let cut: String = first.chars().take(SHOWN).collect();
    let dots = if cut == first { "" } else { "…" };
    Finding::warning(
        "account",
        format!("a start-up file writes {} bytes to {stream}: \"{cut}{dots}\"", bytes.len()),
    )
    .why("every command's output begins with it, by ssh as well")
    .todo("let it print only where there is a terminal: [ -t 0 ] || return")
}

/// The server opens one session on a connection.
fn one_session() -> Finding {
    Finding::warning("sessions", "1 on each connection: each command logs in")
        .why("the server refuses another session, does not answer, or closes the connection")
        .todo("nothing; a server such as OpenSSH or Dropbear saves the logins")
}

/// How many sessions the server opens on a connection.
async fn sessions(pool: &Pool, master: &crate::openssh::Master, recorder: &mut Recorder<'_>) {
    let wanted = pool.config().sessions_per_connection;
    let most = (wanted + MORE_SESSIONS).min(MOST_SESSIONS);
    let count = master.most_sessions(most, || pool.stats().standby_sessions);
    let unknown = |why: &str| Finding::skipped("sessions", format!("not found out: {why}"));
    let limit = match timeout(pool.config().connect_timeout, count).await {
        Ok(Some(Ok(limit))) => limit,
        Ok(Some(Err(why))) => return recorder.add(unknown(&why.to_string())),
        Ok(None) => return,
        Err(_) => return recorder.add(unknown("it took too long")),
    };
    recorder.facts.limit(limit);
    let finding = match limit {
        Limit::AtLeast(seen) => Finding::ok(
            "sessions",
            format!("{seen} at once and perhaps more; sessions_per_connection is {wanted}"),
        ),
        Limit::Is(seen) if seen >= wanted => Finding::ok(
            "sessions",
            format!("{seen} at once (MaxSessions); sessions_per_connection is {wanted}"),
        ),
        Limit::Is(seen) => Finding::warning("sessions", format!("{seen} at once (MaxSessions)"))
            .why(format!(
                "sessions_per_connection is {wanted}: the rest are refused, and tried again elsewhere"
            ))
            .todo(format!(
                "set sessions_per_connection = {}, or raise MaxSessions in the server's sshd_config",
                seen.max(1)
            )),
    };
    recorder.add(finding);
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
