//! Shell texts, drawn from a grammar.

use super::Random;
use super::snippets::{ENDS, HARMLESS, LINE_READERS, MISTAKES, NO_SYNTAX, READERS};
use super::words::{plain_line, quoted, single, word};

/// Input up to this length is read line by line too.
pub const SHORT_INPUT: usize = 4096;

/// What stands alone as a command. Its own `\n` are part of it.
struct Statement {
    text: String,
    /// Nothing else can stand behind it on its last line.
    line: bool,
}

/// A whole shell text. `input` is how much there is to be read; none where it stands in the input
/// itself, of which some shells read more than they need: what would be left for others is a matter
/// of chance.
pub fn script(random: &mut Random, input: Option<usize>) -> String {
    let mut text = random
        .pick(&["", "", "", "", "", "", " ", "\n", "\t\n\n", "# first\n", ":;", "\\\n"])
        .to_owned();
    let length = random.pick(&[0, 1, 1, 1, 2, 2, 3, 5, 8]);
    text.push_str(&sequence(random, input, 2, length));
    if random.chance(if length == 0 { 100 } else { 45 }) {
        if length > 0 {
            text.push('\n');
        }
        text.push_str(&end(random, input));
    }
    // A process id in what the shell then complains about would be another one each time.
    if text.contains("$$") || random.chance(80) {
        return text;
    }
    let trails = [
        "\n", "\n\n\n", " ", ";", " ;\n", "\\", "\\\n", "\\\\", " # last", "\n#", "\r", "\r\n",
        "\t", "\\ ",
    ];
    text.push_str(random.pick(&trails));
    // As it comes from a file of Windows.
    // Behind each word a \r keeps zsh from knowing `do` and `done`: the rest is the loop's then,
    // which may never end.
    let has_loop = ["while", "until"].iter().any(|word| text.contains(word));
    if random.chance(10) && !has_loop { text.replace('\n', "\r\n") } else { text }
}

fn end(random: &mut Random, input: Option<usize>) -> String {
    match random.up_to(0, 9) {
        0 => random.pick(NO_SYNTAX).to_owned(),
        1 => random.pick(MISTAKES).to_owned(),
        2..4 => reader(random, input),
        4 => statement(random, input, 1).text,
        _ => random.pick(ENDS).to_owned(),
    }
}

/// Statements one after another.
fn sequence(random: &mut Random, input: Option<usize>, depth: u32, length: usize) -> String {
    let mut text = String::new();
    for at in 0..length {
        let Statement { text: one, line } = statement(random, input, depth);
        text.push_str(&one);
        if line || at + 1 < length {
            text.push_str(if line {
                "\n"
            } else {
                random.pick(&["\n", "\n", "; ", ";", "\n\n \n", " ;\n\t", "\n# between\n"])
            });
        }
    }
    text
}

fn reader(random: &mut Random, input: Option<usize>) -> String {
    match input {
        None => print(random),
        Some(..=SHORT_INPUT) if random.chance(50) => random.pick(LINE_READERS).to_owned(),
        Some(_) => random.pick(READERS).to_owned(),
    }
}

