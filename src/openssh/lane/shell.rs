//! What runs on the server: the loops of the shells.
//!
//! The first line of a session is read by its shell ([`bootstrap`](crate::openssh::bootstrap)). If
//! it is the command of a lane, the shell goes on with a loop. Each turn of the loop starts a
//! subshell and what its output goes through, so that they are there when the next command comes.
//! The subshell reads the command, says that it begins, and runs it without input. The loop waits
//! for the end of the subshell and of its output, and only then reads the numbers that tell the
//! client of the end.
//!
//! A subshell that did not get its command leaves the line to the loop, which ends with a status
//! then: nothing has begun.

/// The loop of a shell that has `$sshpool` from the first line. `NONCE` stands for the process's
/// own word, `MARK` for the printing of the sign that a command has begun.
///
/// ksh has sessions of their own: the subshells of ksh93 are no processes, and what it says of a
/// mistake in a command is lost with the turn that the mistake ends. So have options that change
/// what the loop does, and traps that a start-up file has left.
pub(in crate::openssh) fn lane(nonce: &str, mark: &str, is_fast: bool) -> String {
    let bash = if is_fast { FAST } else { BASH };
    let loops = LANE.replace("@BASH@", bash).replace("@ANY@", ANY);
    loops.replace("MARK", mark).replace("NONCE", nonce)
}

/// At its beginning it tells on stderr where the output of start-up files ends.
///
/// Where a stream of the session is the command's own, the command gets it opened anew: what it
/// sets there (`O_NONBLOCK`) would hold for all later ones. Where that is not possible, as with
/// sockets, both go through a `cat`. Without one on the `PATH` there is no lane.
const LANE: &str = "printf '\\036NONCE\\n' >&2; case $-:${KSH_VERSION-}:${BASH_VERSION-} in \
     *[erux]*:*:* | *:?*:*) exit 1 ;; \
     *::[5-9].* | *::[1-9][0-9].*) type -P cat >/dev/null || exit 1; \
     case $(trap) in ?*) exit 1 ;; esac; \
     if { : >/proc/self/fd/7 >/proc/self/fd/8; } 7>&1 8>&2 2>/dev/null; then eval '@BASH@'; fi ;; \
     esac; \
     case ${ZSH_VERSION-} in ?*) eval '[[ ! -o errreturn ]]' || exit 1 ;; esac; \
     command -v cat >/dev/null || exit 1; @ANY@";

/// In every POSIX shell. Both streams go through a `cat` each.
///
/// Descriptors 5 and 6 are the real stderr and the way to the `cat` of stdout. The command has
/// neither. An inner group has the redirection of stdout, beside no pipe: zsh would write to both.
const ANY: &str = "while :; do \
     { { { { ( case $sshpool in \"\") IFS= read -r sshpool || exit 1 ;; esac; \
     case $sshpool in NONCE-lane*) ;; *) exit 1 ;; esac; \
     MARK; exec </dev/null 5>&- 6>&-; eval \"${sshpool#NONCE-lane}\" ); sshpool=$?; \
     IFS= read -r sshpool_n; \
     case $sshpool_n in s*) printf '\\036%s %d\\n' \"$sshpool_n\" \"$sshpool\" ;; esac; } >&6; \
     } 2>&1 | command cat >&5 6>&-; } 5>&2 6>&1 | command cat; }; \
     IFS= read -r sshpool_n || exit 1; case $sshpool_n in e*) ;; *) exit 1 ;; esac; \
     printf '\\036%s\\n' \"$sshpool_n\"; printf '\\036%s\\n' \"$sshpool_n\" >&2; \
     unset sshpool_n; sshpool=; done";

/// In bash, which gives each command a process group of its own. So the loop sees whether some of
/// it is left when the command has ended. Then it ends, too, with the command's status: the session
/// lasts until nobody holds its streams, as by plain ssh. Else nobody holds stderr, but for a
/// process that has left the group, and stdout alone goes through a `cat`.
///
/// Descriptors 6 and 9 are the real stdout and stdin, 7 is the way to the `cat`.
const BASH: &str = "exec 6>&1 9<&0; while :; do \
     exec 7> >(exec cat >&6 7>&- 9<&-); sshpool_c=$!; set -m; \
     ( set +m; exec 2>/proc/self/fd/2 || exit 1; \
     case $sshpool in \"\") IFS= read -r sshpool || exit 1 ;; esac; \
     case $sshpool in NONCE-lane*) ;; *) exit 1 ;; esac; \
     if kill -0 -- \"-$BASHPID\"; then printf \"\\036NONCE %d\\n\" \"$BASHPID\"; \
     else printf \"\\036NONCE 0\\n\"; fi 2>/dev/null >&6; \
     unset sshpool_c; exec </dev/null 6>&- 9<&-; eval \"${sshpool#NONCE-lane}\" \
     ) <&9 >&7 7>&- & sshpool=$!; set +m; exec 7>&-; \
     wait \"$sshpool\" 2>/dev/null; sshpool_s=$?; wait \"$sshpool_c\"; \
     IFS= read -r sshpool_n || exit 1; case $sshpool_n in s*) ;; *) exit 1 ;; esac; \
     printf \"\\036%s %d\\n\" \"$sshpool_n\" \"$sshpool_s\"; \
     if kill -0 -- \"-$sshpool\" 2>/dev/null; then exit \"$sshpool_s\"; fi; \
     IFS= read -r sshpool_n || exit 1; case $sshpool_n in e*) ;; *) exit 1 ;; esac; \
     printf \"\\036%s\\n\" \"$sshpool_n\"; printf \"\\036%s\\n\" \"$sshpool_n\" >&2; \
     unset sshpool_n sshpool_s; sshpool=; done";

/// The same in bash without a `cat`: the loop goes on when the command has ended and nothing is
/// left of its process group. What has left that and holds a stream is not seen.
///
/// Descriptor 9 is the real stdin.
const FAST: &str = "set -m; case $- in *m*) set +m ;; *) exit 1 ;; esac; \
     exec 9<&0; while :; do set -m; \
     ( set +m; exec >/proc/self/fd/1 2>/proc/self/fd/2 || exit 1; \
     case $sshpool in \"\") IFS= read -r sshpool || exit 1 ;; esac; \
     case $sshpool in NONCE-lane*) ;; *) exit 1 ;; esac; \
     if kill -0 -- \"-$BASHPID\"; then printf \"\\036NONCE %d\\n\" \"$BASHPID\"; \
     else exit 1; fi 2>/dev/null; \
     exec </dev/null 9<&-; eval \"${sshpool#NONCE-lane}\" \
     ) <&9 & sshpool=$!; set +m; \
     wait \"$sshpool\" 2>/dev/null; sshpool_s=$?; \
     IFS= read -r sshpool_n || exit 1; case $sshpool_n in s*) ;; *) exit 1 ;; esac; \
     IFS= read -r sshpool_e || exit 1; case $sshpool_e in e*) ;; *) exit 1 ;; esac; \
     printf \"\\036%s %d\\n\" \"$sshpool_n\" \"$sshpool_s\"; \
     if kill -0 -- \"-$sshpool\" 2>/dev/null; then exit \"$sshpool_s\"; fi; \
     printf \"\\036%s\\n\" \"$sshpool_e\"; printf \"\\036%s\\n\" \"$sshpool_e\" >&2; \
     unset sshpool_n sshpool_s sshpool_e; sshpool=; done";
