//! A terminal as a person sees it, under tmux: what `sshpool warm` asks and what it does not show,
//! a status that is watched, and a run on many hosts that is interrupted.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::agents::Home;
use crate::lab::common;
use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{PATIENCE, command};

/// A terminal of 100 columns. Dropped, it ends with all that runs in it.
struct Terminal<'a> {
    home: &'a Home,
    socket: PathBuf,
}

impl<'a> Terminal<'a> {
    /// `None`, and the test is skipped, where there is no tmux.
    fn open(home: &'a Home) -> Option<Self> {
        if run(command("sh").args(["-c", "command -v tmux"]), PATIENCE).code() != 0 {
            common::skip("there is no tmux");
            return None;
        }
        let terminal = Terminal { home, socket: home.path().join("tmux") };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "24",
            "env PS1='# ' sh",
        ]);
        terminal.shows("# ");
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = self.home.in_its_place(command("tmux"), ["-S"]);
        tmux.arg(&self.socket).args(words).env("PATH", path_with_sshpool()).env("TERM", "screen");
        let ended = run(&mut tmux, PATIENCE);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "tmux {words:?}");
        ended.stdout
    }

    /// What a person sees, without the empty lines below.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    fn types(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line on an empty screen.
    fn enter(&self, line: &str) {
        self.types(&["clear", "Enter"]);
        common::wait_for("an empty screen", PATIENCE, || self.screen() == "#");
        self.types(&["-l", "--", line]);
        self.types(&["Enter"]);
    }

    /// Waits until the screen has this text, and gives the screen.
    #[track_caller]
    fn shows(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if format!("{screen}\n").contains(text.trim_end_matches(' ')) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{text:?} does not come:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The prompt is back, and what is typed is shown.
    #[track_caller]
    fn is_usable(&self) {
        self.enter("echo status $?; stty -a | grep -o -- '[-]*echo '");
        let screen = self.shows("\necho");
        assert!(!screen.contains("-echo"), "{screen}");
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let mut tmux = command("tmux");
        let _ = run(tmux.arg("-S").arg(&self.socket).arg("kill-server"), PATIENCE);
    }
}

const PASSPHRASE: &str = "correct horse";

/// An ssh_config that logs in with a key that has a passphrase, to a server whose key is not known.
fn asking(home: &Home, sshd: &Sshd) -> PathBuf {
    let (key, config) = (home.path().join("key"), home.path().join("asking"));
    std::fs::copy(sshd.identity_file(), &key).expect("a file");
    let mut keygen = command("ssh-keygen");
    keygen.args(["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f"]).arg(&key);
    assert_eq!(run(&mut keygen, PATIENCE).code(), 0);
    let text = format!(
        "Host lab\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n UserKnownHostsFile {}\n \
         GlobalKnownHostsFile none\n StrictHostKeyChecking ask\n",
        sshd.port(),
        sshd.user(),
        key.display(),
        home.path().join("known").display(),
    );
    std::fs::write(&config, text).expect("a file");
    config
}

/// Logins that were begun and came to nothing.
fn given_up(sshd: &Sshd) -> usize {
    let log = sshd.log();
    [
        "Connection closed by authenticating user",
        "Failed password",
        "Connection reset by authenticating user",
    ]
    .iter()
    .map(|words| log.matches(words).count())
    .sum()
}

#[test]
fn warm_asks_and_then_nobody_is_asked_any_more() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    let Some(terminal) = Terminal::open(&home) else { return };
    let config = asking(&home, &sshd);
    terminal.enter(&format!("sshpool -F {} warm lab", config.display()));
    terminal.shows("(yes/no/[fingerprint])?");
    terminal.types(&["yes", "Enter"]);
    terminal.shows("Enter passphrase for key");
    terminal.types(&["-l", "--", "wrong"]);
    terminal.types(&["Enter"]);
    common::wait_for("another question", PATIENCE, || {
        terminal.screen().matches("Enter passphrase for key").count() == 2
    });
    terminal.types(&["-l", "--", PASSPHRASE]);
    terminal.types(&["Enter"]);
    let screen = terminal.shows("lab: connected in ");
    assert!(
        !screen.contains("wrong") && !screen.contains("horse"),
        "what was typed is shown:\n{screen}"
    );
    terminal.is_usable();

    // More commands than its sessions, at once: they queue for the connection that is there.
    let at_once: Vec<_> = (0..30)
        .map(|number| {
            let (home, config) = (&home, &config);
            move || {
                let words =
                    ["-F".into(), config.clone().into_os_string(), "exec".into(), "lab".into()];
                let mut command = home.command(words);
                run(command.arg(format!("sleep 0.1; echo {number}")), PATIENCE)
            }
        })
        .collect();
    std::thread::scope(|scope| {
        let running: Vec<_> = at_once.into_iter().map(|command| scope.spawn(command)).collect();
        for (number, running) in running.into_iter().enumerate() {
            let ended = running.join().expect("it does not panic");
            assert_eq!((&*ended.stdout, &*ended.stderr), (&*format!("{number}\n"), ""));
        }
    });
    assert_eq!((sshd.logins(), given_up(&sshd)), (1, 0), "{}", sshd.log());
    for directory in [home.place(), home.runtime()] {
        let mut grep = command("grep");
        let found = run(grep.args(["-r", PASSPHRASE]).arg(directory), PATIENCE);
        assert_eq!(found.stdout, "", "nothing that was typed is kept");
    }
}

