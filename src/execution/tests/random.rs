//! Random commands over sessions that do anything: whatever happens, no command is executed twice,
//! and what a caller is told is true.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::time::timeout;

use super::plan::Step;
use super::*;

/// One command and its caller.
#[derive(Clone, Debug)]
struct Caller {
    starts: u64,
    is_spawned: bool,
    on_lease: bool,
    timeout: u64,
    /// When the caller goes away.
    goes: u64,
    max_output: usize,
}

#[derive(Clone, Debug)]
struct Case {
    is_warm: bool,
    standby: usize,
    sessions_per_connection: usize,
    is_plain: bool,
    own: Vec<Plan>,
    ahead: Vec<Plan>,
    endings: Vec<Ending>,
    callers: Vec<Caller>,
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0), 1..50_u64, 100..3000_u64].prop_map(Duration::from_millis)
}

/// What a real session can do. One that tells that its command was not executed tells the truth.
fn plan() -> impl Strategy<Value = Plan> {
    let noise =
        |plan: Plan, is_noisy| if is_noisy { plan.print("motd").warn("motd") } else { plan };
    let unbegun = prop_oneof![
        Just(SessionEnd::Exited(1)),
        Just(SessionEnd::NotBegun),
        Just(refused()),
        Just(not_reached()),
    ];
    let ends = prop_oneof![
        Just(SessionEnd::Exited(0)),
        Just(SessionEnd::Killed),
        Just(lost()),
        Just(client_killed()),
    ];
    let unknown = prop_oneof![Just(SessionEnd::Killed), Just(lost()), Just(client_killed())];
    let start = (any::<bool>(), time())
        .prop_map(move |(is_noisy, time)| noise(Plan::new(), is_noisy).read().pass(time))
        .boxed();
    let never = (start.clone(), unbegun).prop_map(|(plan, end)| plan.end(end));
    let unheard =
        (start.clone(), any::<bool>(), time(), unknown).prop_map(|(plan, runs, time, end)| {
            let plan = if runs { plan.begin_unheard() } else { plan };
            plan.pass(time).end(end)
        });
    let begins =
        (start.clone(), time(), ends, any::<bool>()).prop_map(|(plan, time, end, groupless)| {
            let plan = plan.begin().print("out").pass(time).warn("err").end(end);
            if groupless { plan.groupless() } else { plan }
        });
    let endless = start.clone().prop_map(Plan::begin);
    prop_oneof![3 => never, 1 => unheard, 3 => begins, 1 => endless, 1 => start]
}

/// The same for a command that is an argument: a shell that has ended has executed it.
fn as_argument(mut plan: Plan) -> Plan {
    if !plan.steps.iter().any(|step| matches!(step, Step::Begins | Step::BeginsUnheard)) {
        for step in &mut plan.steps {
            if let Step::Ends(SessionEnd::Exited(_) | SessionEnd::NotBegun) = step {
                *step = Step::Ends(refused());
            }
        }
    }
    plan
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        4 => time().prop_map(Ending::Works),
        1 => Just(Ending::Refused),
        1 => Just(Ending::NotHere("nobody answers")),
        1 => Just(Ending::StillThere("it would not go")),
        1 => Just(Ending::Hangs),
    ]
}

