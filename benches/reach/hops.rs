//! Many hosts behind one jump host, with nothing there, against ssh's own ProxyJump.

use crate::lab::{Home, time};
use crate::support::common::sshd::Sshd;
use crate::support::server;
use crate::{Count, Figure, Plan};

pub fn measure(plan: &Plan) -> (Figure, Count) {
    let hop = server().max_startups("200").start();
    // Each has an account of its own, as hosts have.
    let targets: Vec<Sshd> = (0..plan.hosts).map(|_| server().start()).collect();
    let of = |sshd: &Sshd| std::fs::read_to_string(sshd.ssh_config()).expect("the server has one");
    let mut config = of(&hop).replacen("Host lab", "Host hop", 1);
    for (number, target) in (1..).zip(&targets) {
        let named = format!("Host t{number}\nProxyJump hop");
        config += &format!("\n{}", of(target).replacen("Host lab", &named, 1));
    }
    let home = Home::new(&config);
    let hosts = plan.hosts;
    let mut most = 0;
    let ours = |_: usize| {
        home.stop_agent();
        let before = hop.logins();
        let (width, names) = (hosts.to_string(), format!("t[1-{hosts}]"));
        let taken =
            time(&mut home.sshpool(&["run", "-w", &names, "-f", &width, "--", "echo test"]), b"");
        most = most.max(hop.logins() - before);
        taken
    };
    let text = format!(
        "seq {hosts} | xargs -P{hosts} -I{{}} ssh -F {} t{{}} echo test",
        home.path("config").display()
    );
    let theirs = |_: usize| time(home.program("sh").args(["-c", &text]), b"");
    let name = format!("{hosts} hosts behind a jump host, cold, agent included");
    let figure = Figure::new(name, "sshpool run", "xargs ssh with ProxyJump", 0.65);
    let figure = figure.measure(plan.rounds, ours, theirs);
    let count = match figure.missing.clone() {
        Some(why) => Err(why),
        None => Ok((most.to_string(), most == 1)),
    };
    (figure, Count("logins at the jump host for them".to_owned(), "1".to_owned(), count))
}
