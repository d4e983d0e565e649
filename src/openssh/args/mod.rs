//! The command lines: the arguments of each kind of ssh process, and why it has them.
//!
//! A *master* holds the authenticated connection, a *session* runs one command over it, a *control*
//! call asks the master something. The first value that ssh sees for an option wins, and the
//! command line comes before every file: what stands here cannot be undone by a user's
//! configuration, and what must stay the user's choice does not stand here.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use super::ends;
use super::program::SshVersion;
use super::silent;
use super::trace::Trace;
use crate::host::{Host, Variables};
use crate::transport::Script;

/// What a session or control call names as its destination. It never goes there: the socket is all
/// it uses, and the name is one that cannot exist (RFC 6761), in case something goes wrong with
/// that.
const NOWHERE: &str = "sshpool.invalid";

/// The longest path that a master can bind. It first binds a temporary name, 17 bytes longer, and
/// `sun_path` ends with a NUL byte (108 bytes on Linux, 104 on macOS and the BSDs).
pub(super) const LONGEST_SOCKET: usize =
    if cfg!(target_os = "linux") { 108 - 1 - 17 } else { 104 - 1 - 17 };

/// A list of arguments that grows by options.
#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(mut self, flag: &str) -> Self {
        self.0.push(flag.into());
        self
    }

    fn pair(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.0.push(flag.into());
        self.0.push(value.into());
        self
    }

    fn option(self, key: &str, value: impl AsRef<OsStr>) -> Self {
        let mut text = OsString::from(key);
        text.push("=");
        text.push(value);
        self.pair("-o", text)
    }

    fn options(self, pairs: &[(&str, &str)]) -> Self {
        pairs.iter().fold(self, |args, (key, value)| args.option(key, value))
    }

    /// The destination. Nothing behind `--` can be taken for an option.
    fn destination(mut self, name: &str) -> Self {
        self.0.push("--".into());
        self.0.push(name.into());
        self
    }
}

/// ssh expands `%` in the paths that it is given as options; ours are meant as they are.
fn literal(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.extend(std::iter::repeat_n(byte, if byte == b'%' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

/// Where to, as whom and with which of the caller's options: shared by the master and by `ssh -G`.
fn host_args(args: Args, host: &Host, config_file: Option<&Path>) -> Args {
    let mut args = match config_file {
        Some(file) => args.pair("-F", file.as_os_str()),
        None => args,
    };
    if let Some(address) = host.get_address() {
        // The zone of an IPv6 address stands behind a `%`.
        let text = address.replace('%', "%%");
        // A `#` would begin a comment, and old clients end a value at a `=`. Quotes are in no
        // address.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
        args = args.option(
            "HostName",
            if text.chars().all(is_plain) { text } else { format!("\"{text}\"") },
        );
    }
    if let Some(port) = host.get_port() {
        args = args.pair("-p", port.to_string());
    }
    if let Some(user) = host.get_user() {
        args = args.pair("-l", user);
    }
    for (key, value) in host.get_options() {
        args = args.option(key, value);
    }
    if let Some(file) = host.get_identity_file() {
        // Without IdentitiesOnly the keys of an agent are offered first, and a server stops
        // listening after six. Not `-i`, which looks for the file before it has read `%%` as `%`.
        let mut quoted = OsString::from("\"");
        quoted.push(literal(file));
        quoted.push("\"");
        args = args.option("IdentityFile", quoted).option("IdentitiesOnly", "yes");
    }
    args
}

/// `ssh -G`: what the configuration says about this host. Connects to nothing.
pub(super) fn resolve(host: &Host, config_file: Option<&Path>) -> Vec<OsString> {
    host_args(Args::default().flag("-G").flag("-T"), host, config_file).destination(host.name()).0
}

/// The same words, for an ssh of this version. Without a command ssh would have nothing to do in
/// the background, and refuse to answer.
pub(super) fn in_the_foreground(
    mut arguments: Vec<OsString>,
    version: &SshVersion,
) -> Vec<OsString> {
    if version.at_least(8, 7) {
        arguments.splice(0..0, ["-o".into(), "ForkAfterAuthentication=no".into()]);
    }
    arguments
}

/// A jump host as an ssh_config names it: `[user@]host[:port]` or a URI.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hop<'a> {
    pub name: &'a str,
    pub user: Option<&'a str>,
    pub port: Option<&'a str>,
}

pub(super) fn hop(text: &str) -> Hop<'_> {
    let text = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (name, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => match rest.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (rest, None),
        },
    };
    Hop { name, user, port }
}

