//! Hosts behind jump hosts: one login at each hop for all that lies behind it, whatever the hop
//! allows, and what is told when the way fails.

use std::fs;
use std::time::Duration;

use rstest::rstest;
use sshpool::{Host, Pool, PoolConfig};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::process::run;
use crate::lab::common::sshd::{Builder, Sshd};
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, command, config, pool};

/// Servers, and an ssh_config in which each is a host of its own.
struct Net {
    directory: tempfile::TempDir,
    text: String,
}

impl Net {
    fn new() -> Net {
        let directory = tempfile::Builder::new().prefix("net-").tempdir().expect("a directory");
        Net { directory, text: String::new() }
    }

    /// A host that is this server, with lines of its own.
    fn host(mut self, pattern: &str, sshd: &Sshd, lines: &str) -> Net {
        let (port, user) = (sshd.port(), sshd.user());
        let (key, known) = (sshd.identity_file(), sshd.known_hosts());
        let (key, known) = (key.display(), known.display());
        self.text += &format!(
            "Host {pattern}\n{lines}HostName 127.0.0.1\nPort {port}\nUser {user}\n\
             IdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile {known}\n\
             GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        );
        fs::write(self.config(), &self.text).expect("the directory is ours");
        self
    }

    fn config(&self) -> std::path::PathBuf {
        self.directory.path().join("ssh_config")
    }

    fn named(&self, name: &str) -> Host {
        let host = Host::new(name).and_then(|host| host.config_file(self.config()));
        host.expect("a valid host")
    }

    /// What plain ssh gives here.
    fn plain(&self, name: &str) -> (i32, String) {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(self.config()).args([
            "-o",
            "BatchMode=yes",
            name,
            "echo from $((6 * 7))",
        ]);
        let ended = run(&mut ssh, PATIENCE);
        (ended.code(), ended.stdout)
    }
}

async fn runs(pool: &Pool, host: &Host) -> String {
    let ran = timeout(PATIENCE, pool.exec(host, "echo from $((6 * 7))")).await.expect("it ends");
    ran.unwrap_or_else(|error| panic!("{}: {error}", host.name()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_hosts_behind_one_hop_cost_one_login_there() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().max_startups("100").start());
    let net = Net::new().host("hop", &hop, "").host("web*", &target, "ProxyJump hop\n");
    assert_eq!(net.plain("web1"), (0, "from 42\n".to_owned()));
    let (hops, targets) = (hop.logins(), target.logins());
    let pool = pool(config());
    let mut all = JoinSet::new();
    for number in 0..20 {
        let (pool, host) = (pool.clone(), net.named(&format!("web{number}")));
        all.spawn(async move { runs(&pool, &host).await });
    }
    assert_eq!(all.join_all().await, vec!["from 42"; 20]);
    assert_eq!((hop.logins() - hops, target.logins() - targets), (1, 20));
    assert_eq!(hop.sessions_opened(), 0, "nothing runs there");
    pool.close().await;
    assert_eq!(pool.stats().total_connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hops_cost_one_login_each() {
    let (outer, inner) = (Sshd::builder().start(), Sshd::builder().start());
    let target = Sshd::builder().start();
    for jump in ["outer,inner", "inner"] {
        // Of a list the second hop is reached over the first one; else by its own configuration.
        let own = if jump == "inner" { "ProxyJump outer\n" } else { "" };
        let net = Net::new().host("outer", &outer, "").host("inner", &inner, own);
        let net = net.host("a b c", &target, &format!("ProxyJump {jump}\n"));
        assert_eq!(net.plain("a").0, 0);
        let before = (outer.logins(), inner.logins(), target.logins());
        let pool = pool(config());
        for name in ["a", "b", "c", "a"] {
            assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
        }
        let (outer, inner) = (outer.logins() - before.0, inner.logins() - before.1);
        assert_eq!((outer, inner, target.logins() - before.2), (1, 1, 3), "{jump}");
        pool.close().await;
    }
}

/// Through all of these plain ssh goes.
#[rstest]
#[case::no_sessions(Sshd::builder().max_sessions(0))]
#[case::nologin(Sshd::builder().force_command("echo nothing runs here; exit 1"))]
#[case::no_tty_and_shell(Sshd::builder().option("PermitTTY", "no"))]
#[tokio::test]
async fn a_hop_needs_no_session(#[case] hop: Builder) {
    let (hop, target) = (hop.start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web*", &target, "ProxyJump hop\n");
    assert_eq!(net.plain("web1"), (0, "from 42\n".to_owned()));
    let before = (hop.logins(), hop.sessions_opened());
    let pool = pool(config());
    for name in ["web1", "web2"] {
        assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
    }
    assert_eq!((hop.logins(), hop.sessions_opened()), (before.0 + 1, before.1));
}

#[rstest]
#[case::forwarding_only("restrict,port-forwarding")]
#[case::permitted("restrict,port-forwarding,permitopen=\"127.0.0.1:PORT\"")]
#[case::forced("command=\"echo forced >>~/forced\"")]
#[tokio::test]
async fn a_hop_may_limit_its_key(#[case] options: &str) {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let key = fs::read_to_string(hop.identity_file().with_extension("pub")).expect("a key");
    hop.authorize(&options.replace("PORT", &target.port().to_string()), key.trim());
    let net = Net::new().host("hop", &hop, "").host("web*", &target, "ProxyJump hop\n");
    assert_eq!(net.plain("web1"), (0, "from 42\n".to_owned()));
    let before = hop.logins();
    let pool = pool(config());
    for name in ["web1", "web2"] {
        assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
    }
    assert_eq!(hop.logins(), before + 1);
    assert_eq!(hop.exec("cat ~/forced 2>/dev/null").stdout, "");
}

/// Ports behind different hops are different servers, whatever they are called.
#[tokio::test]
async fn a_hop_is_shared_with_the_chain_before_it() {
    let (one, two) = (Sshd::builder().start(), Sshd::builder().start());
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("one", &one, "").host("two", &two, "").host("hop", &hop, "");
    let net =
        net.host("a", &target, "ProxyJump one,hop\n").host("b", &target, "ProxyJump two,hop\n");
    let pool = pool(config());
    for name in ["a", "b", "a"] {
        assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
    }
    assert_eq!((one.logins(), two.logins(), hop.logins(), target.logins()), (1, 1, 2, 2));
}

/// A hop that is also a host has a connection of its own for commands, with what they need.
#[tokio::test]
async fn commands_on_a_hop_have_their_own_connection() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web", &target, "ProxyJump hop\n");
    let pool = pool(config());
    for name in ["web", "hop", "web", "hop"] {
        assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
    }
    assert_eq!((hop.logins(), target.logins()), (2, 1));
}

#[tokio::test]
async fn without_the_setting_ssh_goes_its_own_way() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web*", &target, "ProxyJump hop\n");
    let pool = pool(PoolConfig::share_jump_hosts(config(), false));
    for name in ["web1", "web2"] {
        assert_eq!(runs(&pool, &net.named(name)).await, "from 42");
    }
    assert_eq!((hop.logins(), target.logins()), (2, 2));
}

/// Whoever shares connections to a hop by a socket of their own goes on to do so.
#[rstest]
#[case::a_socket_of_the_users("ControlPath ~/.ssh/nosuch-%h\n", "")]
#[case::a_value_with_the_hops_in_it("", "HostKeyAlias 127.0.0.1-%j\n")]
#[tokio::test]
async fn where_it_would_not_be_the_same_ssh_goes_its_own_way(
    #[case] of_hop: &str,
    #[case] of_target: &str,
) {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, of_hop);
    let net = net.host("web*", &target, &format!("ProxyJump hop\n{of_target}"));
    let accepts = |name| net.named(name).option("StrictHostKeyChecking", "accept-new");
    let pool = pool(config());
    for name in ["web1", "web2"] {
        assert_eq!(runs(&pool, &accepts(name).expect("a valid host")).await, "from 42");
    }
    assert_eq!((hop.logins(), target.logins()), (2, 2));
}

/// What is forgotten of a host is forgotten of the hop before it.
#[tokio::test]
async fn a_reset_has_the_hop_tried_at_once() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web", &target, "ProxyJump hop\n");
    let (pool, web) = (pool(config()), net.named("web"));
    hop.kill();
    for _ in 0..5 {
        pool.exec(&web, "true").await.expect_err("the hop is down");
    }
    hop.restart();
    pool.reset(&web);
    assert_eq!(runs(&pool, &web).await, "from 42");
    assert_eq!(hop.logins(), 1);
}

/// The target's key and options are not the hop's.
#[tokio::test]
async fn the_targets_key_and_options_do_not_reach_the_hop() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web", &target, "ProxyJump hop\n");
    let web = net.named("web").identity_file(target.identity_file());
    let web = web.and_then(|web| web.option("Ciphers", "aes256-ctr")).expect("a valid host");
    let pool = pool(config());
    assert_eq!(runs(&pool, &web).await, "from 42");
    assert_eq!((hop.logins(), target.logins()), (1, 1));
}

