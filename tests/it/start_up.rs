//! Many start-up files, and many commands behind each: what comes out is what comes out by plain
//! ssh on the same account. Other shells and accounts without a shell have theirs.
//!
//! dash and BusyBox ash have no part in this: what they read (`ENV`, `~/.profile`) only interactive
//! or login shells of theirs read, and sshd starts neither for a command.

use futures_util::StreamExt;
use rstest::rstest;
use sshpool::{Command, Host, Pool, PoolConfig};
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::plain::{Plain, Seen};
use crate::lab::pooled::{PATIENCE, config, host, pool};
use crate::lab::random::verdict::{difference, escaped};

/// A command as it is given to the pool and to plain ssh.
struct Request {
    text: String,
    input: Option<Vec<u8>>,
}

fn request(text: &str) -> Request {
    Request { text: text.to_owned(), input: None }
}

impl Request {
    fn pooled(&self, pool: &Pool, host: &Host) -> Command {
        let command = pool.shell(host, &*self.text);
        match &self.input {
            Some(input) => command.stdin(input.clone()),
            None => command,
        }
    }
}

/// How many are under way at once.
const WIDTH: usize = 6;

/// Runs them all both ways, through the pool in one go and streamed by turns.
async fn compare(
    shell: &str,
    what: &str,
    plain: &Plain,
    pool: &Pool,
    host: &Host,
    requests: &[Request],
) {
    let all = requests.iter().enumerate().map(|(number, request)| async move {
        let by_ssh =
            plain.run(&request.text, request.input.as_deref()).await.expect("plain ssh ends");
        let command = request.pooled(pool, host);
        let streamed = (number + what.len()).is_multiple_of(2);
        let ran = async {
            if streamed {
                command.spawn().await?.wait_with_output().await
            } else {
                command.output().await
            }
        };
        let ran = timeout(PATIENCE, ran).await.expect("it ends");
        let text = escaped(request.text.as_bytes());
        let pooled =
            ran.map(Seen::from).unwrap_or_else(|error| panic!("{shell}, {what}, {text}: {error}"));
        if let Some(different) = difference(shell, &by_ssh, &pooled) {
            panic!("{shell}, {what}, streamed: {streamed}: {text}\n{different}");
        }
    });
    futures_util::stream::iter(all).buffer_unordered(WIDTH).collect::<()>().await;
}

/// The defaults; every third time without sessions in standby.
fn settings(number: usize) -> PoolConfig {
    let mut settings = config();
    if number % 3 == 1 {
        settings.standby_sessions = 0;
    }
    settings
}

/// What is asked of a POSIX shell after its start-up file.
fn requests() -> Vec<Request> {
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut all = vec![
        request("echo out; echo err >&2; exit 3"),
        request("cat"),
        request(
            "printf '%s|' \"$0\" \"$#\" \"$PWD\" \"${own-unset}\" ~ globs/*\necho '\\'\nnosuch-program\n",
        ),
        request("env | grep -Ev '^(SSH_|SHLVL=|_=)' | sort"),
        request("greet you; salute; echo \"$own\""),
        request("false; echo on; echo \"${nosuch-}\""),
        request(
            "v='a:b c'; printf '<%s>' $v; echo a | { read x; echo \"$x\"; }; [ -t 0 ]; echo $?",
        ),
        request("kill -s KILL \"$$\""),
        request(")"),
        request(&format!("printf %s '{}' | wc -c", "long\n".repeat(2000))),
    ];
    for text in ["cat", "read x; printf '<%s>' \"$x\"; wc -c", "exit 4"] {
        all.push(Request { text: text.to_owned(), input: Some(bytes.clone()) });
    }
    all
}

/// What a start-up file may do, and a name for it.
type Start = (&'static str, &'static str);

