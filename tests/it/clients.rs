//! Programs that call ssh, over the pool: git, rsync, scp, sftp, Ansible and Docker, with one login
//! for all of them.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::lab::agents::Home;
use crate::lab::ansible;
use crate::lab::common::process::{Ended, path_with, run};
use crate::lab::common::sshd::{Image, Kind, Sshd, kind};
use crate::lab::common::{self, skip, wait_for};
use crate::lab::documents::blocks;
use crate::lab::pooled::{self, PATIENCE};

const GUIDE: &str = include_str!("../../docs/cli.md");

/// The server, which is `lab` in the TOML file, and a directory in which this program is `ssh`.
struct Lab {
    sshd: Sshd,
    home: Home,
}

impl Lab {
    fn new() -> Self {
        // With git, rsync, Python and Docker's client; a private process has what this machine has.
        let builder = match kind() {
            Kind::Container("docker") => Sshd::builder().image(Image::Compose).docker_socket(),
            Kind::Container(_) => Sshd::builder().image(Image::Compose),
            Kind::Process => Sshd::builder(),
        };
        let lab = Lab { sshd: builder.start(), home: Home::new() };
        lab.home.config(&format!(
            "[hosts.lab]\nssh_config = \"{}\"\n",
            lab.sshd.ssh_config().display()
        ));
        std::fs::create_dir(lab.work("shim")).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_sshpool"), lab.ssh()).expect("a link");
        lab
    }

    fn work(&self, name: &str) -> PathBuf {
        self.home.path().join("work").join(name)
    }

    /// This program by the name `ssh`.
    fn ssh(&self) -> PathBuf {
        self.work("shim").join("ssh")
    }

