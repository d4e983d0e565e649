//! What an ssh command line says of its host, over what the settings say.
//!
//! For ssh the first value of an option wins, wherever on the line it stands: `-l`, `-o User=…` and
//! `user@` are one option to it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Reason;
use super::command_line::Opt;
use super::configuration;
use super::options::{self, Kind};
use super::paths::{absolute, absolute_all};
use crate::host::{Host, HostError};
use crate::openssh;

/// What the caller says of the host.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    user: Option<String>,
    port: Option<u16>,
    ssh_config: Option<OsString>,
    /// In the order in which they were given.
    options: Vec<(String, String)>,
    /// The patterns of `IgnoreUnknown`, and whether an option was said that only they allow.
    ignore_unknown: Option<String>,
    needs_ignore_unknown: bool,
    forwarding: Option<bool>,
    pub timeout: Option<Duration>,
    /// All options that were given, in small letters, be they understood or not.
    mentioned: Vec<String>,
}

impl Overrides {
    /// Takes an option of the command line. An error says why it is for plain ssh.
    pub(super) fn add(&mut self, given: &Opt) -> Result<(), Reason> {
        self.mentioned.extend(name_of(given));
        let plain = |why: &str| Err(why.to_owned());
        match given {
            Opt::Flag(letter) => match letter {
                b'4' => self.letter("addressfamily", "inet"),
                b'6' => self.letter("addressfamily", "inet6"),
                b'A' => self.forward(true),
                b'a' => self.forward(false),
                b'G' | b'V' => plain("it is only asked what ssh knows"),
                b'M' => plain("it is to be a master itself"),
                b'X' | b'Y' => plain("a shared connection forwards no X11"),
                b'f' => plain("it goes on in the background (-f)"),
                b'K' => self
                    .letter("gssapiauthentication", "yes")
                    .and_then(|()| self.letter("gssapidelegatecredentials", "yes")),
                b'k' => self.letter("gssapidelegatecredentials", "no"),
                // The client's own affair, that of its forwards, or no difference: -2 -C -N -T -g -n
                // -q -s -t -v -x -y
                _ => Ok(()),
            },
            Opt::Value(letter, value) => {
                let Some(text) = value.to_str() else { return plain("a value is not UTF-8") };
                match letter {
                    b'F' => {
                        // ssh takes the last one. What a shell has not expanded is no home
                        // directory to ssh.
                        self.ssh_config = Some(value.clone());
                        if text.starts_with('~') { plain("-F begins with ~") } else { Ok(()) }
                    }
                    b'B' => self.plain_word("bindinterface", text),
                    b'b' => self.plain_word("bindaddress", text),
                    b'c' => self.plain_word("ciphers", text),
                    b'J' => self.plain_word("proxyjump", text),
                    b'm' => self.plain_word("macs", text),
                    b'i' => self.identity_that_is_there(text),
                    b'l' => self.user(text),
                    b'p' => self.port(text),
                    b'o' => self.long_option(text),
                    b'I' => plain("the keys are in a PKCS#11 token (-I)"),
                    // The agent answers for its own connections.
                    b'O' if matches!(text, "check" | "stop" | "exit") => Ok(()),
                    b'O' => plain("it is about a master of ssh's own (-O)"),
                    b'Q' => plain("it is only asked what ssh knows"),
                    b'S' => plain("the control socket was named (-S)"),
                    b'w' => plain("a shared connection has no tunnel"),
                    // The client's own affair, or that of its forwards: -D -E -L -R -W -e
                    _ => Ok(()),
                }
            }
        }
    }