const STARTS: &[Start] = &[
    ("nothing", ""),
    ("a line", "echo welcome"),
    ("no line", "printf 'no end'"),
    ("a line on stderr", "echo welcome >&2"),
    ("no line on stderr", "printf 'no end' >&2"),
    ("much on stdout", "yes noise | head -c 100001"),
    ("much on stderr", "yes noise | head -c 100001 >&2"),
    ("bytes", "printf 'a\\0b\\001\\002\\377\\033[1m'"),
    (
        "what looks like a marker",
        "printf '\\036RDY 1\\n\\036sshpool-0123456789abcdef 1\\nsshpool-echo\\n\\036'",
    ),
    ("time", "sleep 0.3"),
    (
        "functions",
        "greet() { echo \"hello $1\"; }; cd() { echo \"to $1\"; command cd \"$1\"; }; own=mine; export exported=too",
    ),
    ("an alias", "alias greet='echo aliased' ls='ls -l'"),
    ("set -u", "set -u"),
    ("set -e", "set -e"),
    ("set -f", "set -f"),
    ("set -a", "set -a; own=1"),
    ("set -C", "set -C"),
    ("IFS", "IFS=:"),
    ("a locale", "export LC_ALL=C.UTF-8"),
    ("a directory", "cd /tmp; umask 077"),
    ("a trap", "trap 'echo bye; echo bye >&2' EXIT"),
    ("one stream", "exec 2>&1"),
    ("other streams", "exec 3>&1 4</dev/null"),
    ("an end", "exit 7"),
    ("an end with words", "echo no entry; echo for you >&2; exit 255"),
    ("its own death", "kill -s KILL $$"),
    (
        "variables",
        "for v in a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G \\\n\
        cmd command line text script input REPLY _x _ OPTARG; do export \"$v=its $v\"; done",
    ),
    ("waiting in vain", "TMOUT=1"),
    ("a mistake", "nosuch-program; ("),
];

const OF_BASH: &[Start] = &[
    ("aliases", "shopt -s expand_aliases; alias greet='echo aliased' echo='echo and'"),
    ("pipefail", "set -o pipefail; shopt -s nullglob extglob"),
    ("POSIX mode", "set -o posix"),
    ("jobs", "set -m"),
    ("a fixed time", "readonly TMOUT=1"),
];

const OF_ZSH: &[Start] = &[
    // Without the second option zsh counts the lines of an `eval` with those around it.
    ("sh's ways", "emulate sh; setopt evallineno"),
    ("ksh's ways", "setopt ksharrays shwordsplit nonomatch"),
    (
        "odd options",
        "setopt extendedglob nullglob rcquotes interactivecomments nobareglobqual autocd",
    ),
    ("errors", "setopt errreturn pipefail"),
];

/// What stands between the pool and its shell.
const IN_THE_WAY: &[Start] = &[
    ("no input", "exec </dev/null"),
    ("all input read", "cat >/dev/null"),
    ("a line read", "read line"),
    ("another dd", "dd() { echo mine; }"),
    ("digits", "IFS=0123456789"),
];

#[rstest]
#[case::bash("/bin/bash", ".bashrc", OF_BASH)]
#[case::zsh("/bin/zsh", ".zshenv", OF_ZSH)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_files_have_their_say_as_with_plain_ssh(
    #[case] shell: &str,
    #[case] file: &str,
    #[case] more: &[Start],
) {
    are_as_with_plain_ssh(shell, file, &[STARTS, more].concat()).await;
}

#[rstest]
#[case::bash("/bin/bash", ".bashrc")]
#[case::zsh("/bin/zsh", ".zshenv")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_files_that_are_in_the_way_have_their_say(
    #[case] shell: &str,
    #[case] file: &str,
) {
    are_as_with_plain_ssh(shell, file, IN_THE_WAY).await;
}