    /// `sshpool ssh`, for what takes a command.
    fn words() -> String {
        format!("{} ssh", env!("CARGO_BIN_EXE_sshpool"))
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.home.in_its_place(pooled::command(program), args);
        command
            .env("HOME", self.work(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    /// Runs a client that has to succeed.
    #[track_caller]
    fn must(&self, command: &mut Command) -> Ended {
        let ended = run(command, PATIENCE);
        assert_eq!(ended.code(), 0, "{command:?}\n{}{}", ended.stdout, ended.stderr);
        ended
    }

    /// What the server's account says.
    #[track_caller]
    fn there(&self, text: &str) -> String {
        let ended = self.sshd.exec(text);
        assert_eq!(ended.code(), 0, "{text}: {}", ended.stderr);
        ended.stdout
    }

    /// The home of the account there.
    fn home_there(&self) -> String {
        self.there("pwd").trim().to_owned()
    }

    fn git(&self) {
        self.there("git init -q --bare repo.git");
        let repo = format!("lab:{}/repo.git", self.home_there());
        let git = |args: &[&str]| {
            self.command(
                "git",
                ["-c", "user.name=lab", "-c", "user.email=lab@example.org"].iter().chain(args),
            )
        };
        self.must(git(&["clone", "-q", &repo, "one"]).env("GIT_SSH_COMMAND", Lab::words()));
        std::fs::write(self.work("one/file"), "text\n").expect("a file");
        self.must(&mut git(&["-C", "one", "add", "file"]));
        self.must(&mut git(&["-C", "one", "commit", "-qm", "first"]));
        self.must(&mut git(&["-C", "one", "config", "core.sshCommand", &Lab::words()]));
        self.must(&mut git(&["-C", "one", "push", "-q", "origin", "HEAD"]));
        // By one path.
        self.must(git(&["clone", "-q", &repo, "two"]).env("GIT_SSH", self.ssh()));
        assert_eq!(
            std::fs::read_to_string(self.work("two/file")).expect("it was cloned"),
            "text\n"
        );
    }

    fn rsync(&self) {
        let tree = self.work("tree/sub dir");
        std::fs::create_dir_all(&tree).expect("a directory");
        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        std::fs::write(tree.join("file"), &bytes).expect("a file");
        let there = format!("lab:{}/tree/", self.home_there());
        self.must(&mut self.command("rsync", ["-a", "-e", &Lab::words(), "tree/", &there]));
        let ssh = self.ssh();
        let ssh = ssh.to_str().expect("it is UTF-8");
        self.must(&mut self.command("rsync", ["-a", "-e", ssh, &there, "back/"]));
        assert!(std::fs::read(self.work("back/sub dir/file")).expect("it is back") == bytes);
    }

    fn scp_and_sftp(&self) {
        std::fs::write(self.work("here"), "to copy\n").expect("a file");
        let ssh = self.ssh();
        let ssh = ssh.to_str().expect("it is UTF-8");
        let there = format!("lab:{}/copied", self.home_there());
        self.must(&mut self.command("scp", ["-q", "-S", ssh, "here", &there]));
        // The old protocol, too.
        self.must(&mut self.command("scp", ["-q", "-O", "-S", ssh, &there, "copied"]));
        assert_eq!(std::fs::read_to_string(self.work("copied")).expect("it is there"), "to copy\n");
        std::fs::write(
            self.work("batch"),
            format!(
                "get {home}/copied fetched\nput fetched {home}/put\n",
                home = self.home_there()
            ),
        )
        .expect("a file");
        self.must(&mut self.command("sftp", ["-q", "-b", "batch", "-S", ssh, "lab"]));
        assert_eq!(
            std::fs::read_to_string(self.work("fetched")).expect("it is there"),
            "to copy\n"
        );
        assert_eq!(self.there("cat put"), "to copy\n");
    }

    /// False where Ansible cannot be had.
    fn ansible(&self) -> bool {
        let programs = match ansible::programs() {
            Ok(programs) => programs,
            Err(why) => {
                skip(&why);
                return false;
            }
        };
        let ssh = self.ssh();
        let ssh = ssh.display();
        let python = self.there("command -v python3");
        std::fs::write(
            self.work("hosts"),
            format!(
                "lab ansible_ssh_executable={ssh} ansible_sftp_extra_args=-S{ssh} ansible_python_interpreter={}\n",
                python.trim()
            ),
        )
        .expect("a file");
        std::fs::write(
            self.work("play.yaml"),
            format!(
                "- hosts: lab\n  gather_facts: false\n  tasks:\n\
                 \x20   - copy: {{content: from a play, dest: {home}/played}}\n\
                 \x20   - command: cat {home}/played\n      register: said\n\
                 \x20   - assert: {{that: said.stdout == 'from a play'}}\n\
                 \x20   - fetch: {{src: {home}/played, dest: fetched-by-play, flat: true}}\n",
                home = self.home_there()
            ),
        )
        .expect("a file");
        let ansible = |program: &str, args: &[&str]| {
            let mut command =
                self.command(programs.join(program), ["-i", "hosts"].iter().chain(args));
            // A slow machine has time to log in.
            command
                .env("ANSIBLE_TIMEOUT", "120")
                .env("ANSIBLE_NOCOLOR", "1")
                .env("LC_ALL", "C.UTF-8");
            command
        };
        let ping = self.must(&mut ansible("ansible", &["lab", "-m", "ping"]));
        assert!(ping.stdout.contains("\"ping\": \"pong\""), "{}", ping.stdout);
        let played = self.must(&mut ansible("ansible-playbook", &["play.yaml"]));
        assert!(played.stdout.contains("failed=0"), "{}", played.stdout);
        assert_eq!(
            std::fs::read_to_string(self.work("fetched-by-play")).expect("it is there"),
            "from a play"
        );
        true
    }

    fn docker(&self) {
        let path = path_with(&self.work("shim"));
        let docker = |args: &[&str]| {
            let mut command = self.command("docker", args);
            command.env("DOCKER_HOST", "ssh://lab").env("PATH", &path);
            command
        };
        let version = self.must(&mut docker(&["version", "--format", "{{.Server.Version}}"]));
        assert!(!version.stdout.trim().is_empty());
        let listed = self.must(&mut docker(&["ps", "--quiet"]));
        // The server itself runs there.
        assert!(!listed.stdout.trim().is_empty());
    }
}

#[test]
fn one_login_is_enough_for_all_of_them() {
    for (program, package) in
        [("git", "git"), ("rsync", "rsync"), ("scp", "openssh-client"), ("sftp", "openssh-client")]
    {
        if which::which(program).is_err() {
            return skip(&format!("there is no {program} (apt-get install {package})"));
        }
    }
    let lab = Lab::new();
    let logins =
        |client: &str| assert_eq!(lab.sshd.logins(), 1, "after {client}\n{}", lab.sshd.log());
    lab.git();
    logins("git");
    lab.rsync();
    logins("rsync");
    lab.scp_and_sftp();
    logins("scp and sftp");
    if lab.ansible() {
        logins("Ansible");
    }
    match (kind(), which::which("docker")) {
        (Kind::Container("docker"), Ok(_)) => {
            lab.docker();
            logins("Docker");
        }
        (Kind::Container("docker"), Err(_)) => skip("there is no docker program"),
        _ => skip("only a container of Docker has an engine to offer"),
    }
}

/// Commands of one client at once share the login, too.
#[test]
fn eight_clients_at_once_on_a_cold_host_make_one_login() {
    let lab = Lab::new();
    let mut children: Vec<_> = (0..8)
        .map(|number| {
            let mut command = lab.command(lab.ssh(), ["lab", &format!("echo {number}; cat")]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started")
        })
        .collect();
    for (number, child) in children.iter_mut().enumerate() {
        drop(child.stdin.take());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().expect("it is piped"), &mut text)
            .expect("it is text");
        assert_eq!((child.wait().expect("it ends").code(), text), (Some(0), format!("{number}\n")));
    }
    assert_eq!(lab.sshd.logins(), 1, "{}", lab.sshd.log());
    wait_for("the agent to know", PATIENCE, || {
        let status = lab.home.status();
        status["connections"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["sessions"] == 0))
    });
}

/// The recipes of docs/cli.md.
fn recipes() -> &'static str {
    let start = GUIDE.find("\n### By the name ssh\n").expect("the heading is there");
    let end = GUIDE.find("\n### What is left to plain ssh\n").expect("the heading is there");
    &GUIDE[start..end]
}

/// Why a block of a recipe cannot be run here; `None` where it can.
fn lacks(lab: &Lab, block: &str) -> Option<String> {
    const PROGRAMS: &[(&str, &str)] = &[
        ("git", "git"),
        ("rsync", "rsync"),
        ("scp", "openssh-client"),
        ("sftp", "openssh-client"),
        ("pdsh", "pdsh"),
        ("sshfs", "sshfs"),
        ("fusermount", "fuse3"),
        ("borg", "borgbackup"),
        ("restic", "restic"),
        ("docker", "docker.io"),
    ];
    let has = |program: &str| block.split([' ', '\n']).any(|word| word == program);
    for (program, package) in PROGRAMS.iter().filter(|(program, _)| has(program)) {
        if which::which(program).is_err() {
            return Some(format!("there is no {program} (apt-get install {package})"));
        }
        let there = ["git", "rsync", "borg"];
        if there.contains(program) && lab.sshd.exec(&format!("command -v {program}")).code() != 0 {
            return Some(format!("there is no {program} on the server"));
        }
    }
    if has("sshfs") && std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return Some("/dev/fuse cannot be opened".to_owned());
    }
    if has("docker") && lab.sshd.exec("docker ps").code() != 0 {
        return Some("no Docker engine answers on the server".to_owned());
    }
    None
}