/// The same for a jump host, `[user@]host[:port]` or a URI, with the hops before it, as ssh starts
/// itself for it. Of the target's options only the configuration file counts for a hop.
pub(super) fn resolve_hop(
    text: &str,
    before: &[String],
    config_file: Option<&Path>,
) -> Vec<OsString> {
    let mut args = Args::default().flag("-G").flag("-T");
    if let Some(file) = config_file {
        args = args.pair("-F", file);
    }
    let Hop { name, user, port } = hop(text);
    if let Some(user) = user {
        args = args.pair("-l", user);
    }
    if let Some(port) = port {
        args = args.pair("-p", port);
    }
    if !before.is_empty() {
        args = args.pair("-J", before.join(","));
    }
    args.destination(name).0
}

/// The same, and on stderr which files were read.
pub(super) fn resolve_verbosely(host: &Host) -> Vec<OsString> {
    let args = Args::default().flag("-v").flag("-G").option("BatchMode", "yes");
    host_args(args, host, host.get_config_file()).destination(host.name()).0
}

/// How the system's configuration gets into another one.
#[derive(Clone, Copy)]
pub(super) enum System {
    Included,
    Copied,
}

/// What counts where the configuration says nothing of it: unknown host keys are accepted, and a
/// server that says nothing any more is noticed after 60 s even where no probe is made.
pub(super) const DEFAULTS: [(&str, &str); 3] = [
    ("StrictHostKeyChecking", "accept-new"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "3"),
];

/// An ssh_config that says what this one says, and last what counts where that says nothing. With
/// `last`, the defaults stand in a final block, as the configuration has such blocks, too.
///
/// A value in a file that the system's configuration includes by a relative path is not seen where
/// that has to be copied.
pub(super) fn config_with_defaults(
    config_file: Option<&Path>,
    system: System,
    last: bool,
) -> std::io::Result<Vec<u8>> {
    const SYSTEM: &str = "/etc/ssh/ssh_config";
    let mut config = match config_file {
        None => {
            let mut config = b"Include ~/.ssh/config\n".to_vec();
            match system {
                System::Included => {
                    config.extend_from_slice(format!("Include {SYSTEM}\n").as_bytes())
                }
                // One that is not there says nothing.
                System::Copied => config.extend(std::fs::read(SYSTEM).unwrap_or_default()),
            }
            config
        }
        Some(file) if file == Path::new("none") => Vec::new(),
        // Not included: ssh is stricter about the permissions of what is, and takes the path for a
        // pattern.
        Some(file) => std::fs::read(file)?,
    };
    config.extend_from_slice(if last { b"\nMatch final all\n" } else { b"\nHost *\n" });
    for (option, value) in DEFAULTS {
        config.extend_from_slice(format!("{option} {value}\n").as_bytes());
    }
    Ok(config)
}

/// Plain ssh with a login of its own, as a user without a pool would run it: what `sshpool bench`
/// compares with.
pub(super) fn login(host: &Host, verbose: bool, command: &str) -> Vec<OsString> {
    let args = if verbose { Args::default().flag("-v") } else { Args::default() };
    let args = args.flag("-T").options(&[
        ("BatchMode", "yes"),
        ("ControlMaster", "no"),
        ("ControlPath", "none"),
        ("RemoteCommand", "none"),
        ("ClearAllForwardings", "yes"),
    ]);
    let mut args = host_args(args, host, host.get_config_file()).destination(host.name()).0;
    args.push(command.into());
    args
}

/// The options of a host, for an ssh that another program calls.
pub(crate) fn of_host(host: &Host) -> Vec<OsString> {
    host_args(Args::default(), host, host.get_config_file()).0
}

/// Options that make an ssh that another program calls a client of a master, whatever its others.
/// Without the master it logs in by itself, and leaves no master of its own behind.
pub(crate) fn over(socket: &Path) -> Vec<OsString> {
    Args::default().pair("-S", literal(socket)).option("ControlMaster", "no").0
}

/// What a master's arguments depend on, beside its host.
pub(super) struct MasterPlan<'a> {
    pub socket: &'a Path,
    pub config_file: Option<&'a Path>,
    /// For each attempt to connect.
    pub connect_timeout: Duration,
    pub version: &'a SshVersion,
    /// What ssh runs to get to the host's port, in place of what the configuration says.
    pub proxy: Option<&'a OsStr>,
    /// Options that the configuration does not set.
    pub defaults: &'a [(&'static str, String)],
    /// ssh may ask the user.
    pub asks: bool,
    /// The level of its log.
    pub log_level: &'a str,
    /// It logs the ends of its sessions, too.
    pub tells_ends: bool,
}

