//! Random commands end through the pool as they end by plain ssh, with every login shell that is
//! promised.
//!
//! Each command is drawn from a seed, which a failure prints, with the smallest command that still
//! fails. When it is given in `SSHPOOL_SEED`, that one command is run many times over.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use rstest::rstest;
use sshpool::{Host, Pool, PoolConfig, SessionReuse};
use tokio::time::timeout;

use crate::lab::common::sshd::{Kind, Sshd};
use crate::lab::pooled::plain::{Plain, Seen};
use crate::lab::pooled::{PATIENCE, config, host, pool};
use crate::lab::random::Random;
use crate::lab::random::case::{Case, RAN, surroundings};
use crate::lab::random::verdict::difference;

/// For one shell and one setting.
const CASES: u64 = 160;
/// How often the one of `SSHPOOL_SEED` is run.
const AGAIN: u64 = 50;
/// How many are under way at once.
const WIDTH: usize = 8;
/// How many smaller cases are tried when one has failed.
const ATTEMPTS: usize = 400;

/// A server, and the two ways to it.
struct Bench {
    shell: &'static str,
    pool: Pool,
    host: Host,
    plain: Plain,
}

/// Why a case has failed.
enum Failure {
    /// What was different.
    Differs(String),
    /// It did not come to an end that could be compared.
    NoEnd(String),
}

impl Bench {
    /// Runs a case both ways and gives how it ended; none when plain ssh itself does not do the
    /// same twice.
    async fn compare(&self, case: &Case) -> Result<Option<Seen>, Failure> {
        // Not at once: they share the machine that they run on.
        let plain = self.plain(case).await?;
        let command = case.pooled(&self.pool, &self.host);
        let pooled = async {
            if case.spawned {
                command.spawn().await?.wait_with_output().await
            } else {
                command.output().await
            }
        };
        let pooled = timeout(PATIENCE, pooled).await;
        let pooled =
            pooled.map_err(|_| format!("through the pool it did not end within {PATIENCE:?}"));
        let pooled = pooled.and_then(|ran| ran.map_err(|error| format!("the pool: {error}")));
        let pooled = Seen::from(pooled.map_err(Failure::NoEnd)?);
        let Some(different) = difference(self.shell, &plain, &pooled) else {
            return Ok(Some(plain));
        };
        let unmarked = Case { mark: None, ..case.clone() };
        // What a text leaves in the background comes when it comes, and who writes to a pipe that
        // nobody reads is told so sooner or later.
        for _ in 0..10 {
            let again = self.plain(&unmarked).await?;
            if difference(self.shell, &plain, &again).is_some() {
                return Ok(None);
            }
        }
        Err(Failure::Differs(different))
    }

    async fn plain(&self, case: &Case) -> Result<Seen, Failure> {
        self.plain.run(&case.plain(), case.input.as_deref()).await.map_err(Failure::NoEnd)
    }

    /// The smallest case that can be made of this one and still differs, and how.
    async fn shrink(&self, mut case: Case, mut different: String) -> (Case, String) {
        let mut attempts = 0;
        'smaller: loop {
            for candidate in case.smaller() {
                attempts += 1;
                if attempts > ATTEMPTS {
                    return (case, different);
                }
                // One that does not end is another case and not a smaller one.
                let ran = timeout(PATIENCE / 6, self.compare(&candidate)).await;
                if let Ok(Err(Failure::Differs(how))) = ran {
                    (case, different) = (candidate, how);
                    continue 'smaller;
                }
            }
            return (case, different);
        }
    }
}

