//! Docker's client over its socket against `ssh://`.

use std::process::{Command, Stdio};

use crate::lab::{Home, time};
use crate::support::common::sshd::{Image, Sshd};
use crate::support::facts::said;
use crate::{Count, Figure, Plan};

pub fn measure(plan: &Plan) -> (Figure, Count) {
    let calls = plan.calls;
    let name = format!("{calls} times `docker ps` in a row");
    let figure = Figure::new(name, "sshpool docker-env", "DOCKER_HOST=ssh://", 0.3);
    let at_once = |found| {
        let what = format!("{calls} times `docker ps` at once: errors");
        Count(what, "none".to_owned(), found)
    };
    if said("docker", &["--version"]).is_none() {
        let why = "there is no docker here".to_owned();
        return (figure.is_missing(why.clone()), at_once(Err(why)));
    }
    let builder = Sshd::builder().image(Image::Compose).docker_socket().max_startups("100");
    let Some(sshd) = builder.start_or_skip() else {
        let why = "no container can have the engine's socket".to_owned();
        return (figure.is_missing(why.clone()), at_once(Err(why)));
    };
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the server has one");
    let home = Home::new(&config.replacen("Host lab", "Host h1", 1));
    // Docker calls the ssh of PATH, and gives it no file.
    let bin = home.path("bin");
    std::fs::create_dir(&bin).expect("a new directory");
    let script =
        format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", home.path("config").display());
    let ssh = bin.join("ssh");
    std::fs::write(&ssh, script).expect("a new file");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let printed = home.sshpool(&["docker-env", "h1"]).stderr(Stdio::inherit()).output();
    let printed = printed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let said = printed.unwrap_or_default();
    let Some(socket) = said.split("DOCKER_HOST=").nth(1).and_then(|rest| rest.lines().next())
    else {
        let why = "docker-env names no socket".to_owned();
        return (figure.is_missing(why.clone()), at_once(Err(why)));
    };
    let socket = socket.trim_matches(['\'', '"']).to_owned();
    let docker = |way: &str| -> Command {
        let mut docker = home.program("docker");
        let path = std::env::var("PATH").unwrap_or_default();
        docker.arg("ps").env("DOCKER_HOST", way).env("DOCKER_CONFIG", home.path("docker"));
        docker.env("PATH", format!("{}:{path}", bin.display()));
        docker
    };
    let row = |way: &str| -> Result<f64, String> {
        let mut sum = 0.0;
        for _ in 0..calls {
            sum += time(&mut docker(way), b"")?;
        }
        Ok(sum)
    };
    let figure = figure.measure(plan.rounds.min(3), |_| row(&socket), |_| row("ssh://h1"));
    let running: Vec<_> = (0..calls)
        .map(|_| docker(&socket).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
        .collect();
    let failed = running
        .into_iter()
        .map(|child| child.and_then(|mut child| child.wait()))
        .filter(|status| !status.as_ref().is_ok_and(|status| status.success()))
        .count();
    (figure, at_once(Ok((failed.to_string(), failed == 0))))
}