fn caller() -> impl Strategy<Value = Caller> {
    let goes = prop_oneof![3 => Just(1_000_000), 1 => 0..4000_u64];
    (0..2000_u64, any::<bool>(), any::<bool>(), 1..4000_u64, goes, 2..20_usize).prop_map(
        |(starts, is_spawned, on_lease, timeout, goes, max_output)| Caller {
            starts,
            is_spawned,
            on_lease,
            timeout,
            goes,
            max_output,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let plans = || vec(plan(), 0..8);
    let settings = (any::<bool>(), 0..3_usize, 1..3_usize, prop::bool::weighted(0.2));
    (settings, plans(), plans(), vec(ending(), 0..4), vec(caller(), 1..5)).prop_map(
        |((is_warm, standby, sessions_per_connection, is_plain), own, ahead, endings, callers)| {
            Case {
                is_warm,
                standby,
                sessions_per_connection,
                is_plain,
                own,
                ahead,
                endings,
                callers,
            }
        },
    )
}

/// Runs a command, and gives what its caller was told: nothing where it has gone before.
async fn call(
    target: Target<Fake>,
    caller: Caller,
    text: String,
) -> Option<Result<ExitStatus, Error>> {
    let request = Request {
        max_output: Some(caller.max_output),
        ..within(Duration::from_millis(caller.timeout), &text)
    };
    let result = async {
        if caller.is_spawned {
            super::super::spawn(target, request).await?.wait().await
        } else {
            Ok(super::super::output(target, request).await?.status)
        }
    };
    timeout(Duration::from_millis(caller.goes), result).await.ok()
}

async fn play(case: Case, seen: &Seen) -> Result<(), TestCaseError> {
    let stage = Stage::new(PoolConfig {
        standby_sessions: case.standby,
        sessions_per_connection: case.sessions_per_connection,
        max_connections: 2,
        ..config()
    });
    stage.world.books(|books| {
        books.is_plain = case.is_plain;
        let own = case.own.into_iter();
        books.own.extend(own.map(|plan| if case.is_plain { as_argument(plan) } else { plan }));
        books.ahead.extend(case.ahead);
        books.endings.extend(case.endings);
    });
    if case.is_warm {
        stage.warm_up(2).await;
    }
    let mut calls = Vec::new();
    for (number, caller) in case.callers.into_iter().enumerate() {
        let (pool, target, text) = (Arc::clone(&stage.pool), stage.target(), format!("c{number}"));
        calls.push(tokio::spawn(async move {
            sleep(Duration::from_millis(caller.starts)).await;
            let host = Arc::new(web1());
            let target = match caller.on_lease {
                false => target,
                true => match pool.acquire(&host).await {
                    Ok(lease) => Target::Lease(Arc::clone(&pool), Arc::new(lease), host),
                    Err(error) => return Some(Err(error)),
                },
            };
            call(target, caller, text).await
        }));
    }
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.expect("callers do not panic"));
    }
    // What goes on behind the callers comes to its end.
    sleep(secs(20)).await;
    let executed = stage.executed();
    for (number, told) in told.into_iter().enumerate() {
        let text = format!("c{number}");
        let times = executed.iter().filter(|command| **command == text).count();
        prop_assert!(times <= 1, "{text} was executed {times} times");
        let attempts = stage.world.attempts(&text);
        {
            let mut seen = seen.lock().expect("nobody panics with it");
            *seen.entry(what(&told)).or_default() += 1;
            *seen.entry("more than one attempt").or_default() += u32::from(attempts > 1);
        }
        match told {
            Some(Err(error)) if error.never_started() => {
                prop_assert_eq!(times, 0, "{} was executed: {}", text, error);
            }
            Some(Ok(status)) if status.code().is_some() => {
                prop_assert_eq!(times, 1, "{} was not executed", text);
            }
            Some(Err(
                Error::TimedOut { remote: Remote::Ended, .. }
                | Error::OutputLimit { remote: Remote::Ended, .. },
            )) => {
                let lives = stage.world.runs(&text);
                prop_assert!(!lives, "{text} was said to have ended, and lives on");
            }
            _ => {}
        }
    }
    let stats = stage.stats();
    prop_assert_eq!((stats.open_sessions, stats.waiting), (0, 0));
    Ok(())
}

/// How often something was told.
type Seen = Mutex<BTreeMap<&'static str, u32>>;

const CASES: u32 = 400;
/// Cases in which nothing happens prove nothing.
const WORTH: [&str; 8] = [
    "exited",
    "killed",
    "lost",
    "timed out",
    "too much",
    "not started",
    "nobody there",
    "more than one attempt",
];

fn what(told: &Option<Result<ExitStatus, Error>>) -> &'static str {
    match told {
        None => "nobody there",
        Some(Ok(status)) if status.code().is_some() => "exited",
        Some(Ok(_)) => "killed",
        Some(Err(Error::Lost { .. })) => "lost",
        Some(Err(Error::TimedOut { .. })) => "timed out",
        Some(Err(Error::OutputLimit { .. })) => "too much",
        Some(Err(_)) => "not started",
    }
}

#[test]
fn nothing_is_executed_twice_and_what_is_told_is_true() {
    let settings = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let seen = Seen::default();
    let outcome = TestRunner::new(settings).run(&case(), |case| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(play(case, &seen))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let seen = seen.into_inner().expect("nobody panicked with it");
    let rare = |what: &&&str| seen.get(**what).is_none_or(|&times| times < CASES / 100);
    assert_eq!(WORTH.iter().find(rare), None, "{seen:?}");
}