async fn are_as_with_plain_ssh(shell: &str, file: &str, starts: &[Start]) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (plain, host) = (Plain::start(&sshd), host(&sshd));
    let made = sshd.exec("mkdir globs; touch globs/a globs/b");
    assert!(made.status.success(), "{made:?}");
    for (number, (what, text)) in starts.iter().enumerate() {
        let written = sshd.exec(&format!("cat >{file} <<'END OF FILE'\n{text}\nEND OF FILE"));
        assert!(written.status.success(), "{written:?}");
        let pool = pool(settings(number));
        compare(shell, what, &plain, &pool, &host, &requests()).await;
        pool.close().await;
    }
}

/// They get their commands as arguments, and nothing is compared that needs another shell.
#[rstest]
#[case::tcsh("/bin/tcsh", ".tcshrc")]
#[case::fish("/usr/bin/fish", ".config/fish/config.fish")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shells_of_another_kind_are_served_as_by_plain_ssh(
    #[case] shell: &str,
    #[case] file: &str,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (plain, host) = (Plain::start(&sshd), host(&sshd));
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut requests: Vec<_> = [
        "echo out; exit 3",
        "sh -c 'echo err >&2'",
        "cat",
        "printf '%s|' a 'b  c' \"d e\" f\\ g",
        "echo $HOME $own",
        "nosuch-program",
        "exit 255",
        "sh -c 'kill -s KILL $$'",
        "sh -c 'kill -s TERM $$'; echo on",
        "echo a | tr a b; false",
        "cd /nosuch",
        "(",
        "cd /tmp && pwd",
    ]
    .map(request)
    .into();
    requests.push(request(&format!("printf '%s' {} | wc -c", "word ".repeat(20_000))));
    for text in ["cat", "sh -c 'read x; wc -c'", "exit 4"] {
        requests.push(Request { text: text.to_owned(), input: Some(bytes.clone()) });
    }
    let starts = [
        ("nothing", ""),
        ("a line", "echo welcome; sh -c 'echo welcome >&2'"),
        ("no line", "printf 'no end'; sh -c 'printf end >&2'"),
        ("much", "yes noise | head -c 100001; sh -c 'yes noise | head -c 100001 >&2'"),
        ("variables", "setenv own mine"),
        ("time", "sleep 0.3"),
        ("an end", "exit 7"),
    ];
    for (number, (what, text)) in starts.into_iter().enumerate() {
        // Where two fish that start at once make their directory, one of them complains.
        let written = sshd
            .exec(&format!("mkdir -p $(dirname {file}) .local/share/fish; echo {text:?} >{file}"));
        assert!(written.status.success(), "{written:?}");
        let pool = pool(settings(number));
        compare(shell, what, &plain, &pool, &host, &requests).await;
        for word in ["it's", "$HOME", "a\\b", "!", "*", "ü", "\u{81}", "\u{1}", "~", "-n", "{a,b}"]
        {
            let printed =
                pool.command(&host, "/usr/bin/printf").args(["<%s>", word]).output().await;
            let printed = String::from_utf8_lossy(&printed.expect("it runs").stdout).into_owned();
            assert!(
                what == "an end" || printed.ends_with(&format!("<{word}>")),
                "{shell}, {word}: {printed}"
            );
        }
        pool.close().await;
    }
}

/// Nobody can log in to them, as it is said; what the pool says is what they say.
#[rstest]
#[case::nologin("/usr/sbin/nologin")]
#[case::false_("/bin/false")]
#[case::true_("/bin/true")]
#[case::a_program_for_files("/bin/cat")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_without_a_shell_say_what_they_say_to_plain_ssh(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (plain, host, pool) = (Plain::start(&sshd), host(&sshd), pool(config()));
    let input = Some(b"input".to_vec());
    let requests =
        [request("echo out; exit 3"), request("cat"), Request { text: "cat".to_owned(), input }];
    for _ in 0..5 {
        compare(shell, "no shell", &plain, &pool, &host, &requests).await;
    }
    assert!(sshd.logins() <= 1 + PoolConfig::default().max_connections);
    pool.close().await;
}