#[rstest]
#[case::killed(Sshd::kill_connections)]
#[case::restarted(Sshd::restart)]
#[tokio::test]
async fn a_hop_that_goes_takes_hosts_behind_it_along_and_all_come_back(#[case] goes: fn(&Sshd)) {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "").host("web*", &target, "ProxyJump hop\n");
    let pool = pool(config());
    let hosts = [net.named("web1"), net.named("web2")];
    for host in &hosts {
        assert_eq!(runs(&pool, host).await, "from 42");
    }
    let running = pool.shell(&hosts[0], "sleep 300").timeout(Duration::from_secs(60)).spawn();
    let mut running = running.await.expect("it runs");
    goes(&hop);
    let lost = timeout(PATIENCE, running.wait()).await.expect("it is told");
    let lost = lost.expect_err("its connection is gone").to_string();
    assert!(lost.contains("connection lost while the command ran"), "{lost}");
    wait_for_async("the loss", PATIENCE, || pool.stats().total_connections == 0).await;
    for host in &hosts {
        assert_eq!(runs(&pool, host).await, "from 42");
    }
    assert_eq!((hop.logins(), target.logins()), (2, 4));
}

/// Twenty hosts, one cause, one try.
#[test]
fn what_fails_at_the_hop_is_told_of_the_hop_and_tried_once() {
    let (hop, target) = (Sshd::builder().start(), Sshd::builder().start());
    let net = Net::new().host("hop", &hop, "User nobody-here\n");
    let net = net.host("web*", &target, "ProxyJump hop\n");
    let home = Home::new();
    let mut all = home.command(["-F"]);
    all.arg(net.config()).args(["run", "-w", "web[1-20]", "--", "true"]);
    let ended = run(&mut all, PATIENCE);
    let text = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code(), 255, "{text}");
    let cause =
        "authentication failed: ProxyJump hop failed: nobody-here@127.0.0.1: Permission denied";
    assert!(text.contains(cause), "{text}");
    assert_eq!((hop.log().matches("Connection from").count(), target.logins()), (1, 0), "{text}");
}

/// Plain ssh starts itself without end.
#[test]
fn a_hop_that_jumps_to_itself_is_told() {
    let sshd = Sshd::builder().start();
    let net = Net::new().host("hop web", &sshd, "ProxyJump hop\n");
    let home = Home::new();
    let mut exec = home.command(["-F"]);
    let ended = run(exec.arg(net.config()).args(["exec", "web", "--", "true"]), PATIENCE);
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("ProxyJump hop: the way has more than"), "{}", ended.stderr);
    assert_eq!(sshd.log().matches("Connection from").count(), 0);
}
