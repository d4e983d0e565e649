//! One command on many hosts by the library. The hosts are aliases of one server.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use sshpool::{Error, Fleet, Host, HostSet, fold};

use crate::lab::common;
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, config, pool};

struct Lab {
    sshd: Sshd,
    _home: tempfile::TempDir,
    hosts: Vec<Host>,
}

/// Nothing listens where `dead` hosts are.
fn lab(hosts: &str) -> Lab {
    let (sshd, home) =
        (Sshd::builder().max_startups("100").start(), tempfile::tempdir().expect("a directory"));
    let ssh_config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let file = home.path().join("ssh_config");
    let text = format!("Host dead*\n    Port 1\n{}", ssh_config.replace("Host lab", "Host *"));
    std::fs::write(&file, text).expect("a file");
    let set: HostSet = hosts.parse().expect("hosts");
    let host = |name: &String| {
        name.parse::<Host>().and_then(|host| host.config_file(&file)).expect("a host")
    };
    let hosts = set.iter().map(host).collect();
    Lab { sshd, _home: home, hosts }
}

fn width(width: usize) -> NonZeroUsize {
    NonZeroUsize::new(width).expect("not 0")
}

#[tokio::test]
async fn every_host_has_its_outcome() {
    let (lab, pool) = (lab("web[1-5],dead1"), pool(config()));
    let mut outcomes =
        Fleet::new(&lab.hosts).width(width(3)).run(|host| pool.shell(host, "echo here; exit 3"));
    let (mut ended, mut refused) = (BTreeSet::new(), BTreeSet::new());
    while let Some(outcome) = outcomes.next().await {
        assert!(!outcome.success() && outcome.elapsed > Duration::ZERO);
        match outcome.result {
            Ok(output) => {
                assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"here\n"[..]));
                ended.insert(outcome.host.name());
            }
            Err(Error::Connect { host, .. }) => drop(refused.insert(host)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((fold(ended), fold(refused)), ("web[1-5]".to_owned(), "dead1".to_owned()));
    assert!(outcomes.not_started().is_empty());
    assert_eq!(lab.sshd.logins(), 5);
    pool.close().await;
}

#[tokio::test]
async fn the_first_failure_is_the_last_to_be_started_when_that_is_wanted() {
    let (lab, pool) = (lab("web1,dead1,web[2-4]"), pool(config()));
    let mut outcomes =
        Fleet::new(&lab.hosts).width(width(1)).fail_fast(true).run(|host| pool.shell(host, "true"));
    let mut done = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        done.push((outcome.host.name(), outcome.success()));
    }
    assert_eq!(done, [("web1", true), ("dead1", false)]);
    assert_eq!(fold(outcomes.not_started().iter().map(Host::name)), "web[2-4]");
    pool.close().await;
}

#[tokio::test]
async fn dropping_the_outcomes_ends_the_commands() {
    let (lab, pool) = (lab("web[1-3]"), pool(config()));
    // Others on this machine sleep as well.
    let command = format!("sleep 4711.{}", lab.sshd.port());
    let sleep = |host| pool.shell(host, format!("exec {command}")).timeout(None);
    let mut outcomes = Fleet::new(&lab.hosts).run(sleep);
    let count = format!("ps -eo args | grep -c '^{command}'");
    let running = || lab.sshd.exec(&count).stdout.trim().to_owned();
    // It is only while it is polled that they get on.
    tokio::select! {
        _ = outcomes.next() => panic!("none of them ends"),
        () = common::wait_for_async("three of them", pooled::PATIENCE, || running() == "3") => {}
    }
    drop(outcomes);
    common::wait_for_async("their end", pooled::PATIENCE, || running() == "0").await;
    pool.close().await;
}
