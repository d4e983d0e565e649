//! Which commands a lane may run.

/// Whether a command cannot tell a lane from a shell of its own. What evaluates further text, asks
/// the shell about itself, or sends signals, could.
pub(in crate::openssh) fn is_suited(text: &[u8]) -> bool {
    /// Where they are the command, which is looked at generously.
    const COMMANDS: &[&str] = &[
        ".", "eval", "source", "exec", "trap", "set", "shopt", "setopt", "unsetopt", "emulate",
        "alias", "unalias", "jobs", "fg", "bg", "disown", "suspend", "times", "declare", "typeset",
        "history", "fc", "hash", "type", "enable", "kill", "pkill", "killall", "caller", "compgen",
        "complete", "bind", "logout", "getopts", "coproc", "return", "break", "continue",
        "function",
    ];
    const ANYWHERE: &[&str] = &[
        "BASHPID",
        "SECONDS",
        "RANDOM",
        "SRANDOM",
        "LINENO",
        "PPID",
        "SHLVL",
        "BASH_SUBSHELL",
        "BASH_COMMAND",
        "BASH_EXECUTION_STRING",
        "PIPESTATUS",
        "FUNCNAME",
        "EPOCHSECONDS",
        "EPOCHREALTIME",
        "self",
        "stdin",
        "sshpool",
        "sshpool_n",
        "sshpool_s",
        "sshpool_e",
    ];
    /// Behind them another command follows.
    const BEFORE: &[&str] = &[
        "if",
        "then",
        "else",
        "elif",
        "while",
        "until",
        "do",
        "time",
        "command",
        "builtin",
        "exec",
        "eval",
        "env",
        "sudo",
        "nice",
        "nohup",
        "xargs",
        "noglob",
        "nocorrect",
    ];
    /// Where they begin a `$(`, it is looked at no further.
    const RESERVED: &[&str] = &[
        "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac",
        "in", "select", "function", "time", "coproc",
    ];
    let Ok(text) = std::str::from_utf8(text) else { return false };
    // Some shells read a text line by line, and find a mistake only when they come to it.
    if text.contains(['\n', '\r', '\0', '`']) || text.contains("<<") || text.contains("()") {
        return false;
    }
    // `$(…)`, `$NAME` and `${NAME…}` are ordinary; `$$`, `$!`, `$-`, `$0`, `$_` and the like are
    // not. Nor is what makes a shell end with a status of its own (`${NAME?…}`).
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_special = |after: &str| {
        let (name, is_in_braces) = match after.strip_prefix('{') {
            Some(name) => (name, true),
            None => (after, false),
        };
        match name.chars().next() {
            Some('(') => is_in_braces || after.starts_with("(("),
            Some(first) if first.is_ascii_alphabetic() => {
                let behind = name.trim_start_matches(is_of_a_name);
                let behind = behind.strip_prefix(':').unwrap_or(behind);
                is_in_braces && !behind.starts_with(['}', '-', '+', '=', '#', '%'])
            }
            _ => true,
        }
    };
    if text.match_indices('$').any(|(at, _)| is_special(&text[at + 1..])) {
        return false;
    }
    // A mistake within one of them ends bash with a status that a subshell does not have.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:,@%+=- ".contains(c);
    let is_mistaken = |after: &str| {
        let inner = after.split_once(')').map_or("", |(inner, _)| inner);
        let first = inner.split_ascii_whitespace().next();
        !inner.chars().all(is_plain) || first.is_none_or(|word| RESERVED.contains(&word))
    };
    if text.match_indices("$(").any(|(at, _)| is_mistaken(&text[at + 2..])) {
        return false;
    }
    // Everything but a plain word before it, on the same side of all blanks, may be what a command
    // follows.
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || "_.-/:,@%+=".contains(c);
    let mut is_command = true;
    for part in text.split_inclusive(|c| !is_of_a_word(c)) {
        let word = part.trim_end_matches(|c| !is_of_a_word(c));
        let behind = &part[word.len()..];
        if !word.is_empty() {
            let name = word.rsplit('/').next().unwrap_or(word);
            let mut names = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if is_command && COMMANDS.contains(&name) || names.any(|name| ANYWHERE.contains(&name))
            {
                return false;
            }
            is_command = BEFORE.contains(&word) || word.contains('=');
        }
        is_command |= !matches!(behind, "" | " " | "\t");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("uptime -p", true)]
    #[case("docker compose -p shop ps --format json", true)]
    #[case("cd /srv && ls | sort -n; exit 3", true)]
    #[case("for i in 1 2; do echo \"$i\" ${HOME} $(date); done 2>&1", true)]
    #[case("docker exec db sh -c 'psql -c \"select 1\"'", true)]
    #[case("echo $$", false)]
    #[case("echo ${$}", false)]
    #[case("echo $!", false)]
    #[case("echo $0 $1", false)]
    #[case("echo $((RANDOM))", false)]
    #[case("echo $", false)]
    #[case("echo ${nosuch?a message}", false)]
    #[case("echo ${nosuch:?}", false)]
    #[case("echo ${nosuch!y}", false)]
    #[case("echo ${a:-b} ${a#b} ${a+x}", true)]
    #[case("echo `date`", false)]
    #[case("echo $(date +%s) \"$(cat /etc/hostname)\"", true)]
    #[case("echo $(;", false)]
    #[case("echo $(fi)", false)]
    #[case("echo $(date", false)]
    #[case("echo $(date; )", false)]
    #[case(". ./profile", false)]
    #[case("eval echo", false)]
    #[case("trap 'echo bye' EXIT", false)]
    #[case("kill 1", false)]
    #[case("f() { echo; }; f", false)]
    #[case("cat <<E", false)]
    #[case("echo one\necho two", false)]
    #[case("printf '%s\\n' a\\ b", true)]
    #[case("echo $'a'", false)]
    #[case("cat /proc/self/status", false)]
    #[case("docker exec web1 kill -HUP 1", true)]
    #[case("docker compose kill db", true)]
    #[case("sh -c 'kill 0'", false)]
    #[case("true;kill 0", false)]
    #[case("if true; then set -e; fi", false)]
    #[case("a=1 eval echo", false)]
    #[case("command . ./x", false)]
    #[case("/bin/kill 1", false)]
    #[case("( kill 0)", false)]
    #[case("systemctl status sshd.service", true)]
    fn what_could_tell_has_a_session_of_its_own(#[case] text: &str, #[case] suited: bool) {
        assert_eq!(is_suited(text.as_bytes()), suited);
        assert!(!is_suited(b"echo \xff"));
    }
}