#[test]
fn sudo_is_asked_for_once_for_all_hosts() {
    let Some(sshd) = crate::sudo::server("/bin/bash", crate::sudo::ALL) else { return };
    let home = Home::new();
    let Some(terminal) = Terminal::open(&home) else { return };
    let config = sshd.ssh_config();
    let twice = home.path().join("twice");
    let text = std::fs::read_to_string(&config).expect("the fixture has one");
    std::fs::write(&twice, text.replace("Host lab", "Host lab lab2")).expect("a file");
    let run = format!("sshpool -F {} run -w lab,lab2 -K -- id -u", twice.display());
    terminal.enter(&run);
    terminal.shows("sudo's password on the hosts:");
    terminal.types(&["-l", "--", crate::sudo::PASSWORD]);
    terminal.types(&["Enter"]);
    terminal.shows("lab: 0\n");
    let screen = terminal.shows("lab2: 0\n");
    assert!(!screen.contains("battery"), "what was typed is shown:\n{screen}");
    terminal.is_usable();
    // Ctrl-C at the question leaves the terminal as it was.
    terminal.enter(&run);
    terminal.shows("sudo's password on the hosts:");
    terminal.types(&["C-c"]);
    terminal.is_usable();
}

#[test]
fn an_answer_that_is_broken_off_leaves_the_terminal_as_it_was() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    let Some(terminal) = Terminal::open(&home) else { return };
    let config = asking(&home, &sshd);
    terminal.enter(&format!("sshpool -F {} warm lab; echo ended $?", config.display()));
    terminal.shows("(yes/no/[fingerprint])?");
    terminal.types(&["yes", "Enter"]);
    terminal.shows("Enter passphrase for key");
    terminal.types(&["-l", "--", "half a "]);
    terminal.types(&["C-c"]);
    terminal.is_usable();
    common::wait_for("the end of the login", PATIENCE, || home.count("ssh") == 0);
    assert_eq!(sshd.logins(), 0);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    let config = asking(&home, &sshd);
    std::fs::copy(sshd.known_hosts(), home.path().join("known")).expect("a file");
    let words = ["-F".into(), config.into_os_string(), "warm".into(), "lab".into()];
    let ended = run(&mut home.command(words), PATIENCE);
    assert_eq!(ended.code(), 255);
    assert!(
        ended.stderr.starts_with("sshpool: lab: cannot connect: authentication failed: "),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("`sshpool warm lab` on a terminal"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_status_is_watched_until_an_interrupt() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    let Some(terminal) = Terminal::open(&home) else { return };
    terminal.enter("sshpool status --watch=100ms");
    terminal.shows("no agent runs");
    home.exec(&sshd, "true");
    let screen = terminal.shows("lab:22");
    assert!(screen.contains("HOST") && screen.contains("SESSIONS"), "{screen}");
    terminal.types(&["C-c"]);
    terminal.is_usable();
}

#[test]
fn a_run_is_interrupted_once_and_twice() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    let Some(terminal) = Terminal::open(&home) else { return };
    let config = home.path().join("many");
    let text = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture's").replacen(
        "Host lab",
        "Host web*",
        1,
    );
    std::fs::write(&config, text).expect("a file");
    let run = format!("sshpool -F {} run -w 'web[1-3]' -t 0", config.display());
    // Others on this machine sleep as well.
    let sleep = format!("sleep 300.{}", std::process::id());
    terminal.enter(&format!("{run} -- 'echo here; test $$ = 0 || {sleep}'"));
    terminal.shows("web3: here");
    terminal.shows(" 0/3 ");
    terminal.types(&["C-c"]);
    let screen = terminal.shows("still running on 3: web[1-3]");
    assert!(!screen.contains("ended 1") && screen.contains("Ctrl-C again"), "{screen}");
    terminal.types(&["C-c"]);
    terminal.shows("3 of 3 failed: ended by Ctrl-C: web[1-3]");
    terminal.types(&["echo ended $?", "Enter"]);
    terminal.shows("ended 130");
    terminal.is_usable();
    common::wait_for("the end of the commands", PATIENCE, || {
        sshd.exec(&format!("ps ax -o args 2>/dev/null | grep -c '^{sleep}'")).stdout.trim() == "0"
    });
}