#[rstest]
#[case::sh("/bin/sh", &[])]
#[case::dash("/bin/dash", &[])]
#[case::bash("/bin/bash", &[])]
#[case::bash_with_characters("/bin/bash", &[("LC_ALL", "C.UTF-8")])]
#[case::zsh("/bin/zsh", &[])]
#[case::zsh_with_characters("/bin/zsh", &[("LC_ALL", "C.UTF-8")])]
#[case::busybox("/usr/local/bin/ash", &[])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_commands_end_as_they_do_by_plain_ssh(
    #[case] shell: &'static str,
    #[case] environment: &[(&str, &str)],
    #[values(
        (PoolConfig::default().standby_sessions, SessionReuse::Off),
        (0, SessionReuse::Off),
        (PoolConfig::default().standby_sessions, SessionReuse::Exact)
    )]
    (standby_sessions, session_reuse): (usize, SessionReuse),
) {
    // Random commands are not for the account of whoever runs the tests; this asks for a container,
    // whatever its shell.
    let sshd = Sshd::builder().login_shell(shell);
    let sshd = environment.iter().fold(sshd, |sshd, (name, value)| sshd.env(name, value));
    let Some(sshd) = sshd.start_or_skip() else { return };
    assert!(matches!(sshd.kind(), Kind::Container(_)));
    let made = sshd.exec(&surroundings());
    assert!(made.status.success(), "{made:?}");

    // More at once than fit on one connection.
    let settings = config()
        .standby_sessions(standby_sessions)
        .session_reuse(session_reuse)
        .sessions_per_connection(WIDTH / 2 + 1)
        .command_timeout(Duration::from_secs(300));
    let most_logins = settings.max_connections;
    let bench =
        Bench { shell, pool: pool(settings), host: host(&sshd), plain: Plain::start(&sshd) };

    let given = std::env::var("SSHPOOL_SEED")
        .ok()
        .map(|text| text.parse().expect("SSHPOOL_SEED is a number"));
    let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
    let count = if given.is_some() { AGAIN } else { CASES };
    let bench = &bench;
    let run = |number: u64| async move {
        let seed = given.unwrap_or(base + number);
        let case = Case::draw(&mut Random(seed), number as usize);
        let outcome = bench.compare(&case).await;
        (seed, case, outcome)
    };
    let mut all = futures_util::stream::iter((0..count).map(run)).buffer_unordered(WIDTH);
    let mut seen = BTreeMap::new();
    let mut failed = None;
    while let Some((seed, case, outcome)) = all.next().await {
        match outcome {
            Ok(outcome) => {
                for what in
                    outcome.map_or(vec!["not the same twice"], |outcome| aspects(&case, &outcome))
                {
                    *seen.entry(what).or_insert(0) += 1;
                }
            }
            Err(failure) => {
                failed = Some((seed, case, failure));
                break;
            }
        }
    }
    drop(all);
    match failed {
        None => {}
        Some((seed, case, Failure::NoEnd(why))) => {
            panic!("{shell}, SSHPOOL_SEED={seed}: {why}\n{case}")
        }
        Some((seed, case, Failure::Differs(how))) => {
            let (smallest, then) = bench.shrink(case.clone(), how.clone()).await;
            panic!(
                "{shell}, SSHPOOL_SEED={seed}: it differs from plain ssh\n{case}\n{how}\n\
                 The smallest that differs:\n{smallest}\n{then}"
            );
        }
    }

    let marks = sshd.exec(&format!("sort {RAN} | uniq -c | awk '{{ print $1 }}' | sort | uniq -c"));
    if given.is_none() {
        let rare = ASPECTS.iter().find(|what| !seen.contains_key(**what));
        assert_eq!(rare, None, "commands with which nothing happens prove nothing: {seen:?}");
        let unsure = seen.get("not the same twice").copied().unwrap_or_default();
        assert!(unsure <= CASES / 50, "{unsure} commands were not comparable");
        // Each mark was made twice, once by each way. (One of a text that is no shell text may not
        // have been made.)
        let words: Vec<_> = marks.stdout.split_whitespace().collect();
        assert!(
            matches!(&words[..], [_, "2"]),
            "some command did not run once each way: {marks:?}"
        );
    }
    let stats = bench.pool.stats();
    assert_eq!(stats.commands_run, count);
    assert_eq!(
        stats.standby_hits > 0,
        standby_sessions > 0,
        "both ways to a session are tried: {stats:?}"
    );
    assert!(sshd.logins() <= most_logins + 1, "{} logins, one of them by plain ssh", sshd.logins());
    bench.pool.close().await;
}

/// What has to have happened.
const ASPECTS: [&str; 6] =
    ["success", "another status", "killed", "a complaint", "much input", "a large command"];

fn aspects(case: &Case, outcome: &Seen) -> Vec<&'static str> {
    let large = case.plain().len() > 4000;
    let much = case.input.as_ref().is_some_and(|input| input.len() > 10_000);
    let status = match outcome.code {
        Some(0) => "success",
        Some(255) => "255",
        Some(_) => "another status",
        None => "killed",
    };
    let mut aspects = vec![status];
    aspects.extend((!outcome.stderr.is_empty()).then_some("a complaint"));
    aspects.extend(much.then_some("much input"));
    aspects.extend(large.then_some("a large command"));
    aspects
}

/// Plain ssh cannot be asked for these: its command is one argument, here and there, and Linux
/// allows 128 KiB for one.
#[rstest]
#[case::sh("/bin/sh")]
#[case::dash("/bin/dash")]
#[case::bash("/bin/bash")]
#[case::zsh("/bin/zsh")]
#[case::busybox("/usr/local/bin/ash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_may_be_longer_than_an_argument(
    #[case] shell: &'static str,
    #[values(PoolConfig::default().standby_sessions, 0)] standby_sessions: usize,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(&sshd));
    let input: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for size in [128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 300_000, 1 << 20] {
        let piece = "words, it's\\ \"all\" $of `them`!\n\t\u{1}\u{7f}\u{81}ü%s\\n\r\n\n";
        let big: String = piece.chars().cycle().take(size).collect();
        let quoted = big.replace('\'', "'\\''");
        let text = format!("v='{quoted}'\nprintf %s \"$v\"; echo err >&2; cat; exit 7");
        let ran = timeout(PATIENCE, pool.shell(&host, text).stdin(input.clone()).output()).await;
        let output = ran.expect("it ends").expect("it runs");
        assert_eq!(output.status.code(), Some(7), "{size}");
        assert!(
            output.stdout == [big.as_bytes(), &input].concat(),
            "{size}: every byte comes back"
        );
        assert_eq!(output.stderr, b"err\n", "{size}");

        // printf is part of each of these shells, so that its argument is none of a program.
        let printed = async {
            pool.command(&host, "printf")
                .arg("%s")
                .arg(&big)
                .spawn()
                .await?
                .wait_with_output()
                .await
        };
        let printed = timeout(PATIENCE, printed).await.expect("it ends").expect("it runs");
        assert!(
            printed.status.success() && printed.stdout == big.as_bytes(),
            "{size}: as an argument"
        );
    }
    assert!(sshd.logins() <= 1, "one after another they need one connection");
    pool.close().await;
}
