//! What a host is given in the place of a command that is to run by sudo.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Sudo;
use crate::command::escape::escape;

/// What root's shell does first: it says that the command begins, and whom to end it by. sudo and
/// what it starts have a process group of their own, or the session's shell has become sudo and
/// leads the group; any other group is not ours, and one process stands for the command. When the
/// shell has read a line it becomes the command's: who has given up meanwhile has run nothing.
const BEGIN: &str = "g=; if read -r g </proc/$$/stat; then g=${g##*) }; set -- \"$1\" $g; g=$4; \
                     else g=$(ps -o pgid= -p $$); fi 2>/dev/null; g=$((${g:-0})); \
                     case $g in $$ | $PPID) g=-$g ;; *) g=$$ ;; esac; \
                     printf '\\036%s %s\\n' \"$0\" \"$g\" >&2; read -r g || exit 1; unset g; \
                     exec /bin/sh -c \"$1\"";

/// Ends what the number stands for, as a command is ended without sudo, and waits until it is gone.
const END: &str = "ends() { i=0; while [ $i -lt 20 ]; do \
                   kill -s 0 -- \"$1\" 2>/dev/null || exit 0; \
                   sleep 0.1 || sleep 1; i=$((i+1)); done; }; \
                   kill -s TERM -- \"$1\" 2>/dev/null || exit 0; ends \"$1\"; \
                   kill -s KILL -- \"$1\" 2>/dev/null; ends \"$1\"";

/// The command of a shell that is kept: it runs one command after another, each in a shell of its
/// own and without input. Of its own input a turn takes the number of lines of a command, and then
/// them; when the command has ended, the word that stands before its status among its output; and
/// when nobody holds the command's streams any more, the word that ends both.
///
/// Each turn starts its processes ahead of the command. Descriptors 5 and 6 are the real stderr and
/// the way to the `cat` of stdout; the command has neither. Descriptor 7 is its stderr: what the
/// loop's shell has to say of its end is for nobody.
///
/// A shell that counts how deep it is counts one less beforehand: the command is not any deeper
/// than by a sudo of its own.
pub(super) const LOOP: &str = "b=$(printf '\\n_'); b=${b%_}; \
     case $( (exec /bin/sh -c 'echo \"${SHLVL-}\"'); : ) in \"${SHLVL-}\") ;; \
     *) SHLVL=$((SHLVL-1)) ;; esac; \
     while :; do { { { { { ( IFS= read -r n || exit 1; t=; \
     while [ \"$n\" -gt 0 ]; do IFS= read -r l || exit 1; t=$t$l$b; n=$((n-1)); done; \
     exec /bin/sh -c \"${t%?}\" </dev/null 2>&7 5>&- 6>&- 7>&- ); s=$?; \
     IFS= read -r n || exit 1; printf '\\036%s %d\\n' \"$n\" \"$s\"; } 7>&2 2>/dev/null; } >&6; \
     } 2>&1 | cat >&5 6>&-; } 5>&2 6>&1 | cat; }; \
     IFS= read -r n || exit 1; printf '\\036%s\\n' \"$n\"; printf '\\036%s\\n' \"$n\" >&2; done";

/// What sudo's question and the begin of a command are known by. Nobody knows them before.
pub(super) struct Signs {
    nonce: String,
}

impl Signs {
    pub(super) fn new() -> Self {
        Signs { nonce: format!("sshpool-sudo-{:016x}", RandomState::new().hash_one(0)) }
    }

    /// sudo's question, which may stand in more words (sudo-rs).
    pub(super) fn prompt(&self) -> String {
        format!("[{}]", self.nonce)
    }

    /// What stands before the number that the command is to be ended by, and a line break.
    pub(super) fn begin(&self) -> String {
        format!("\x1e{} ", self.nonce)
    }

    /// The text for the account's shell, for a text that the other user's /bin/sh is to run.
    pub(super) fn text(&self, sudo: &Sudo, text: &OsStr) -> OsString {
        let mut words: Vec<&[u8]> = Vec::new();
        let prompt = self.prompt();
        words.extend([&b"exec"[..], b"sudo", b"-k", b"-S", b"-p", prompt.as_bytes()]);
        if let Some(user) = &sudo.user {
            words.extend([&b"-u"[..], user.as_bytes()]);
        }
        let nonce = self.nonce.as_bytes();
        words.extend([&b"--"[..], b"/bin/sh", b"-c", BEGIN.as_bytes(), nonce, text.as_bytes()]);
        let mut line = Vec::new();
        for (place, word) in words.into_iter().enumerate() {
            if place > 0 {
                line.push(b' ');
            }
            escape(word, &mut line);
        }
        OsString::from_vec(line)
    }
}

/// The text that ends what a command's begin has named.
pub(super) fn end(number: &str) -> OsString {
    let mut text = b"set -- ".to_vec();
    escape(number.as_bytes(), &mut text);
    text.extend_from_slice(b"; ");
    text.extend_from_slice(END.as_bytes());
    OsString::from_vec(text)
}
