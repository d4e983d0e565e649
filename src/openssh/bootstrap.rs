//! The bootstrap: how a command reaches a POSIX shell that is there already.
//!
//! A session is opened with the bootstrap as its command, and the real command is written to its
//! standard input as one line, with what the command is to read behind it. So the session can be
//! opened before the command is known, the command is in no process list, neither here nor there,
//! and as long as the server's memory has room for it, it may be of any length. The bootstrap takes
//! not a byte too many from the input. When it has the command it says so on the standard output,
//! with a marker that also carries the process group to signal; a command without a marker has not
//! begun.
//!
//! It works in sh, dash, bash, ksh, zsh and BusyBox ash, and in them the outcome is that of the
//! same command as an argument (test `random_commands_end_as_they_do_by_plain_ssh`), but for the
//! place that the shell names in its own messages, and for a last command that a signal kills:
//! plain shells put it in their place, so that ssh sees the signal, where here they tell 128 and
//! its number.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};

use super::lane;
use crate::transport::{self, Script};

/// What the readiness proof of an account prints that has any shell at all.
const WORD: &str = "sshpool-echo";
/// Up to here the shell's `read`, which takes byte after byte, is faster than a dd that has to be
/// started first (measured: 0.4 s and 0.02 s for a megabyte, break-even at some kilobytes).
const SHORT: usize = 4 * 1024;

/// What only this process knows: output that is not ours cannot be taken for the marker by chance,
/// nor input for a command.
static NONCE: LazyLock<String> =
    LazyLock::new(|| format!("sshpool-{:016x}", RandomState::new().hash_one(std::process::id())));

/// The command of a session that takes its real command from its input. No marker comes without a
/// POSIX shell: the others stumble over the first word. Nor does one where a start-up file has read
/// what was meant for us, and what comes is the command's input. Where the shell leads no process
/// group (Dropbear's do not) there is none to signal, and the marker has a 0.
pub(super) static BOOTSTRAP: LazyLock<String> = LazyLock::new(|| bootstrap(false));

/// The same, with the fast loop for lanes.
pub(super) static FAST_BOOTSTRAP: LazyLock<String> = LazyLock::new(|| bootstrap(true));

fn bootstrap(is_fast: bool) -> String {
    let nonce = NONCE.as_str();
    let mark = format!(
        "if kill -0 \"-$$\" 2>&-; then printf '\\036{nonce} %d\\n' \"$$\"; \
         else printf '\\036{nonce} 0\\n'; fi"
    );
    let lane = lane::lane(nonce, &mark, is_fast);
    format!(
        "IFS= read -r sshpool && case $sshpool in {nonce}-lane*) {lane} ;; \
         {nonce}*) {mark} && eval \"${{sshpool#{nonce}}}\" ;; *) exit 1 ;; esac"
    )
}

/// The command of the first session of a login, which finds out what an account is like. csh and
/// fish get as far as the word; the line that they do not understand is a string to them until
/// then. A POSIX shell goes on: it says that it is one, lists its traps, and ends both streams with
/// a sign. Then it waits for the text of the [`BOOTSTRAP`] and does what that says.
pub(super) fn probe() -> String {
    format!(
        "echo {WORD}; eval 'sshpool= && trap && printf \"\\036%s\\n\" {nonce} && \
         printf \"\\036%s\\n\" {nonce} >&2 && IFS= read -r sshpool && eval \"$sshpool\"'",
        nonce = *NONCE
    )
}

/// What ends both streams of a [`probe`] in a POSIX shell.
pub(super) fn probe_end() -> Vec<u8> {
    format!("\x1e{}\n", *NONCE).into_bytes()
}

/// Whether start-up files have left a shell as it was, as far as the answer to a [`probe`] tells:
/// they print nothing, leave the streams in their places, and set no trap.
pub(super) fn is_quiet(stdout: &[u8], stderr: &[u8]) -> bool {
    stdout.strip_prefix(format!("{WORD}\n").as_bytes()) == Some(&probe_end())
        && stderr == probe_end()
}

/// Whether a start-up file has the shell tell of each command that it runs (`set -x`, a trap on
/// DEBUG), as far as the answer to a [`probe`] tells.
pub(super) fn is_traced(stdout: &[u8], stderr: &[u8]) -> bool {
    let times_told =
        |said: &[u8]| said.windows(NONCE.len()).filter(|at| *at == NONCE.as_bytes()).count();
    // So every shell lists it.
    let traps = String::from_utf8_lossy(stdout);
    times_told(stdout) > 1
        || times_told(stderr) > 1
        || traps.lines().any(|line| line.ends_with(" DEBUG"))
}

