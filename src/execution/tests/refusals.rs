//! A server that opens no more sessions: what it refuses is tried again, and is shown to nobody
//! before the time for it is over.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_tried_again_until_it_runs() {
    let stage = Stage::new(config());
    for _ in 0..5 {
        stage.plan(Plan::new().read().warn("mux_client: refused").end(refused()));
    }
    stage.plan(Plan::begins().print("out").warn("err").exit(0));
    let output = stage.output(run("once")).await.expect("no error");
    // What a session said that was refused is not the command's.
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    let stats = stage.stats();
    assert_eq!((stats.refused_sessions, stats.commands_run, stats.open_sessions), (5, 1, 0));
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn beside_a_session_that_runs_another_connection_is_tried() {
    let stage = Stage::new(config());
    let held = stage.lease().await;
    let before = Instant::now();
    let output = stage.plan(Plan::ends_unbegun(refused())).output(run("once")).await;
    assert!(output.expect("no error").status.success());
    assert_eq!((stage.connections(), stage.logins()), (vec![0, 1], 2));
    assert!(before.elapsed() < LOGIN + ms(50), "{:?}", before.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_command_of_a_lease_waits_for_its_own_connection() {
    let stage = Stage::new(config());
    let lease = stage.lease().await;
    for _ in 0..3 {
        stage.plan(Plan::ends_unbegun(refused()));
    }
    let before = Instant::now();
    let output = super::super::output(stage.on(&lease), run("once")).await.expect("no error");
    assert!(output.status.success());
    // 4, 8 and 16 ms between the attempts, and 10 ms for the command.
    assert_eq!(before.elapsed(), ms(4 + 8 + 16 + 10));
    assert_eq!((stage.connections(), stage.logins()), (vec![0; 4], 1));
    assert_eq!(stage.stats().refused_sessions, 3);
}

/// Refuses for ever, and gives how long it was tried from the first attempt on.
async fn refused_for_ever(config: PoolConfig, request: Request, on_lease: bool) -> Duration {
    let stage = Stage::new(config);
    let lease = stage.lease().await;
    for _ in 0..1000 {
        stage.plan(Plan::ends_unbegun(refused()));
    }
    let before = Instant::now();
    let target = if on_lease { stage.on(&lease) } else { stage.target() };
    // Another connection is no help, either.
    let result = super::super::output(target, request).await;
    assert_eq!(never_started(result), "no more sessions");
    assert!(stage.executed().is_empty() && stage.asked() == 0);
    before.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_too_long_was_never_started() {
    let patience = |acquire_timeout| PoolConfig { acquire_timeout, ..config() };
    // A pause of a lease's command is 128 ms at most.
    let is_over = |time: Duration, at: Duration| (at..=at + ms(130)).contains(&time);
    for on_lease in [false, true] {
        let time = refused_for_ever(patience(secs(3)), run("never"), on_lease).await;
        assert!(is_over(time, secs(3)), "{on_lease}: {time:?}");
        // Who does not want to queue gives the server a moment, all the same.
        let time = refused_for_ever(patience(Duration::ZERO), run("never"), on_lease).await;
        assert!(is_over(time, secs(1)), "{on_lease}: {time:?}");
        // A command that may take less is not waited for any longer than that.
        let request = within(ms(500), "never");
        let time = refused_for_ever(patience(secs(3)), request, on_lease).await;
        assert!(is_over(time, ms(500)), "{on_lease}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_in_standby_takes_the_command() {
    let plan = Plan::begins().print("ahead").exit(0);
    let stage = Stage::with_standby(config(), plan).await;
    let output = stage.output(run("once")).await.expect("no error");
    assert_eq!((output.stdout.as_slice(), stage.stats().standby_hits), (&b"ahead"[..], 1));
    // The next one is opened ahead, too, and none was opened for the command.
    assert!(stage.sessions().iter().all(|ahead| *ahead));
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_session_in_standby_is_replaced_by_an_own_one() {
    // It ends before anybody wants it, and when it gets its command.
    let ended_before = Plan::new().pass(secs(2)).exit(0);
    let ends_then = Plan::ends_unbegun(SessionEnd::Exited(0));
    for (plan, hits) in [(ended_before, 0), (ends_then, 1)] {
        let stage = Stage::with_standby(config(), plan).await;
        sleep(secs(2)).await;
        stage.plan(Plan::begins().print("own").exit(0));
        let output = stage.output(run("once")).await.expect("no error");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"own"[..], &b""[..]));
        assert_eq!(stage.sessions()[..2], [true, false]);
        assert_eq!((stage.stats().standby_hits, stage.logins()), (hits, 1));
        assert_eq!(stage.executed(), ["once"]);
    }
}

/// Where a shell ended that had taken nothing, the other sessions in standby may be no better.
#[tokio::test(start_paused = true)]
async fn after_a_stale_session_no_other_one_in_standby_is_tried() {
    let stage = Stage::new(PoolConfig { standby_sessions: 3, ..config() });
    for _ in 0..3 {
        let plan = Plan::ends_unbegun(SessionEnd::Exited(0));
        stage.world.books(|books| books.ahead.push_back(plan));
    }
    drop(stage.lease().await);
    sleep(secs(1)).await;
    assert_eq!(stage.sessions(), [true; 3]);
    assert!(stage.output(run("once")).await.expect("no error").status.success());
    let commands = stage.world.books(|books| {
        books
            .sessions
            .iter()
            .filter(|facts| facts.command.is_some())
            .map(|facts| facts.ahead)
            .collect::<Vec<_>>()
    });
    assert_eq!(commands, [true, false]);
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_writes_its_input_later_waits_for_no_session() {
    let stage = Stage::new(config());
    stage.plan(Plan::ends_unbegun(refused())).plan(Plan::begins().read_input().exit(0));
    let request = Request { stdin: "all of it".into(), ..run("once") };
    assert!(stage.output(request).await.expect("no error").status.success());
    // The input is given to the session that takes it, whole.
    let inputs = stage
        .world
        .books(|books| books.sessions.iter().map(|facts| facts.input.clone()).collect::<Vec<_>>());
    assert_eq!(inputs, ["", "all of it"]);
}