/// `depth` is how deep it may still contain others.
fn statement(random: &mut Random, input: Option<usize>, depth: u32) -> Statement {
    let (mut text, mut line) = (String::new(), false);
    match random.up_to(0, if depth > 0 { 23 } else { 13 }) {
        0..5 => text = print(random),
        5 => {
            let (value, other) = (value(random), value(random));
            text =
                format!("v={value}; w=$v{other}; printf '<%s>' \"$v\" $v \"${{#w}}\" \"${{w#?}}\"");
        }
        6 => (text, line) = (here_document(random), true),
        7 => text = filtered(random),
        8 => text = reader(random, input),
        9 => {
            text.push_str(random.pick(MISTAKES));
        }
        10 => {
            text = format!("# {}", plain_line(random));
            line = true;
        }
        11 => {
            // A list that has drawn words.
            text = format!(
                "for i in {} {}; do printf '<%s>' \"$i\"; done",
                value(random),
                value(random)
            );
        }
        12 => {
            let value = value(random);
            text = format!("case {value} in {value}) echo same;; *) echo other;; esac");
        }
        13 => {
            text = format!(
                "set -- {} {}; printf '<%s>' \"$#\" \"$*\" \"$@\"; set --",
                value(random),
                value(random)
            );
        }
        14..16 => {
            text.push_str(random.pick(HARMLESS));
            // Some of them end in a comment.
            line = true;
        }
        16 => {
            let body = block(random, input, depth);
            text = random
                .pick(&["{\nBODY\n}", "(\nBODY\n)", "{\nBODY\n} 2>&1", "(BODY\n) | cat"])
                .replace("BODY", &body);
        }
        17 => {
            let body = block(random, input, depth);
            let frame = [
                "if true; then BODY\nfi",
                "if false\nthen :\nelse\nBODY\nfi",
                "for i in 1 2; do\nBODY\ndone",
                "once=; while [ -z \"$once\" ]; do\nonce=1\nBODY\ndone",
                "true && {\nBODY\n}",
                "false || {\nBODY\n}",
                "! {\nBODY\n}",
            ];
            text = random.pick(&frame).replace("BODY", &body);
        }
        18 => {
            let body = block(random, input, depth);
            text = format!(
                "f() {{\nprintf '<%s>' \"$#\" \"$1\" \"$*\"\n{body}\nreturn {}\n}}\n",
                random.up_to(0, 255)
            );
            text.push_str(&format!("f {} {}; echo $?", value(random), value(random)));
        }
        19 => {
            let inner = block(random, input, depth);
            text = format!("sh -c {} {} {}", quoted(&inner, random), value(random), value(random));
            text.push_str(random.pick(&[
                "",
                "; echo $?",
                " | cat",
                " && echo well",
                " || echo ill",
            ]));
        }
        20 => {
            let inner = block(random, input, depth);
            text = format!("eval {}", quoted(&inner, random));
        }
        21 => {
            let inner = print(random);
            text = format!("v=$({inner}\n); printf '<%s>' \"$v\" \"$({inner}\n)\"");
        }
        22 => {
            let body = block(random, Some(0), depth);
            text = format!("{{\n{body}\n}} & wait \"$!\"; echo $?");
        }
        _ => {
            let program = random.pick(&["sh", "sh -s a", "bash", "dash", "zsh"]);
            let body = block(random, None, depth);
            text = format!("printf %s {} | {program}; echo $?", single(&body));
        }
    }
    Statement { text, line }
}

fn block(random: &mut Random, input: Option<usize>, depth: u32) -> String {
    let length = random.up_to(1, 3);
    sequence(random, input, depth - 1, length)
}

fn value(random: &mut Random) -> String {
    let word = word(random);
    quoted(&word, random)
}

fn print(random: &mut Random) -> String {
    let words: Vec<String> = (0..random.up_to(0, 3)).map(|_| value(random)).collect();
    let words = words.join(" ");
    let frame = [
        "printf '<%s>' WORDS",
        "echo WORDS",
        "printf %s WORDS >&2",
        "printf '%s\\n' WORDS",
        "printf '%b' WORDS",
        "echo WORDS >&2",
    ];
    random.pick(&frame).replace("WORDS", &words)
}

/// What one command prints, and another one makes of it.
fn filtered(random: &mut Random) -> String {
    let filter = random.pick(&[
        "cat",
        "wc -c",
        "od -An -tx1",
        "tr a-z A-Z",
        "sort",
        "md5sum",
        "cat -A",
        "sed s/a/b/",
        "{ IFS= read -r x; printf '<%s>' \"$x\"; cat; }",
    ]);
    format!("printf %s {} | {filter}", value(random))
}

fn here_document(random: &mut Random) -> String {
    let lines: Vec<String> = (0..random.up_to(0, 4)).map(|_| plain_line(random)).collect();
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    match random.up_to(0, 3) {
        0 => format!("cat <<E\n{body}$HOME `echo a` $(echo b) \\$ \\\\ a\\\nb\nE"),
        1 => format!("cat <<-'E' | md5sum\n\t{body}\t\\ $HOME\n\tE"),
        2 => format!("cat <<E; cat <<'F G'\n{body}E\n{body}$HOME\nF G"),
        _ => format!("cat <<'E'\n{body}$HOME `echo a` $(echo b) \\\n\\\\\nE"),
    }
}