/// What only this process knows.
pub(super) fn nonce() -> &'static str {
    NONCE.as_str()
}

pub(super) fn marker() -> Marker {
    marker_of(Group::default())
}

/// Of a command whose group is to be known by this.
pub(super) fn marker_of(group: Group) -> Marker {
    Marker { needle: format!("\x1e{} ", *NONCE).into_bytes(), searched: 0, found: false, group }
}

/// A command as the bootstrap reads it.
pub(super) fn line_of(script: &Script) -> &str {
    script.encoded(|text| line(text.as_bytes()))
}

/// The command that proves that a server runs commands, on every account that has a shell.
pub(super) fn echo() -> String {
    format!("echo {WORD}")
}

/// Whether what an account printed has the word in a line of its own.
pub(super) fn has_word(output: &[u8]) -> bool {
    String::from_utf8_lossy(output).lines().any(|line| line.trim() == WORD)
}

/// Looks for the marker in what a session writes, and takes it out.
#[derive(Debug)]
pub(crate) struct Marker {
    needle: Vec<u8>,
    /// So much of the output cannot contain the beginning of the marker.
    searched: usize,
    found: bool,
    group: Group,
}

/// The process group of a remote command, as far as it is known. Clones know the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Group(Arc<AtomicI32>);

impl Group {
    /// It is known that there is none.
    const NONE: i32 = -1;
    /// The command has ended.
    const GONE: i32 = -2;

    /// Of a command that no marker tells of.
    pub(super) fn none() -> Self {
        Group(Arc::new(AtomicI32::new(Self::NONE)))
    }

    /// What the marker said.
    fn learn(&self, group: i32) {
        self.0.store(if group > 1 { group } else { Self::NONE }, Ordering::Relaxed);
    }

    /// Another command is about to begin in the same session.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Nothing is left of it.
    pub(super) fn forget(&self) {
        self.0.store(Self::GONE, Ordering::Relaxed);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::GONE
    }

    /// There may be one, and the marker has not come yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    pub(super) fn known(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&group| group > 1)
    }

    pub(super) fn is(&self, other: &Group) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Marker {
    /// More than any has.
    pub(super) const LONGEST: usize = 64;

    /// The process group of the command, known once the marker was there.
    pub(super) fn group(&self) -> &Group {
        &self.group
    }
}