    fn long_option(&mut self, text: &str) -> Result<(), Reason> {
        let keyword = options::keyword(text);
        if options::kind_of_all(&keyword).is_some() {
            return Ok(());
        }
        let Some((option, value)) = options::read(text) else {
            // Whatever path that is: it is not the word `none`, which is simple.
            let is_path = keyword == "controlpath";
            return if is_path {
                Ok(())
            } else {
                Err(format!("-o {text:?} is not simple enough to be sure of it"))
            };
        };
        if !options::is_known(&option)
            && self
                .ignore_unknown
                .as_ref()
                .is_some_and(|patterns| options::is_ignored(patterns, &option))
        {
            // An ssh that does not know it passes over it, and one that does is to have it.
            if option == "usekeychain" {
                return Ok(());
            }
            self.needs_ignore_unknown = true;
            return self.option(&option, &value);
        }
        match options::kind(&option, &value) {
            Kind::Session | Kind::NoEffect => Ok(()),
            Kind::Connection => self.option(&option, &value),
            Kind::Files => {
                let value = absolute_all(&option, &value)?;
                self.option(&option, &value)
            }
            Kind::IgnoreUnknown => {
                self.ignore_unknown.get_or_insert(value);
                Ok(())
            }
            Kind::User => self.user(&value),
            Kind::Port => self.port(&value),
            Kind::IdentityFile => self.identity_file(&value),
            Kind::ConnectTimeout => {
                self.timeout = self.timeout.or(options::duration(&value));
                Ok(())
            }
            Kind::Forwarding => match &*value.to_ascii_lowercase() {
                "yes" | "true" => self.forward(true),
                "no" | "false" => self.forward(false),
                _ => Err("an agent is named that is to be forwarded".to_owned()),
            },
            Kind::Plain(why) => Err(format!("{why} (-o {option})")),
        }
    }

    fn user(&mut self, user: &str) -> Result<(), Reason> {
        self.user.get_or_insert_with(|| user.to_owned());
        Ok(())
    }

    fn port(&mut self, port: &str) -> Result<(), Reason> {
        let number = port
            .parse()
            .ok()
            .filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
        self.port.get_or_insert(number.ok_or_else(|| format!("the port is {port:?}"))?);
        Ok(())
    }

    /// An option of one word that has a letter.
    fn plain_word(&mut self, option: &str, value: &str) -> Result<(), Reason> {
        match options::read(&format!("{option}={value}")) {
            Some((_, read)) if read == value && !value.contains(char::is_whitespace) => {
                self.letter(option, value)
            }
            _ => Err(format!("{value:?} is not simple enough to be sure of it")),
        }
    }