pub(super) fn master(host: &Host, plan: &MasterPlan<'_>) -> Vec<OsString> {
    let mut args =
        Args::default().flag("-M").flag("-N").flag("-T").pair("-S", literal(plan.socket)).options(
            &[
                // It stays our child: its end, and the reason, are seen at once.
                ("ControlPersist", "no"),
                ("BatchMode", if plan.asks { "no" } else { "yes" }),
                // A shell for it, a forward, a local command or a tty is nothing a connection of
                // the pool should bring along.
                ("RemoteCommand", "none"),
                ("RequestTTY", "no"),
                ("PermitLocalCommand", "no"),
                ("ClearAllForwardings", "yes"),
                ("LogLevel", plan.log_level),
            ],
        );
    if plan.version.at_least(8, 7) {
        args = args.option("ForkAfterAuthentication", "no");
    }
    // Else it is logged as it is.
    if silent::is_told(plan.version) && plan.log_level != Trace::LOG_LEVEL {
        let ends = if plan.tells_ends { ends::LOG_VERBOSE } else { "" };
        args = args.option("LogVerbose", format!("{}{ends}", silent::LOG_VERBOSE));
    }
    if let Some(proxy) = plan.proxy {
        // Our proxy passes bytes, and no descriptor.
        args = args.option("ProxyCommand", proxy).option("ProxyUseFdpass", "no");
    }
    args = host_args(args, host, plan.config_file);
    // ssh counts in whole seconds and takes 0 for "no limit"; our own deadline is exact.
    let seconds = plan.connect_timeout.as_secs_f64().ceil().clamp(1.0, 86_400.0);
    args = args.option("ConnectTimeout", format!("{seconds:.0}"));
    for (option, value) in plan.defaults {
        args = args.option(option, value);
    }
    // Which variables are sent is up to the client of each session; a master passes on only those
    // that it may send itself.
    args.option("SendEnv", "*").destination(host.name()).0
}

/// A client of a master. It fails closed: without its master it does not log in by itself, which a
/// plain `ssh -S` would do, silently (test `a_session_never_logs_in_by_itself`). `-F none` keeps a
/// user's `Host *` out of it.
fn client(socket: &Path) -> Args {
    Args::default().pair("-F", "none").pair("-S", literal(socket)).options(&[
        ("ControlMaster", "no"),
        ("ProxyCommand", "false"),
        ("BatchMode", "yes"),
    ])
}

/// What ssh is to run to get to a host's port over the master of a hop: a shell command, with
/// tokens that ssh expands. None where these paths cannot be said in the same words to every shell.
pub(super) fn proxy(program: &Path, socket: &Path) -> Option<OsString> {
    let mut command = OsString::new();
    let mut words = vec![program.as_os_str().to_owned()];
    words.extend(client(socket).0);
    for word in words {
        // What csh, fish and POSIX shells all leave alone within single quotes.
        let has_meaning = |byte: &u8| b"'!\\".contains(byte) || byte.is_ascii_control();
        if word.as_bytes().iter().any(has_meaning) {
            return None;
        }
        command.push("'");
        command.push(literal(Path::new(&word)));
        command.push("' ");
    }
    command.push("-W '[%h]:%p' -- ");
    command.push(NOWHERE);
    Some(command)
}

/// A session that runs this command. `log` takes ssh's own messages, so that the remote's stderr
/// stays pure, and says afterwards how the session ended. It sends these variables, which it finds
/// in its environment.
pub(super) fn session(
    socket: &Path,
    log: &Path,
    script: &Script,
    variables: &Variables,
    forwards_agent: bool,
) -> Vec<OsString> {
    let mut args = client(socket).flag("-T").pair("-E", log).option("LogLevel", "DEBUG2");
    if script.is_subsystem() {
        args = args.flag("-s");
    }
    for name in variables.0.keys() {
        args = args.option("SendEnv", name);
    }
    if forwards_agent {
        args = args.option("ForwardAgent", "yes");
    }
    let mut args = args.destination(NOWHERE).0;
    args.push(script.text().into());
    args
}

/// `ssh -O forward` or `cancel`. What ssh would expand does not stand in a forward.
pub(super) fn forward(socket: &Path, operation: &str, flag: &str, argument: &str) -> Vec<OsString> {
    client(socket).pair("-O", operation).pair(flag, argument).destination(NOWHERE).0
}

/// `ssh -O check`, `stop` or `exit`.
pub(super) fn control(socket: &Path, operation: &str) -> Vec<OsString> {
    client(socket).pair("-O", operation).destination(NOWHERE).0
}
