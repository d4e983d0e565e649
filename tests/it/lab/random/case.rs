//! One command: what is run, and how the pool and plain ssh are told.

use std::fmt::{self, Write};

use sshpool::{Command, Host, Pool, Stdin};

use super::Random;
use super::script::{SHORT_INPUT, script};
use super::snippets::SHELLS;
use super::verdict::escaped;
use super::words::{bytes, quoted, single, word};

#[derive(Clone)]
pub struct Case {
    pub deed: Deed,
    pub env: Vec<(String, String)>,
    pub directory: Option<String>,
    pub input: Option<Vec<u8>>,
    /// By the pool it is started, and its streams are read, in place of being run in one go.
    pub spawned: bool,
    /// A number that it appends to the file [`RAN`] first: whoever looks there sees how often it
    /// ran.
    pub mark: Option<usize>,
}

/// The marks of the commands that ran.
pub const RAN: &str = "/tmp/sshpool-ran";

#[derive(Clone)]
pub enum Deed {
    Shell(String),
    /// A program with its arguments.
    Program(Vec<String>),
}

/// So long that no command of these tests comes near what one argument can hold (128 KiB).
const LONGEST: usize = 127 * 1024;

const NAMES: &[&str] = &[
    "A", "a", "c", "C", "x", "_x", "IFS", "HOME", "LC_ALL", "REPLY", "PS4", "CMD", "cmd", "line",
    "V_1", "OPTIND",
];

const DIRECTORIES: &[&str] = &[
    "/",
    "globs",
    "globs/",
    ".",
    "..",
    "../lab",
    "/tmp",
    "a b",
    "it's",
    "$HOME",
    "~",
    "-dash",
    "new\nline",
    "*",
    "ü\u{81}",
    "!",
    "nosuch",
    "/nosuch",
    "no such\n",
    "/etc/passwd",
    "-",
    "--",
    "\u{1}",
];

/// The commands that make what the commands of the cases find.
pub fn surroundings() -> String {
    let mut text = format!(
        "set -e; cd; : >{RAN}; chmod 666 {RAN}; mkdir globs; cd globs; touch a b c '*' .d; cd .."
    );
    for directory in DIRECTORIES[7..16].iter() {
        write!(text, "; mkdir ./{}", single(directory)).expect("a String takes everything");
    }
    text
}

impl Case {
    pub fn draw(random: &mut Random, number: usize) -> Case {
        let input = random.chance(45).then(|| {
            let most =
                random.pick(&[1, 100, 100, SHORT_INPUT, SHORT_INPUT, SHORT_INPUT, 70_000, 1 << 20]);
            if random.chance(15) { Vec::new() } else { bytes(random, most) }
        });
        let mut case = Case {
            deed: Deed::Shell(String::new()),
            env: Vec::new(),
            directory: None,
            input,
            spawned: random.chance(25),
            mark: None,
        };
        match random.up_to(0, 19) {
            // Now and then one is killed, and one is large, whatever else is drawn.
            _ if number % 40 == 9 => {
                case.deed = Deed::Shell(large(random));
                return case;
            }
            _ if number % 40 == 7 => {
                case.deed = Deed::Shell("kill -s KILL \"$$\"".to_owned());
                return case;
            }
            0..12 => {
                case.deed =
                    Deed::Shell(script(random, Some(case.input.as_ref().map_or(0, Vec::len))))
            }
            12 => {
                case.deed = Deed::Shell(random.pick(SHELLS).to_owned());
                case.input = Some(script(random, None).into_bytes());
            }
            13 => {
                case.deed = Deed::Shell(large(random));
                return case;
            }
            _ => case.deed = program(random),
        }
        if random.chance(20) {
            for _ in 0..random.up_to(1, 3) {
                let name = if random.chance(70) {
                    random.pick(NAMES).to_owned()
                } else {
                    format!("v{number}")
                };
                case.env.push((name, word(random)));
            }
        }
        if random.chance(15) {
            let drawn =
                if random.chance(80) { random.pick(DIRECTORIES).to_owned() } else { word(random) };
            // A shell may take `+1` for a place on its stack of directories.
            case.directory = Some(drawn).filter(|name| !name.is_empty() && !name.starts_with('+'));
        }
        case.mark = random.chance(30).then_some(number);
        // An empty command is none: ssh would ask for a login shell. And what begins so is an
        // option for the shell.
        let words = |text: &str| !text.is_empty() && !text.starts_with(['-', '+']);
        match &mut case.deed {
            Deed::Shell(text) if case.mark.is_none() && !words(text) => text.insert_str(0, ": "),
            _ => {}
        }
        case
    }