/// As they stand there, one after the other; what they have below `/srv` is below the account's
/// home.
#[test]
fn e4_the_recipes_work_as_they_stand() {
    if let Kind::Container(_) = common::sshd::kind() {
        // They need more programs on the server than its image has: scripts/test runs this against
        // a private sshd.
        return;
    }
    let lab = Lab::new();
    let config = lab.sshd.ssh_config();
    lab.home.config(&format!("[hosts.web1]\nssh_config = \"{}\"\naddress = \"127.0.0.1\"\n\
        port = {}\nuser = \"{}\"\nidentity_file = \"{}\"\n[hosts.web1.options]\nUserKnownHostsFile = \"{}\"\n",
        config.display(), lab.sshd.port(), lab.sshd.user(), lab.sshd.identity_file().display(), lab.sshd.known_hosts().display()));
    lab.there("git init -q --bare app.git 2>/dev/null || true");
    std::fs::create_dir(lab.work("src")).expect("a directory");
    std::fs::write(lab.work("src/file"), "text\n").expect("a file");
    std::fs::write(lab.work("password"), "secret\n").expect("a file");
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_sshpool"));
    let programs = programs.parent().expect("it is in a directory").to_owned();
    let path = std::env::var_os("PATH").expect("there is one");
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)));
    let path = path.expect("no path has a colon");
    let blocks = blocks(recipes(), "sh");
    assert!(blocks.len() > 7, "{blocks:?}");
    for block in blocks {
        if let Some(why) = lacks(&lab, block) {
            skip(&why);
            continue;
        }
        // The account of a private process does not begin in its home.
        let block = block.replace("/srv", &lab.home_there());
        let mut shell = lab.command("sh", ["-ec", &block]);
        shell
            .env("PATH", &path)
            .env_remove("GIT_CONFIG_GLOBAL")
            .env("RESTIC_PASSWORD_FILE", lab.work("password"))
            .env("RESTIC_CACHE_DIR", lab.work("cache"))
            .env("BORG_BASE_DIR", lab.work("borg-base"))
            .env_remove("DOCKER_CONTEXT");
        let before = lab.sshd.logins();
        lab.must(&mut shell);
        assert!(lab.sshd.logins() <= before.max(1), "{block}\n{}", lab.sshd.log());
    }
    assert_eq!(lab.there("cat copy/file file"), "text\ntext\n");
}