    /// For `-i` ssh looks whether there is such a file, before it reads the `%` in it, and does
    /// without one that is not there.
    fn identity_that_is_there(&mut self, path: &str) -> Result<(), Reason> {
        let file = match path.strip_prefix('~') {
            None => PathBuf::from(path),
            Some(rest) => match (rest.strip_prefix('/'), openssh::config::home()) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => return Err(format!("whose home {path:?} is in is for ssh to find out")),
            },
        };
        if file.exists() { self.identity_file(path) } else { Ok(()) }
    }

    /// The agent is in another directory.
    fn identity_file(&mut self, path: &str) -> Result<(), Reason> {
        if path.is_empty()
            || path.contains(['"', '\\', '$', '#', '\''])
            || path.contains(char::is_control)
        {
            return Err(format!("the path {path:?} is not simple enough to be sure of it"));
        }
        let path = absolute("identityfile", path)?;
        self.options.push(("identityfile".to_owned(), format!("\"{path}\"")));
        Ok(())
    }

    /// A letter that says this option.
    fn letter(&mut self, option: &str, value: &str) -> Result<(), Reason> {
        if self.options.iter().any(|(said, before)| said == option && before != value) {
            // Some letters win over what came before them, and some do not.
            return Err(format!("{option} is said twice"));
        }
        self.option(option, value)
    }

    fn option(&mut self, option: &str, value: &str) -> Result<(), Reason> {
        let adds_up = options::ADD_UP.contains(&option);
        // The first one counts.
        if adds_up || self.options.iter().all(|(said, _)| said != option) {
            self.options.push((option.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    fn forward(&mut self, on: bool) -> Result<(), Reason> {
        match self.forwarding.replace(on) {
            Some(before) if before != on => {
                Err("the agent is to be forwarded and is not".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Reads `[user@]host` or `ssh://[user@]host[:port]`, and gives the name.
    pub(super) fn destination<'a>(&mut self, destination: &'a OsStr) -> Result<&'a str, Reason> {
        let text = destination.to_str().ok_or("the destination is not UTF-8")?;
        let (text, port) = match text.strip_prefix("ssh://") {
            None => (text, None),
            Some(rest) => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                if rest.contains(['/', '%', '[', ';', '?']) {
                    return Err("the destination is not simple enough to be sure of it".to_owned());
                }
                match rest.rsplit_once(':') {
                    Some((rest, port)) if !port.contains('@') => (rest, Some(port)),
                    _ => (rest, None),
                }
            }
        };
        let (user, name) = match text.rsplit_once('@') {
            Some((user, name)) => (Some(user), name),
            None => (None, text),
        };
        if let Some(user) = user {
            self.user(user)?;
        }
        if let Some(port) = port {
            self.port(port)?;
        }
        // Whether it is a name at all.
        Host::new(name).map_err(|error| error.to_string())?;
        Ok(name)
    }

    /// Has the caller's agent forwarded, where that was asked for.
    pub(super) fn forward_agent(&mut self, auth_sock: Option<&str>) -> Result<(), Reason> {
        let Some(path) = auth_sock.filter(|path| self.forwarding == Some(true) && !path.is_empty())
        else {
            return Ok(());
        };
        // Named, so that only those who forward the same agent share the connection.
        if !path.starts_with('/') || path.contains(['"', '\'', '\\', '#', '$', '%', ' ', '\t']) {
            return Err(format!("the path of the agent that is to be forwarded is {path:?}"));
        }
        self.option("forwardagent", path)
    }

    /// What is known of the host and the command line does not say.
    pub(super) fn additions(&self, known: &Host) -> Result<Host, HostError> {
        let says = |option: &str| {
            self.mentioned.iter().any(|mentioned| mentioned.eq_ignore_ascii_case(option))
        };
        // The first of these two keeps the other one out.
        let has_proxy = says("proxyjump") || says("proxycommand");
        let is_said = |option: &str| {
            says(option) || (has_proxy && option.to_ascii_lowercase().starts_with("proxy"))
        };
        let mut host = Host::new(known.name())?;
        if let Some(address) = known.get_address().filter(|_| !says("hostname")) {
            host = host.address(address)?;
        }
        if let Some(port) = known.get_port().filter(|_| self.port.is_none() && !says("port")) {
            host = host.port(port)?;
        }
        if let Some(user) = known.get_user().filter(|_| self.user.is_none() && !says("user")) {
            host = host.user(user)?;
        }
        if let Some(file) = known.get_config_file().filter(|_| self.ssh_config.is_none()) {
            host = host.config_file(file)?;
        }
        if let Some(file) = known.get_identity_file().filter(|_| !says("identityfile")) {
            host = host.identity_file(file)?;
        }
        for (key, value) in known.get_options().filter(|(key, _)| !is_said(key)) {
            host = host.option(key, value)?;
        }
        Ok(host)
    }

    /// Has the agent's ssh pass over what this one is to pass over, where that may make a
    /// difference: on the command line, or in the files.
    pub(super) fn pass_over_unknown(&mut self, known: &Host) {
        let Some(patterns) = self.ignore_unknown.take() else { return };
        let named = self.ssh_config.as_ref().map(Path::new).or(known.get_config_file());
        let passes_over =
            |option: &str| !options::is_known(option) && options::is_ignored(&patterns, option);
        if self.needs_ignore_unknown || configuration::may_mention(named, &passes_over) {
            // It counts for what stands behind it.
            self.options.insert(0, ("ignoreunknown".to_owned(), patterns));
        }
    }

    /// The host with all that the command line says.
    pub(super) fn applied_to(self, mut host: Host) -> Result<Host, HostError> {
        if let Some(port) = self.port {
            host = host.port(port)?;
        }
        if let Some(user) = self.user {
            host = host.user(user)?;
        }
        if let Some(file) = self.ssh_config {
            host = host.config_file(Path::new(&file))?;
        }
        self.options.into_iter().try_fold(host, |host, (key, value)| host.any_option(key, value))
    }
}

/// The name of an option that says something which the TOML file may say, too.
fn name_of(given: &Opt) -> Option<String> {
    let name = match given {
        Opt::Flag(b'4' | b'6') => "addressfamily",
        Opt::Flag(b'A' | b'a') => "forwardagent",
        Opt::Flag(b'C') => "compression",
        Opt::Flag(b'K') => "gssapiauthentication",
        Opt::Flag(b'k') => "gssapidelegatecredentials",
        Opt::Flag(b'X' | b'Y' | b'x') => "forwardx11",
        Opt::Value(b'B', _) => "bindinterface",
        Opt::Value(b'J', _) => "proxyjump",
        Opt::Value(b'b', _) => "bindaddress",
        Opt::Value(b'c', _) => "ciphers",
        Opt::Value(b'i', _) => "identityfile",
        Opt::Value(b'l', _) => "user",
        Opt::Value(b'm', _) => "macs",
        Opt::Value(b'p', _) => "port",
        Opt::Value(b'o', text) => {
            return Some(options::keyword(&text.to_string_lossy()));
        }
        _ => return None,
    };
    Some(name.to_owned())
}
