//! Docker Compose projects on a real engine, through the library and through the program; every
//! field against `docker inspect`.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use sshpool::docker::{
    Compose, ComposeError, ContainerState, Project, ProjectStatus, Service, Status,
};
use sshpool::{Host, Pool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::{Image, Kind, Sshd};
use crate::lab::common::{self, wait_for_async};
use crate::lab::pooled::{self, PATIENCE, command, config, host, pool};

/// A host with Docker's clients and the socket of the engine.
fn docker_host() -> Option<Sshd> {
    Sshd::builder().image(Image::Compose).docker_socket().start_or_skip()
}

/// Three services on the engine: one healthy, one that ends with 3, one with published ports.
struct Shop {
    engine: &'static str,
    name: String,
    file: String,
}

impl Shop {
    /// Only its file; it is not up.
    async fn new(sshd: &Sshd, pool: &Pool, host: &Host) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Kind::Container(engine) = sshd.kind() else { panic!("the server is a container") };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sshpool-test-{}-{number}", std::process::id());
        let file = format!("/home/lab/{name} it's/compose.yaml");
        let text = format!(
            "services:\n\
             \x20 web:\n    image: {image}\n    entrypoint: [sh, -c, 'echo hello; exec sleep 600']\n    stop_grace_period: 0s\n\
             \x20   ports: ['127.0.0.1::80', '127.0.0.1::53/udp']\n    expose: ['9000']\n\
             \x20 db:\n    image: {image}\n    entrypoint: [sleep, '600']\n    stop_grace_period: 0s\n\
             \x20   healthcheck: {{test: [CMD, 'true'], interval: 1s}}\n\
             \x20 job:\n    image: {image}\n    entrypoint: [sh, -c, 'echo working; exit 3']\n    stop_grace_period: 0s\n",
            image = sshd.image()
        );
        let write = "mkdir -p \"$(dirname \"$0\")\" && cat >\"$0\"";
        let written =
            pool.command(host, "sh").args(["-c", write, &file]).stdin(text).output().await;
        assert!(written.expect("it runs").status.success());
        Shop { engine, name, file }
    }

    fn docker(&self, args: &[&str]) -> Ended {
        let ended = run(command(self.engine).args(args), PATIENCE);
        assert_eq!(ended.code(), 0, "{args:?}: {}", ended.stderr);
        ended
    }

    /// What the engine says of the container of a service.
    fn inspect(&self, service: &str) -> Value {
        let filters = [self.label("project", &self.name), self.label("service", service)];
        let ids = self
            .docker(&["ps", "--all", "--quiet", "--filter", &filters[0], "--filter", &filters[1]])
            .stdout;
        let text = self.docker(&["inspect", ids.trim()]).stdout;
        serde_json::from_str::<Value>(&text).expect("it is JSON")[0].take()
    }

    fn label(&self, name: &str, value: &str) -> String {
        format!("label=com.docker.compose.{name}={value}")
    }

    /// Containers and networks of the project, by their ids.
    fn left(&self) -> Vec<(&'static str, String)> {
        let filter = self.label("project", &self.name);
        let ids = |kind, args: &[&str]| {
            let listed = self.docker(&[args, &["--quiet", "--filter", &filter]].concat()).stdout;
            listed.lines().map(|id| (kind, id.to_owned())).collect::<Vec<_>>()
        };
        [ids("container", &["ps", "--all"]), ids("network", &["network", "ls"])].concat()
    }

    /// Until the job has ended and the database is healthy.
    async fn settles(&self, compose: &Compose) -> ProjectStatus {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = compose.project_status(&self.name).await.expect("an answer");
            let is = |name: &str, right: fn(&Service) -> bool| {
                found.services.iter().any(|s| s.name == name && right(s))
            };
            if is("job", |job| job.state == ContainerState::Exited)
                && is("db", |db| db.health.as_deref() == Some("healthy"))
            {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every field of the answer is what the engine says.
    fn agrees(&self, services: &Value) {
        let services = services.as_array().expect("an array");
        let names: Vec<_> =
            services.iter().map(|service| service["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["db", "job", "web"]);
        for service in services {
            let truth = self.inspect(service["name"].as_str().expect("a name"));
            let state = &truth["State"];
            assert_eq!(
                format!("/{}", service["container"].as_str().expect("a name")),
                truth["Name"],
                "{service}"
            );
            assert_eq!(service["state"], state["Status"], "{service}");
            assert_eq!(service["health"], state["Health"]["Status"], "{service}");
            let ended = state["Status"] == "exited";
            assert_eq!(
                service["exit_code"],
                if ended { state["ExitCode"].clone() } else { Value::Null },
                "{service}"
            );
            let mut expected = Vec::new();
            for (port, bindings) in
                truth["NetworkSettings"]["Ports"].as_object().expect("an object")
            {
                let (target, protocol) = port.split_once('/').expect("80/tcp");
                let target: u16 = target.parse().expect("a port");
                let unpublished = vec![Value::Null];
                for binding in bindings.as_array().unwrap_or(&unpublished) {
                    let published: Option<u16> =
                        binding["HostPort"].as_str().map(|port| port.parse().expect("a port"));
                    expected.push(serde_json::json!({
                        "address": binding["HostIp"], "published_port": published,
                        "target_port": target, "protocol": protocol,
                    }));
                }
            }
            let mut publishers = service["publishers"].as_array().expect("an array").clone();
            for ports in [&mut expected, &mut publishers] {
                ports.sort_by_key(ToString::to_string);
            }
            assert_eq!(publishers, expected, "{service}");
        }
        assert_eq!(services[0]["health"], "healthy");
        assert_eq!(
            (&services[1]["state"], &services[1]["exit_code"]),
            (&"exited".into(), &3.into())
        );
        let ports = services[2]["publishers"].as_array().expect("an array");
        assert_eq!(ports.len(), 3, "two published and one exposed");
        assert_eq!(ports.iter().filter(|port| port["published_port"].is_u64()).count(), 2);
    }

    fn of<'a>(&self, projects: &'a [Project]) -> Option<&'a Project> {
        projects.iter().find(|project| project.name == self.name)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Nothing is left, unless the test failed. The containers come first: a network in use
        // cannot be removed.
        for (kind, id) in if std::thread::panicking() { self.left() } else { Vec::new() } {
            let _ = run(
                command(self.engine)
                    .args([kind, "rm"])
                    .args((kind == "container").then_some("--force"))
                    .arg(&id),
                PATIENCE,
            );
        }
    }
}

#[tokio::test]
async fn a_project_lives_its_life_through_the_library() {
    let Some(sshd) = docker_host() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let compose = Compose::new(&pool, &host);
    let shop = Shop::new(&sshd, &pool, &host).await;
    let name = shop.name.as_str();

    // Streamed, as it may take minutes.
    let up = compose.up(name).expect("a name").file(&shop.file);
    let output = up.spawn().await.expect("it starts").wait_with_output().await.expect("it ends");
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && progress.contains("Started"), "{progress}");

    let status = shop.settles(&compose).await;
    assert_eq!(
        (&*status.project, status.status, status.unreadable.len()),
        (name, Status::Partial, 0)
    );
    shop.agrees(&serde_json::to_value(&status).expect("it is JSON")["services"]);

    let all = compose.list_projects(true).await.expect("a list");
    let listed = shop.of(&all).expect("it is there");
    assert_eq!((listed.status, &*listed.detail), (Status::Partial, "exited(1), running(2)"));
    assert_eq!(listed.config_files, [shop.file.as_str()]);
    let running = compose.list_projects(false).await.expect("a list");
    assert_eq!(shop.of(&running).map(|project| &*project.detail), Some("running(2)"));

    // All of it at once: with the name known or not, and with one that is not there.
    for known in [&[][..], &[name, "sshpool-test-nosuch"]] {
        let overview = compose.overview(known).await.expect("a list");
        assert!(overview.iter().all(|(project, _)| project.name != "sshpool-test-nosuch"));
        let (_, found) =
            overview.iter().find(|(project, _)| project.name == name).expect("it is there");
        assert_eq!(found.as_ref().expect("an answer").status, Status::Partial);
    }

    // Compose remembers the file.
    let output = compose.up(name).expect("a name").output().await.expect("it is up already");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Running"));

    let started = |service| shop.inspect(service)["State"]["StartedAt"].clone();
    let (web, db) = (started("web"), started("db"));
    compose
        .restart(name)
        .and_then(|action| action.service("web"))
        .expect("names")
        .output()
        .await
        .expect("it does");
    assert_ne!(started("web"), web, "it was restarted");
    assert_eq!(started("db"), db, "and nothing else was");

    let logs = compose.logs(name, false).expect("a name").output().await.expect("there are logs");
    let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
    assert!(logs.contains("| hello\n") && logs.contains("| working\n"), "{logs}");
    let follow = compose
        .logs(name, true)
        .and_then(|action| action.service("web"))
        .expect("names")
        .option("--tail=1");
    let mut follow = follow.spawn().await.expect("it starts");
    let mut lines = BufReader::new(follow.stdout.take().expect("not taken yet")).lines();
    let line =
        timeout(PATIENCE, lines.next_line()).await.expect("a line comes").expect("it can be read");
    assert!(line.is_some_and(|line| line.ends_with("| hello")));
    drop((follow, lines));
    wait_for_async("the end of the session", PATIENCE, || pool.stats().open_sessions == 0).await;

    let exec = |words: &[&str]| compose.exec(name, "web", words).expect("names");
    let output = exec(&["printf", "%s|", "a b", "$HOME", "it's"]).output().await.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|$HOME|it's|");
    let output = exec(&["cat"]).stdin("from outside").output().await.expect("it runs");
    assert_eq!(output.stdout, b"from outside");
    let error = exec(&["sh", "-c", "echo no >&2; exit 7"]).output().await.expect_err("it fails");
    assert!(
        matches!(&error, ComposeError::Failed { code: Some(7), text, .. } if text == "no"),
        "{error}"
    );

    compose.stop(name).expect("a name").output().await.expect("it stops");
    assert_eq!(compose.project_status(name).await.expect("an answer").status, Status::Stopped);
    let all = compose.list_projects(true).await.expect("a list");
    assert_eq!(shop.of(&all).map(|project| project.status), Some(Status::Stopped));
    compose.start(name).expect("a name").output().await.expect("it starts");
    assert_eq!(shop.settles(&compose).await.status, Status::Partial);

    let top = compose
        .action(name, "top")
        .expect("names")
        .args(["web"])
        .output()
        .await
        .expect("any action");
    assert!(String::from_utf8_lossy(&top.stdout).contains("sleep 600"));
    // There is nothing to pull it from, and that is told.
    let pulled = compose.pull(name).expect("a name").output().await;
    assert!(matches!(&pulled, Err(ComposeError::Failed { .. })), "{pulled:?}");

    compose.down(name).expect("a name").output().await.expect("it goes down");
    assert_eq!(shop.left(), []);
    let gone = compose.project_status(name).await.expect("an answer");
    assert_eq!((gone.status, gone.services.len()), (Status::Stopped, 0));
    assert!(shop.of(&compose.list_projects(true).await.expect("a list")).is_none());
    assert_eq!(sshd.logins(), 1, "all of that took one login");
    pool.close().await;
}

/// `sshpool -F CONFIG compose …`
fn sshpool(sshd: &Sshd, args: &[&str]) -> Command {
    let mut program = command(env!("CARGO_BIN_EXE_sshpool"));
    let home = sshd.ssh_config();
    program
        .arg("-F")
        .arg(&home)
        .arg("compose")
        .args(args)
        .env("XDG_CONFIG_HOME", home.parent().expect("a directory"));
    program
}

fn compose(sshd: &Sshd, args: &[&str]) -> Ended {
    run(&mut sshpool(sshd, args), PATIENCE)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[tokio::test]
async fn a_project_lives_its_life_through_the_program() {
    let Some(sshd) = docker_host() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let shop = Shop::new(&sshd, &pool, &host).await;
    let name = shop.name.as_str();
    let run = |args: &[&str]| {
        let ended = compose(&sshd, args);
        assert_eq!(ended.code(), 0, "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended
    };

    assert!(run(&["lab", "up", name, "--file", &shop.file]).stderr.contains("Started"));
    shop.settles(&Compose::new(&pool, &host)).await;
    let listed = json(&run(&["lab", "ls", "--all", "--json"]));
    assert_eq!((&listed[0]["host"], &listed[0]["error"]), (&"lab".into(), &Value::Null));
    let listed = listed[0]["projects"].as_array().expect("an array").clone();
    let listed = listed.into_iter().find(|project| project["name"] == name);
    let expected = serde_json::json!({
        "name": name, "status": "partial", "detail": "exited(1), running(2)", "config_files": [shop.file], "from_stdin": false,
    });
    assert_eq!(listed, Some(expected));
    let shown = json(&run(&["lab", "ps", name, "--json"]));
    assert_eq!((&shown[0]["project"], &shown[0]["status"]), (&name.into(), &"partial".into()));
    shop.agrees(&shown[0]["services"]);

    // The tables for people have the same.
    let table = run(&["lab", "ls", "--all"]).stdout;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        words(table.lines().next().expect("a heading")),
        ["PROJECT", "STATUS", "DETAIL", "FILES"]
    );
    assert!(table.lines().any(|line| words(line)[..2] == [name, "partial"]), "{table}");
    let table = run(&["lab", "ps", name]).stdout;
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(rows[0], ["SERVICE", "CONTAINER", "STATE", "HEALTH", "EXIT", "PORTS"]);
    let container = |service: &str| format!("{name}-{service}-1");
    assert_eq!(rows[1], ["db", &container("db"), "running", "healthy", "-"]);
    assert_eq!(rows[2], ["job", &container("job"), "exited", "-", "3"]);
    assert_eq!(rows[3][..5], ["web", &container("web"), "running", "-", "-"]);
    assert!(table.contains("->80/tcp") && table.contains("9000/tcp"), "{table}");

    let started = |service| shop.inspect(service)["State"]["StartedAt"].clone();
    let (web, db) = (started("web"), started("db"));
    run(&["--timeout", "60s", "lab", "restart", name, "web", "--option", "--no-deps"]);
    assert!(started("web") != web && started("db") == db);
    assert!(run(&["lab", "logs", name, "job", "-n", "1"]).stdout.contains("| working\n"));
    assert_eq!(run(&["lab", "exec", name, "web", "echo", "-n", "a b"]).stdout, "a b");
    assert_eq!(
        run(&["lab", "exec", "--option=--user=lab", name, "web", "id", "-un"]).stdout,
        "lab\n"
    );
    let failed =
        compose(&sshd, &["lab", "exec", name, "web", "--", "sh", "-c", "echo no >&2; exit 7"]);
    assert_eq!((failed.code(), &*failed.stderr), (7, "no\n"));

    let mut cat = sshpool(&sshd, &["lab", "exec", "--stdin", name, "web", "cat"]);
    let mut cat = cat
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut cat.stdin.take().expect("a pipe"), b"from outside")
        .expect("it reads");
    assert_eq!(cat.wait_with_output().expect("it ends").stdout, b"from outside");

    run(&["lab", "stop", name]);
    assert_eq!(json(&run(&["lab", "ps", name, "--json"]))[0]["status"], "stopped");
    run(&["lab", "start", name]);
    assert!(run(&["lab", "top", name, "web"]).stdout.contains("sleep 600"), "any other action");
    // With the files that it needs; Compose prints the names in any order.
    assert_eq!(sorted(&run(&["lab", "config", name, "--services"]).stdout), ["db", "job", "web"]);
    run(&["lab", "down", name]);
    assert_eq!(shop.left(), []);
    // A success that says nothing is one, though there is no container.
    assert_eq!(run(&["--file", &shop.file, "lab", "config", name, "--quiet"]).stdout, "");
    let named = run(&["--file", &shop.file, "lab", "config", name, "--services"]);
    assert_eq!(sorted(&named.stdout), ["db", "job", "web"]);
    let timed_out = compose(&sshd, &["lab", "logs", name, "--timeout", "1ms", "--follow"]);
    assert_eq!(timed_out.code(), 124, "{timed_out:?}");
    let ended = compose(&sshd, &["lab", "top"]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (2, 1), "{ended:?}");
    assert!(ended.stderr.starts_with("sshpool: top needs a project: "), "{ended:?}");
    pool.close().await;
}

/// Names that begin with something else than a letter, replicas, profiles and variables, as a real
/// Compose takes them; and what it tells as it happens.
#[tokio::test]
async fn a_project_of_profiles_and_replicas_is_told_as_it_happens() {
    let Some(sshd) = docker_host() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let mut shop = Shop::new(&sshd, &pool, &host).await;
    shop.file = shop.file.replace("compose.yaml", "of profiles.yaml");
    let directory = shop.file.rsplit_once('/').expect("a path").0.to_owned();
    let text = "x-all: &all\n  image: ${IMAGE}\n  entrypoint: [sleep, '600']\n  \
        stop_grace_period: 0s\nservices:\n  web: {<<: *all, scale: 2}\n  \
        _hidden: {<<: *all, profiles: [more]}\n  .dot: {<<: *all, profiles: [more]}\n";
    for (file, text) in [
        (shop.file.clone(), text.to_owned()),
        (format!("{directory}/variables"), format!("IMAGE={}\n", sshd.image())),
    ] {
        let written = pool.command(&host, "tee").arg(file).stdin(text).output().await;
        assert!(written.expect("it runs").status.success());
    }
    let compose = Compose::new(&pool, &host);
    let up = compose.up(&shop.name).expect("a name").file(&shop.file);
    let up = up.profile("more").env_file(format!("{directory}/variables"));
    up.project_directory(&directory).output().await.expect("it is up");

    let found = compose.project_status(&shop.name).await.expect("an answer");
    let mut containers: Vec<_> =
        found.services.iter().map(|s| (&*s.name, s.container.replace(&shop.name, "p"))).collect();
    containers.sort();
    let expected =
        [(".dot", "p-.dot-1"), ("_hidden", "p-_hidden-1"), ("web", "p-web-1"), ("web", "p-web-2")];
    assert_eq!(containers, expected.map(|(service, name)| (service, name.to_owned())));

    let mut events = compose.events(&shop.name).expect("a name").stream().await.expect("it starts");
    let mut stats = compose.stats(&shop.name).expect("a name").stream().await.expect("it starts");
    let restart = compose.restart(&shop.name).and_then(|action| action.service("_hidden"));
    let restart = restart.and_then(|action| action.service(".dot")).expect("names");
    // An event is told to those who listen already: until one has come it is done again.
    let json = |line: Option<String>| {
        let line = line.expect("it goes on");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let mut seen = Vec::new();
    let all_seen = async {
        while !["_hidden", ".dot"].iter().all(|name| seen.contains(&Value::from(*name))) {
            seen.push(json(events.next().await.expect("an event"))["service"].clone());
        }
    };
    let again = async {
        loop {
            restart.clone().output().await.expect("it restarts");
        }
    };
    tokio::select! {
        () = all_seen => {}
        () = again => {}
        () = tokio::time::sleep(PATIENCE) => panic!("no event"),
    }
    assert!(!seen.contains(&Value::from("web")), "{seen:?}");
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 4 {
        let line = timeout(PATIENCE, stats.next()).await.expect("in time").expect("a line");
        let name = json(line)["Name"].as_str().expect("a name").to_owned();
        // Docker's words for a container that was just restarted.
        if name == "--" {
            continue;
        }
        assert!(name.starts_with(&shop.name), "{name}");
        names.insert(name);
    }
    drop((events, stats));
    wait_for_async("the end of the sessions", PATIENCE, || pool.stats().open_sessions == 0).await;
    let pattern = format!("[d]ocker.*compose.*{}.*(events|stats)", shop.name);
    wait_for_async("the end of docker on the host", PATIENCE, || {
        sshd.exec(&format!("pgrep -f '{pattern}'")).code() == 1
    })
    .await;
    compose.down(&shop.name).expect("a name").output().await.expect("it goes down");
    assert_eq!(shop.left(), []);
    pool.close().await;
}

/// What a host lacks.
#[rstest]
#[case::docker(Sshd::builder(), "docker is not installed, or not on the PATH of this account")]
#[case::plugin(
    Sshd::builder().image(Image::Compose).docker_socket().run_option("--tmpfs=/usr/libexec/docker/cli-plugins"),
    "the Compose plugin of docker is not installed"
)]
#[case::permission(
    Sshd::builder().image(Image::Compose).docker_socket().run_option("--env=KEEP_OUT=yes"),
    "no permission for Docker's socket: permission denied while trying to connect"
)]
#[case::daemon(Sshd::builder().image(Image::Compose), "Docker's daemon does not answer: Cannot connect to the Docker daemon at unix://")]
#[tokio::test]
async fn a_failure_says_what_the_host_lacks(
    #[case] server: common::sshd::Builder,
    #[case] text: &str,
) {
    let Some(sshd) = server.start_or_skip() else { return };
    if sshd.kind() == Kind::Process {
        return common::skip("this machine itself may have a docker");
    }
    let (pool, host) = (pool(config()), host(&sshd));
    let docker = Compose::new(&pool, &host);
    let expected = format!("lab: {text}");
    let errors = [
        docker.list_projects(true).await.expect_err("it cannot"),
        docker.project_status("shop").await.expect_err("it cannot"),
        docker.restart("shop").expect("a name").output().await.expect_err("it cannot"),
        docker.up("shop").expect("a name").output().await.expect_err("it cannot"),
    ];
    for error in errors {
        let error = error.to_string();
        assert!(error.starts_with(&expected) && !error.contains('\n'), "{error}");
    }
    pool.close().await;
    for args in [&["lab", "ls"][..], &["lab", "ps", "shop"]] {
        let ended = compose(&sshd, args);
        assert_eq!((ended.code(), &*ended.stdout), (255, ""), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("sshpool: {expected}")), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    // Docker's own words and status, and then ours.
    let ended = compose(&sshd, &["lab", "restart", "shop"]);
    assert!(![0, 255].contains(&ended.code()) && ended.stderr.lines().count() > 1, "{ended:?}");
    assert!(ended.last_words().starts_with(&format!("sshpool: {expected}")), "{ended:?}");
}

#[tokio::test]
async fn a_project_that_is_not_there_is_told() {
    let Some(sshd) = docker_host() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let docker = Compose::new(&pool, &host);
    let name = "sshpool-test-nosuch";
    let status = docker.project_status(name).await.expect("that is an answer");
    assert_eq!((status.status, status.services.len()), (Status::Stopped, 0));
    for action in [
        docker.restart(name),
        docker.stop(name),
        docker.start(name),
        docker.logs(name, false),
        docker.up(name),
    ] {
        let error = action.expect("a name").output().await.expect_err("there is no project");
        assert!(matches!(&error, ComposeError::NoProject { .. }), "{error:?}");
    }
    pool.close().await;
    // Compose itself is content with having nothing to do.
    let ended = compose(&sshd, &["lab", "restart", name]);
    let expected = format!("sshpool: lab: there is no project \"{name}\": it has no containers\n");
    assert_eq!((ended.code(), &*ended.stderr), (1, &*expected));
}

#[test]
fn of_several_hosts_those_that_answer_are_shown() {
    let Some(sshd) = docker_host() else { return };
    let ended = compose(&sshd, &["lab,127.0.0.1:1", "ls", "--json"]);
    assert_eq!((ended.code(), &*ended.stderr), (255, ""));
    let answers = json(&ended);
    assert_eq!((&answers[0]["host"], &answers[0]["error"]), (&"lab".into(), &Value::Null));
    assert!(answers[0]["projects"].is_array() && answers[1]["projects"].is_null());
    let error = answers[1]["error"].as_str().expect("a reason");
    assert!(error.starts_with("cannot connect: connection refused: "), "{error}");
    let ended = compose(&sshd, &["lab,127.0.0.1:1", "ls"]);
    assert!(ended.stdout.starts_with("HOST  PROJECT  "), "{ended:?}");
    assert!(ended.stderr.starts_with("sshpool: 127.0.0.1: cannot connect: "), "{ended:?}");
    let ended = compose(&sshd, &["lab,127.0.0.1:1", "restart", "shop"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.starts_with("sshpool: restart shop on 2 hosts (127.0.0.1,lab): --yes "));
}

/// The program that the pool exists for: after its first page nothing logs in, on a host that
/// answers and beside one that does not.
#[tokio::test]
async fn the_dashboard_shows_projects_and_resources_page_after_page() {
    let Some(sshd) = docker_host() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let shop = Shop::new(&sshd, &pool, &host).await;
    let docker = Compose::new(&pool, &host);
    docker.up(&shop.name).expect("a name").file(&shop.file).output().await.expect("it is up");
    shop.settles(&docker).await;
    let logins = sshd.logins();

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    let text = format!(
        "[hosts.lab]\nssh_config = {:?}\n[hosts.down]\naddress = \"127.0.0.1\"\nport = 1\n",
        sshd.ssh_config()
    );
    std::fs::write(&file, text).expect("a file");
    let ended = run(command(pooled::example("dashboard")).arg(&file).args(["0", "3"]), PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    let pages: Vec<_> = ended.stdout.split("\n\n").filter(|page| !page.is_empty()).collect();
    assert_eq!(pages.len(), 3, "{}", ended.stdout);
    for page in pages {
        let line =
            page.lines().find(|line| line.contains(&shop.name)).expect("the project is there");
        assert!(line.ends_with("partial  2 of 3 containers"), "{line}");
        assert!(page.lines().any(|line| line.starts_with("lab: CPU ")), "{page}");
        assert!(page.contains("down: cannot connect: connection refused: "), "{page}");
        assert!(page.lines().last().expect("a last line").ends_with(" 1 logins so far"), "{page}");
    }
    assert_eq!(sshd.logins(), logins + 1);
    docker.down(&shop.name).expect("a name").output().await.expect("it goes down");
    pool.close().await;
}

#[rstest]
#[case::shell("$(reboot)")]
#[case::option("-f/etc/passwd")]
#[case::blank("a b")]
#[case::empty("")]
#[case::long(&"a".repeat(300))]
#[tokio::test]
async fn hostile_names_are_refused_before_anything_runs(#[case] name: &str) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let docker = Compose::new(&pool, &host);
    let refused = |result: Result<(), ComposeError>| {
        let error = result.expect_err("it is no name").to_string();
        assert!(error.starts_with("invalid ") && !error.contains('\n'), "{error}");
    };
    refused(docker.project_status(name).await.map(drop));
    for action in [
        docker.up(name),
        docker.down(name),
        docker.start(name),
        docker.stop(name),
        docker.restart(name),
        docker.pull(name),
        docker.logs(name, true),
        docker.exec(name, "web", ["true"]),
        docker.exec("shop", name, ["true"]),
        docker.action(name, "top"),
        docker.restart("shop").and_then(|action| action.service(name)),
    ] {
        refused(action.map(drop));
    }
    if name.len() < 300 {
        refused(docker.action("shop", name).map(drop));
    }
    for args in [
        &["lab", "ps", "--", name][..],
        &["lab", "restart", "--", name],
        &["lab", "restart", "--", "shop", name],
    ] {
        let ended = compose(&sshd, args);
        assert_eq!(
            (ended.code(), &*ended.stdout, ended.stderr.lines().count()),
            (2, "", 1),
            "{ended:?}"
        );
        assert!(ended.stderr.starts_with("sshpool: invalid "), "{ended:?}");
    }
    assert_eq!((pool.stats().connects, sshd.logins()), (0, 0));
    pool.close().await;
}