/// A play of modules that go by ssh in different ways.
const PLAY: &str = "
- hosts: all
  gather_facts: false
  vars: {there: 'HOME/played-{{ inventory_hostname }}'}
  tasks:
    - wait_for_connection: {timeout: 120}
    - raw: echo raw-{{ inventory_hostname }}
      register: said
    - debug: {msg: '{{ said.stdout_lines }}'}
    - setup: {gather_subset: ['!all', '!min', platform]}
    - file: {path: '{{ there }}/a dir', state: directory, mode: '0750'}
    - copy: {content: 'of a play ü', dest: '{{ there }}/copied'}
    - copy: {src: big, dest: '{{ there }}/big'}
    - template: {src: template, dest: '{{ there }}/templated'}
    - command: cat copied templated
      args: {chdir: '{{ there }}'}
      register: said
    - debug: {msg: '{{ said.stdout }}'}
    - shell: wc -c <big; echo err >&2
      args: {chdir: '{{ there }}'}
      register: said
    - debug: {msg: '{{ said.stdout }} {{ said.stderr }}'}
    - command: exit-with-no-such-program
      register: said
      ignore_errors: true
    - stat: {path: '{{ there }}/big', checksum_algorithm: sha256}
      register: said
    - debug: {msg: '{{ said.stat.checksum }} {{ said.stat.size }}'}
    - lineinfile: {path: '{{ there }}/copied', line: another}
    - slurp: {src: '{{ there }}/copied'}
      register: said
    - debug: {msg: '{{ said.content | b64decode }}'}
    - script: 'local-script {{ inventory_hostname }}'
      register: said
    - debug: {msg: '{{ said.stdout }}'}
    - shell: sleep 1; echo async
      async: 60
      poll: 1
      register: said
    - debug: {msg: '{{ said.stdout }}'}
    - command: id -u
      become: BECOME
      register: said
    - debug: {msg: '{{ said.stdout }}'}
    - copy: {content: 'by become', dest: '{{ there }}/become'}
      become: BECOME
    - fetch: {src: '{{ there }}/big', dest: 'fetched-{{ inventory_hostname }}', flat: true}
    - ansible.posix.synchronize: {src: big, dest: '{{ there }}/synchronized', use_ssh_args: true}
    - meta: reset_connection
    - command: echo after the reset
      register: said
    - debug: {msg: '{{ said.stdout }}'}
    - file: {path: '{{ there }}', state: absent}
";