impl transport::Marker for Marker {
    fn take_from(&mut self, output: &mut Vec<u8>) -> bool {
        if self.found {
            return true;
        }
        while let Some(at) =
            find(&output[self.searched..], &self.needle).map(|at| at + self.searched)
        {
            let number = at + self.needle.len();
            let rest = &output[number..output.len().min(number + Self::LONGEST)];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                if rest.len() < Self::LONGEST {
                    self.searched = at;
                    return false;
                }
                // A line without an end is none of the bootstrap's, and is not kept until it has
                // one.
                self.searched = number;
                continue;
            };
            let group =
                std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse().ok());
            // Less would be a signal to more than the command; 0 says that there is none.
            if let Some(group) = group.filter(|&group| group >= 0) {
                self.group.learn(group);
                self.found = true;
                output.drain(at..=number + length);
                return true;
            }
            // A forced command that prints what it was asked to run.
            self.searched = number;
        }
        self.searched = output.len().saturating_sub(self.needle.len() - 1).max(self.searched);
        false
    }

    fn forget(&mut self) -> usize {
        std::mem::take(&mut self.searched)
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A command as the line that the bootstrap reads, its end included.
///
/// Printable text goes as it is. Everything else is encoded for `printf %b`, which every shell has
/// built in; the point at its end keeps the line breaks before it, which a command substitution
/// would take away.
fn line(command: &[u8]) -> String {
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    let text =
        str::from_utf8(command).ok().filter(|text| text.bytes().all(|byte| printable(&byte)));
    let line = if let Some(text) = text {
        format!("unset sshpool; {text}")
    } else {
        let mut line = String::with_capacity(command.len() * 2 + 64);
        line.push_str("sshpool=$(printf %b '");
        for &byte in command {
            if printable(&byte) && byte != b'\'' && byte != b'\\' {
                line.push(char::from(byte));
            } else {
                write!(line, "\\0{byte:03o}").expect("writing to a String cannot fail");
            }
        }
        line.push_str(".');eval \"unset sshpool; ${sshpool%.}\"");
        line
    };
    format!("{}{}", *NONCE, if line.len() <= SHORT { line + "\n" } else { long(&line) })
}

/// A line that reads the real one by dd, in one piece. Where dd does not know its options, or is
/// not there, it has read nothing, and `read` reads the same. A restricted shell opens no file for
/// what dd has to say. A line that was cut off on its way lacks its end, and is not run.
fn long(line: &str) -> String {
    const END: &str = "#sshpool";
    let length = line.len() + END.len() + 1;
    format!(
        "sshpool=$(case $- in (*r*) false ;; \
         (*) command dd bs={length} count=1 iflag=fullblock 2>/dev/null ;; esac || \
         {{ IFS= read -r sshpool && printf '%s\\n' \"$sshpool\"; }});\
         case $sshpool in *'{END}') eval \"${{sshpool%'{END}'}}\";; *) exit 1;; esac\n{line}{END}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Marker as _;
    use rstest::rstest;

    #[rstest]
    #[case::plain("echo 'a  b' \\ \"$x\" !", "unset sshpool; echo 'a  b' \\ \"$x\" !\n")]
    #[case::empty("", "unset sshpool; \n")]
    #[case::lines(
        "a\nb\n",
        "sshpool=$(printf %b 'a\\0012b\\0012.');eval \"unset sshpool; ${sshpool%.}\"\n"
    )]
    #[case::quote(
        "\t'\\",
        "sshpool=$(printf %b '\\0011\\0047\\0134.');eval \"unset sshpool; ${sshpool%.}\"\n"
    )]
    #[case::utf8(
        "é",
        "sshpool=$(printf %b '\\0303\\0251.');eval \"unset sshpool; ${sshpool%.}\"\n"
    )]
    #[case::b9_bytes(
        b"caf\xe9",
        "sshpool=$(printf %b 'caf\\0351.');eval \"unset sshpool; ${sshpool%.}\"\n"
    )]
    fn a_command_is_one_line(#[case] command: impl AsRef<[u8]>, #[case] expected: &str) {
        assert_eq!(line(command.as_ref()).strip_prefix(NONCE.as_str()), Some(expected));
    }

    #[test]
    fn a_long_command_says_its_length() {
        let text = line("x".repeat(SHORT).as_bytes());
        let (first, rest) = text.split_once('\n').expect("two lines");
        assert!(first.contains(&format!("bs={} ", rest.len())), "{first}");
        assert!(rest.starts_with("unset sshpool; xxx") && rest.ends_with("x#sshpool\n"));
        assert_eq!(line("x".repeat(SHORT - "unset sshpool; ".len()).as_bytes()).lines().count(), 1);
    }

    #[rstest]
    #[case::alone(&["M"], "", true)]
    #[case::with_output(&["Mout"], "out", true)]
    #[case::noise(&["noise\nno end", "M", "out"], "noise\nno endout", true)]
    #[case::noise_alone(&["noise"], "noise", false)]
    #[case::nothing(&[], "", false)]
    fn the_marker_is_taken_out(
        #[case] pieces: &[&str],
        #[case] expected: &str,
        #[case] there: bool,
    ) {
        let sign = format!("\x1e{} 4711\n", *NONCE);
        let whole = pieces.concat().replace('M', &sign).into_bytes();
        // In one piece, cut in two at every place, and byte by byte.
        let cuts = (0..=whole.len()).map(|cut| vec![whole[..cut].to_vec(), whole[cut..].to_vec()]);
        let bytes = whole.iter().map(|&byte| vec![byte]).collect();
        for cut in cuts.chain([bytes]) {
            let mut marker = marker();
            let mut output = Vec::new();
            for piece in cut {
                output.extend(piece);
                marker.take_from(&mut output);
            }
            assert_eq!(String::from_utf8_lossy(&output), expected);
            assert_eq!((marker.found, marker.group().known()), (there, there.then_some(4711)));
        }
    }

    #[test]
    fn a_marker_has_a_number() {
        let (mut output, mut marker) = (Vec::new(), marker());
        // What `echo` of some shells makes of the bootstrap.
        output.extend(format!("IFS= read && printf '\x1e{} %d\n", *NONCE).bytes());
        let before = output.clone();
        assert!(!marker.take_from(&mut output));
        output.extend(format!("' $$ && \x1e{} 12\n", *NONCE).bytes());
        assert!(marker.take_from(&mut output));
        assert_eq!(output, [&before[..], b"' $$ && "].concat());
    }

    #[test]
    fn another_marker_is_output() {
        let mut output = b"\x1esshpool-0123456789abcdef 1\n".to_vec();
        let before = output.clone();
        assert!(!marker().take_from(&mut output));
        assert_eq!(output, before);
    }

    #[test]
    fn the_word_stands_in_a_line_of_its_own() {
        assert!(has_word(b"motd\r\nsshpool-echo\r\nmore"));
        assert!(!has_word(b"usage: echo sshpool-echo"));
    }
}
