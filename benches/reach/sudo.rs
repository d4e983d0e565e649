//! `--sudo` against `sudo -S` over a master.

use crate::lab::{Lab, time};
use crate::support::common::sshd::{Kind, kind};
use crate::support::stats::median;
use crate::{Figure, Plan};

const PASSWORD: &str = "correct horse battery staple";

pub fn measure(lab: &Lab, plan: &Plan) -> Figure {
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