/// How many names the server has for the play. More of them take longer and show nothing else.
fn aliases() -> usize {
    std::env::var("SSHPOOL_TEST_ALIASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// The lines that it has printed, without the order of the hosts.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    // How often it has looked depends on the time.
    lines.retain(|line| !line.starts_with("ASYNC "));
    lines.sort();
    lines
}

#[test]
fn e3_e4_a_play_ends_as_by_plain_ssh() {
    if let Kind::Container(_) = common::sshd::kind() {
        // It needs Python and sudo on the server: scripts/test runs this against a private sshd.
        return;
    }
    let programs = match ansible::programs() {
        Ok(programs) => programs,
        Err(why) => return skip(&why),
    };
    let lab = Lab::new();
    let names: Vec<_> = (1..=aliases()).map(|number| format!("a{number}")).collect();
    let config = std::fs::read_to_string(lab.sshd.ssh_config()).expect("the fixture has one");
    let config = config.replace("Host lab", &format!("Host lab {}", names.join(" ")));
    let file = lab.work("aliases");
    std::fs::write(&file, config).expect("a file");
    let become_there = lab.sshd.exec("sudo -n true").code() == 0;
    if !become_there {
        skip("the account has no sudo: without become");
    }
    let mut play =
        PLAY.replace("HOME", &lab.home_there()).replace("BECOME", &become_there.to_string());
    // ansible-core has no synchronize.
    let collections = std::env::var_os("SSHPOOL_TEST_COLLECTIONS");
    if collections.is_none() {
        eprintln!(
            "SSHPOOL_TEST_COLLECTIONS names no directory with ansible.posix: without synchronize"
        );
        play = play
            .lines()
            .filter(|line| !line.contains("synchronize"))
            .map(|line| format!("{line}\n"))
            .collect();
    }
    std::fs::write(lab.work("play.yaml"), play).expect("a file");
    std::fs::write(lab.work("template"), "for {{ inventory_hostname }}\n").expect("a file");
    std::fs::write(lab.work("big"), vec![b'x'; 300_000]).expect("a file");
    std::fs::write(lab.work("local-script"), "#!/bin/sh\necho script of $1\n").expect("a file");
    let python = lab.there("command -v python3");
    let common = format!(
        "[all:vars]\nansible_python_interpreter={}\nansible_ssh_common_args=-F {}\n",
        python.trim(),
        file.display()
    );
    std::fs::write(lab.work("plain"), format!("{}\n{common}", names.join("\n"))).expect("a file");
    // What docs/cli.md says, where the link is.
    let recipe: String = blocks(recipes(), "yaml")[0]
        .replace("/home/me/.local/lib/sshpool/ssh", lab.ssh().to_str().expect("it is UTF-8"))
        .lines()
        .map(|line| line.replacen(": ", "=", 1) + "\n")
        .collect();
    std::fs::write(lab.work("pooled"), format!("{}\n{common}{recipe}", names.join("\n")))
        .expect("a file");
    let run_play = |hosts: &str, pipelining: &str| {
        let mut command =
            lab.command(programs.join("ansible-playbook"), ["-i", hosts, "-f", "8", "play.yaml"]);
        command
            .env("ANSIBLE_TIMEOUT", "120")
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_LOCALHOST_WARNING", "0")
            .env("ANSIBLE_PIPELINING", pipelining)
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", lab.work("cp"));
        if let Some(collections) = &collections {
            command.env("ANSIBLE_COLLECTIONS_PATH", collections);
        }
        for name in &names {
            // One that is there is not fetched again, and Ansible tells.
            let _ = std::fs::remove_file(lab.work(&format!("fetched-{name}")));
        }
        let started = std::time::Instant::now();
        let ended = run(&mut command, PATIENCE * 10);
        eprintln!("{hosts}, pipelining {pipelining}: {:?}", started.elapsed());
        assert_eq!(ended.code(), 0, "{}{}", ended.stdout, ended.stderr);
        for name in &names {
            let fetched = std::fs::read(lab.work(&format!("fetched-{name}"))).expect("it is there");
            assert!(fetched == [b'x'; 300_000]);
        }
        ended.stdout
    };
    let expected = sorted(&run_play("plain", "0"));
    for pipelining in ["0", "1"] {
        let before = lab.sshd.logins();
        let ours = run_play("pooled", pipelining);
        assert_eq!(sorted(&ours), expected, "pipelining is {pipelining}");
        // After the reset each host logs in anew. Before it the connections of the first time may
        // be there, or were idle for too long. The ssh of synchronize has another
        // StrictHostKeyChecking, and so a connection of its own.
        let most = names.len() * if collections.is_some() { 3 } else { 2 };
        let logins = lab.sshd.logins() - before;
        assert!(
            logins >= names.len() && logins <= most,
            "{logins} logins, and not {most}\n{}",
            lab.sshd.log()
        );
    }
}
