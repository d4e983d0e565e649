//! `--sudo` against `sudo -S` over a master, and a shell that is kept against no sudo at all.

use std::time::Instant;

use sshpool::{Host, Password, Pool, PoolConfig, Runner, Sudo};

use crate::lab::{Lab, time};
use crate::support::common::sshd::{Kind, kind};
use crate::support::milliseconds;
use crate::support::stats::median;
use crate::{Figure, Plan};

const PASSWORD: &str = "correct horse battery staple";

pub fn measure(lab: &Lab, plan: &Plan) -> [Figure; 2] {
    let kept = Figure::new(
        format!("`true` by sudo in a shell that is kept, median of {}", plan.clients),
        "Sudo::reuse",
        "the same runner without sudo",
        1.2,
    );
    let own = by_program(lab, plan);
    match &own.missing {
        Some(why) => {
            let why = why.clone();
            [own, kept.is_missing(why)]
        }
        None => [own, by_library(kept, lab, plan)],
    }
}

/// In this process: a shell is kept by the runner that has the password.
fn by_library(figure: Figure, lab: &Lab, plan: &Plan) -> Figure {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pool = runtime.block_on(async { Pool::new(PoolConfig::default()).expect("a pool") });
    let host = Host::new("h1").and_then(|host| host.config_file(lab.home.path("config")));
    let host = host.expect("a name and a file");
    let password = Password::new(PASSWORD).expect("it is one");
    let root = Sudo::new().password(password).reuse(true).over(&pool);
    let many = |runner: &dyn Runner| {
        let mut times = Vec::new();
        for _ in 0..plan.clients {
            let start = Instant::now();
            let ran = runtime.block_on(runner.command(&host, "true").output());
            times.push(milliseconds(start));
            match ran {
                Ok(output) if output.status.success() => {}
                other => return Err(format!("{other:?}")),
            }
        }
        Ok(median(&times).expect("there are some"))
    };
    let figure = figure.measure(plan.rounds, |_| many(&*root), |_| many(&pool));
    drop(root);
    runtime.block_on(pool.close());
    figure
}

fn by_program(lab: &Lab, plan: &Plan) -> Figure {
    let name = format!("`true` by sudo, median of {}", plan.clients);
    let figure = Figure::new(name, "sshpool exec --sudo", "ssh … sudo -S over a master", 1.0);
    if kind() == Kind::Process {
        return figure.is_missing("the server is a process, whose sudoers are not ours".to_owned());
    }
    lab.sshd.as_root(&format!(
        "echo 'lab:{PASSWORD}' | chpasswd; echo 'lab ALL=(ALL) ALL' >/etc/sudoers.d/lab"
    ));
    let settings = lab.home.path("sudo.toml");
    let text = format!("[sudo]\npassword_command = [\"echo\", \"{PASSWORD}\"]\n");
    std::fs::write(&settings, text).expect("a new file");
    let settings = settings.display().to_string();
    let many = |once: &dyn Fn() -> Result<f64, String>| {
        let times: Result<Vec<f64>, String> = (0..plan.clients).map(|_| once()).collect();
        Ok(median(&times?).expect("there are some"))
    };
    let ours = || {
        let words = ["--config", &settings, "exec", "--sudo", "h1", "--", "true"];
        time(&mut lab.home.sshpool(&words), b"")
    };
    let line = format!("{PASSWORD}\n");
    let theirs = || time(lab.bare("ssh").args(["h1", "sudo -k -S -p '' true"]), line.as_bytes());
    figure.measure(plan.rounds, |_| many(&ours), |_| many(&theirs))
}