    /// The shell text or words, with the mark.
    fn text(&self) -> String {
        let mark = self.mark.map(|number| format!("echo {number} >>{RAN}\n")).unwrap_or_default();
        match &self.deed {
            Deed::Shell(text) => mark + text,
            Deed::Program(words) => {
                mark + &words.iter().map(|word| single(word)).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// What a user of plain ssh would write.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        if let Some(directory) = &self.directory {
            let dot = if directory.starts_with('-') { "./" } else { "" };
            write!(text, "cd {} || exit; ", single(&format!("{dot}{directory}")))
                .expect("a String takes everything");
        }
        for (name, value) in &self.env {
            write!(text, "export {name}={}; ", single(value)).expect("a String takes everything");
        }
        text + &self.text()
    }

    pub fn pooled(&self, pool: &Pool, host: &Host) -> Command {
        let command = match &self.deed {
            Deed::Program(words) if self.mark.is_none() => {
                pool.command(host, &words[0]).args(&words[1..])
            }
            _ => pool.shell(host, self.text()),
        };
        let command = match &self.directory {
            Some(directory) => command.current_dir(directory),
            None => command,
        };
        let command = command.envs(self.env.iter().map(|(name, value)| (name, value)));
        match &self.input {
            Some(input) => command.stdin(input.clone()),
            None => command.stdin(Stdin::Empty),
        }
    }

    /// Cases that are a little less than this one, the smallest first.
    pub fn smaller(&self) -> Vec<Case> {
        let mut all = Vec::new();
        let mut but = |change: &dyn Fn(&mut Case)| {
            let mut case = self.clone();
            change(&mut case);
            all.push(case);
        };
        match &self.deed {
            Deed::Shell(text) => {
                for part in parts(text.chars().count()) {
                    let left = text
                        .chars()
                        .enumerate()
                        .filter(|(at, _)| !part.contains(at))
                        .map(|(_, c)| c);
                    let left: String = left.collect();
                    if !left.is_empty() && !left.starts_with(['-', '+']) {
                        but(&|case| case.deed = Deed::Shell(left.clone()));
                    }
                }
            }
            Deed::Program(words) => {
                for at in 1..words.len() {
                    but(&|case| {
                        let mut words = words.clone();
                        words.remove(at);
                        case.deed = Deed::Program(words);
                    });
                }
            }
        }
        for at in 0..self.env.len() {
            but(&|case| drop(case.env.remove(at)));
        }
        if self.directory.is_some() {
            but(&|case| case.directory = None);
        }
        if let Some(input) = &self.input {
            but(&|case| case.input = None);
            but(&|case| case.input = Some(input[..input.len() / 2].to_vec()));
            but(&|case| case.input = Some(input[input.len() / 2..].to_vec()));
        }
        if self.mark.is_some() {
            but(&|case| case.mark = None);
        }
        all
    }
}

/// Halves, quarters and so on, as long as there are not too many of them.
fn parts(length: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts = Vec::new();
    let mut size = length.div_ceil(2);
    while size > 0 && length / size <= 64 {
        parts.extend((0..length).step_by(size).map(|start| start..start + size));
        size /= 2;
    }
    parts
}

/// A text with something big in it.
fn large(random: &mut Random) -> String {
    let script = script(random, Some(0));
    let size = match random.up_to(0, 4) {
        0 => LONGEST,
        1 => 64 * 1024,
        2 => 4 * 1024,
        3 => random.up_to(1, 16 * 1024),
        _ => random.up_to(1, LONGEST),
    };
    let length = size.saturating_sub(script.len() + 100);
    let piece = random.pick(&["x", "word ", "line\n", "\n", "'\\''", "ü", "\u{81}", "*", "\t\\\\"]);
    let big = piece.repeat(length / piece.len());
    let frame = random.pick(&[
        ": 'BIG'\n",
        "printf %s 'BIG' | md5sum\n",
        "v='BIG'; echo \"${#v}\"\n",
        "cat <<'EOF' | md5sum\nBIG\nEOF\n",
        "f() {\n: 'BIG'\n}\nf\n",
    ]);
    let text =
        frame.replace("BIG", if frame.contains("EOF") { big.trim_matches('\'') } else { &big });
    if random.chance(50) { text + &script } else { script + "\n" + &text }
}

fn program(random: &mut Random) -> Deed {
    let fixed = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut words = fixed(random.pick(&[
        &["printf", "<%s>"] as &[&str],
        &["printf", "<%s>"],
        &["/usr/bin/printf", "<%s>"],
        &["/usr/bin/printf", "<%s>"],
        &["echo"],
        &["/bin/echo", "-e"],
        &["printenv", "a"],
        &["cat", "-A", "-"],
        &["wc", "-c"],
        &["md5sum"],
        &["od", "-An", "-tx1"],
        &["expr", "length"],
        &["test"],
        &["ls", "-d", "--"],
        &["nosuch-program"],
        &["/etc"],
        &["it's"],
        &["no such\nprogram"],
        &["exit"],
        &["cd", "--"],
        &["eval"],
        &["env", "printf", "<%s>"],
        &["sh", "-c", "printf '<%s>' \"$0\" \"$@\"; exit 3"],
        &["sh", "-c", "kill -s KILL $$"],
        &["bash", "-c", "echo $BASH_EXECUTION_STRING; cat", "b"],
    ]));
    let takes_any = !matches!(
        &*words[0],
        "eval" | "exit" | "wc" | "md5sum" | "od" | "cat" | "printenv" | "expr" | "cd"
    );
    for _ in 0..if takes_any { random.pick(&[0, 1, 2, 3, 10]) } else { 0 } {
        words.push(word(random));
    }
    match &*words[0] {
        "eval" | "exit" | "cd" => words.push(random.pick(&["7", "echo on", ".", ""]).to_owned()),
        "expr" => words.push("word".to_owned()),
        _ => {}
    }
    if words[0] == "sh" && random.chance(10) {
        let inner = script(random, Some(0));
        words[2] = format!("eval {}", quoted(&inner, random));
    }
    Deed::Program(words)
}

/// Escaped, so that every byte is seen, and what is long is only hinted at.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.deed {
            Deed::Shell(text) => {
                write!(f, "shell text ({} bytes): {}", text.len(), escaped(text.as_bytes()))?
            }
            Deed::Program(words) => write!(f, "program: {words:?}")?,
        }
        write!(f, "\nenvironment: {:?}, directory: {:?}", self.env, self.directory)?;
        match &self.input {
            Some(input) => write!(f, "\ninput ({} bytes): {}", input.len(), escaped(input)),
            None => write!(f, "\nno input"),
        }
    }
}
