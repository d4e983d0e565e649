//! What a command line of ssh asks for: the host, as the agent has to be asked for it, so that
//! nobody's command runs as somebody else.
//!
//! For ssh the first value of an option wins, wherever on the line it stands: `-l`, `-o User=…` and
//! `user@` are one option to it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configuration;
use super::options::{self, Kind};
use super::words::{Given, Line};
use crate::host::{Host, HostError};
use crate::openssh;

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wish {
    /// The host that the agent is to be asked for, or why it is not to be asked.
    pub host: Result<Host, Why>,
    /// What the TOML file, or this program's own options, say of the host and the caller does not:
    /// plain ssh would not know it.
    pub own: Host,
    /// The `ConnectTimeout` that was given.
    pub timeout: Option<Duration>,
}

/// Why it is plain ssh that is wanted.
pub(super) type Why = String;

/// What the caller says of the host.
#[derive(Debug, Default)]
struct Said {
    user: Option<String>,
    port: Option<u16>,
    ssh_config: Option<OsString>,
    /// In the order in which they were given.
    options: Vec<(String, String)>,
    /// The patterns of `IgnoreUnknown`, and whether an option was said that only they allow.
    ignore_unknown: Option<String>,
    needs_ignore_unknown: bool,
    forwarding: Option<bool>,
    timeout: Option<Duration>,
    /// All options that have a say, in small letters, be they understood or not.
    heard: Vec<String>,
}

/// Understands a line. `known` gives the host of that name as the TOML file and the program's own
/// options have it; `auth_sock` is the agent with the caller's keys. An error is that the name is
/// none for a host; ssh is to say so.
pub(super) fn wish(
    line: &Line<'_>,
    known: impl FnOnce(&str) -> Result<Host, HostError>,
    auth_sock: Option<&str>,
) -> Result<Wish, Why> {
    let mut said = Said::default();
    // All is heard, also behind what is for plain ssh.
    let mut plain = None;
    let mut hear = |said: &mut Said, given: &[Given]| {
        for given in given {
            if let Err(why) = said.hear(given) {
                plain.get_or_insert(why);
            }
        }
    };
    let (before, behind) = line.given.split_at(line.before);
    hear(&mut said, before);
    let name = said.destination(line.destination)?;
    hear(&mut said, behind);
    let known = known(name).map_err(|error| error.to_string())?;
    let own = said.own(&known).map_err(|error| error.to_string())?;
    let timeout = said.timeout;
    let host = match plain {
        Some(why) => Err(why),
        None => said.forward_agent(auth_sock).and_then(|()| {
            said.pass_over_unknown(&own);
            said.over(own.clone()).map_err(|error| error.to_string())
        }),
    };
    Ok(Wish { host, own, timeout })
}

impl Said {
    fn hear(&mut self, given: &Given) -> Result<(), Why> {
        self.heard.extend(heard(given));
        let plain = |why: &str| Err(why.to_owned());
        match given {
            Given::Flag(letter) => match letter {
                b'4' => self.letter("addressfamily", "inet"),
                b'6' => self.letter("addressfamily", "inet6"),
                b'A' => self.forward(true),
                b'a' => self.forward(false),
                b'G' | b'V' => plain("it is only asked what ssh knows"),
                b'M' => plain("it is to be a master itself"),
                b'N' => plain("over a shared connection there is always a session (-N)"),
                b'X' | b'Y' => plain("a shared connection forwards no X11"),
                b'f' => plain("it goes on in the background (-f)"),
                b'K' => self
                    .letter("gssapiauthentication", "yes")
                    .and_then(|()| self.letter("gssapidelegatecredentials", "yes")),
                b'k' => self.letter("gssapidelegatecredentials", "no"),
                // The client's own affair, or no difference: -2 -C -T -g -n -q -s -t -v -x -y
                _ => Ok(()),
            },
            Given::Value(letter, value) => {
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
                    b'D' | b'L' | b'R' => {
                        plain("a forward would outlive this command on a shared connection")
                    }
                    b'I' => plain("the keys are in a PKCS#11 token (-I)"),
                    // The agent answers for its own connections.
                    b'O' if matches!(text, "check" | "stop" | "exit") => Ok(()),
                    b'O' => plain("it is about a master of ssh's own (-O)"),
                    b'Q' => plain("it is only asked what ssh knows"),
                    b'S' => plain("the control socket was named (-S)"),
                    b'w' => plain("a shared connection has no tunnel"),
                    // The client's own affair: -E -W -e
                    _ => Ok(()),
                }
            }
        }
    }

    fn long_option(&mut self, text: &str) -> Result<(), Why> {
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
                let value = files(&option, &value)?;
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
                self.timeout = self.timeout.or(seconds(&value));
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

    fn user(&mut self, user: &str) -> Result<(), Why> {
        self.user.get_or_insert_with(|| user.to_owned());
        Ok(())
    }

    fn port(&mut self, port: &str) -> Result<(), Why> {
        let number = port
            .parse()
            .ok()
            .filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()));
        self.port.get_or_insert(number.ok_or_else(|| format!("the port is {port:?}"))?);
        Ok(())
    }

    /// An option of one word that has a letter.
    fn plain_word(&mut self, option: &str, value: &str) -> Result<(), Why> {
        match options::read(&format!("{option}={value}")) {
            Some((_, read)) if read == value && !value.contains(char::is_whitespace) => {
                self.letter(option, value)
            }
            _ => Err(format!("{value:?} is not simple enough to be sure of it")),
        }
    }

    /// For `-i` ssh looks whether there is such a file, before it reads the `%` in it, and does
    /// without one that is not there.
    fn identity_that_is_there(&mut self, path: &str) -> Result<(), Why> {
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
    fn identity_file(&mut self, path: &str) -> Result<(), Why> {
        if path.is_empty()
            || path.contains(['"', '\\', '$', '#', '\''])
            || path.contains(char::is_control)
        {
            return Err(format!("the path {path:?} is not simple enough to be sure of it"));
        }
        let path = anywhere("identityfile", path)?;
        self.options.push(("identityfile".to_owned(), format!("\"{path}\"")));
        Ok(())
    }

    /// A letter that says this option.
    fn letter(&mut self, option: &str, value: &str) -> Result<(), Why> {
        if self.options.iter().any(|(said, before)| said == option && before != value) {
            // Some letters win over what came before them, and some do not.
            return Err(format!("{option} is said twice"));
        }
        self.option(option, value)
    }

    fn option(&mut self, option: &str, value: &str) -> Result<(), Why> {
        let adds_up = options::ADD_UP.contains(&option);
        // The first one counts.
        if adds_up || self.options.iter().all(|(said, _)| said != option) {
            self.options.push((option.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    fn forward(&mut self, on: bool) -> Result<(), Why> {
        match self.forwarding.replace(on) {
            Some(before) if before != on => {
                Err("the agent is to be forwarded and is not".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Reads `[user@]host` or `ssh://[user@]host[:port]`, and gives the name.
    fn destination<'a>(&mut self, destination: &'a OsStr) -> Result<&'a str, Why> {
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

    fn forward_agent(&mut self, auth_sock: Option<&str>) -> Result<(), Why> {
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

    /// What else is known of the host.
    fn own(&self, known: &Host) -> Result<Host, HostError> {
        let says = |option: &str| self.heard.iter().any(|heard| heard.eq_ignore_ascii_case(option));
        // The first of these two keeps the other one out.
        let has_proxy = says("proxyjump") || says("proxycommand");
        let is_said = |option: &str| {
            says(option) || (has_proxy && option.to_ascii_lowercase().starts_with("proxy"))
        };
        let mut own = Host::new(known.name())?;
        if let Some(address) = known.get_address().filter(|_| !says("hostname")) {
            own = own.address(address)?;
        }
        if let Some(port) = known.get_port().filter(|_| self.port.is_none() && !says("port")) {
            own = own.port(port)?;
        }
        if let Some(user) = known.get_user().filter(|_| self.user.is_none() && !says("user")) {
            own = own.user(user)?;
        }
        if let Some(file) = known.get_config_file().filter(|_| self.ssh_config.is_none()) {
            own = own.config_file(file)?;
        }
        if let Some(file) = known.get_identity_file().filter(|_| !says("identityfile")) {
            own = own.identity_file(file)?;
        }
        for (key, value) in known.get_options().filter(|(key, _)| !is_said(key)) {
            own = own.option(key, value)?;
        }
        Ok(own)
    }

    /// Has the agent's ssh pass over what this one is to pass over, where that may make a
    /// difference: on the command line, or in the files.
    fn pass_over_unknown(&mut self, known: &Host) {
        let Some(patterns) = self.ignore_unknown.take() else { return };
        let named = self.ssh_config.as_ref().map(Path::new).or(known.get_config_file());
        let passes_over =
            |option: &str| !options::is_known(option) && options::is_ignored(&patterns, option);
        if self.needs_ignore_unknown || configuration::may_mention(named, &passes_over) {
            // It counts for what stands behind it.
            self.options.insert(0, ("ignoreunknown".to_owned(), patterns));
        }
    }

    /// The host of which all is said.
    fn over(self, mut host: Host) -> Result<Host, HostError> {
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

/// The paths of an option, as whoever is in another directory has to name them.
fn files(option: &str, value: &str) -> Result<String, Why> {
    let paths =
        value.split_whitespace().map(|path| match options::is_the_same_anywhere(option, path) {
            true => Ok(path.to_owned()),
            false => anywhere(option, path).map(|path| format!("\"{path}\"")),
        });
    Ok(paths.collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// A path, as whoever is in another directory has to name it.
fn anywhere(option: &str, path: &str) -> Result<String, Why> {
    if options::is_the_same_anywhere(option, path) {
        return Ok(path.to_owned());
    }
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let here = std::env::current_dir().unwrap_or_default();
    // What stands before the path is a name and no pattern.
    if here.to_string_lossy().contains(['%', '"', '\\', '$', '#', '\'']) {
        return Err("the current directory has a name that ssh would not take as it is".to_owned());
    }
    Ok(absolute.to_str().ok_or("the current directory is not UTF-8")?.to_owned())
}

/// The name of an option that says something which the TOML file may say, too.
fn heard(given: &Given) -> Option<String> {
    let name = match given {
        Given::Flag(b'4' | b'6') => "addressfamily",
        Given::Flag(b'A' | b'a') => "forwardagent",
        Given::Flag(b'C') => "compression",
        Given::Flag(b'K') => "gssapiauthentication",
        Given::Flag(b'k') => "gssapidelegatecredentials",
        Given::Flag(b'X' | b'Y' | b'x') => "forwardx11",
        Given::Value(b'B', _) => "bindinterface",
        Given::Value(b'J', _) => "proxyjump",
        Given::Value(b'b', _) => "bindaddress",
        Given::Value(b'c', _) => "ciphers",
        Given::Value(b'i', _) => "identityfile",
        Given::Value(b'l', _) => "user",
        Given::Value(b'm', _) => "macs",
        Given::Value(b'p', _) => "port",
        Given::Value(b'o', text) => {
            return Some(options::keyword(&text.to_string_lossy()));
        }
        _ => return None,
    };
    Some(name.to_owned())
}

/// As ssh reads a time: seconds, or with a unit. `None` where there is no limit, or it is not read.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => (&text[..end], &text[end..]),
        None => (text, "s"),
    };
    let number: u64 = number.parse().ok().filter(|number| (1..100_000).contains(number))?;
    match unit {
        "s" | "S" => Some(Duration::from_secs(number)),
        "m" | "M" => Some(Duration::from_secs(60 * number)),
        "h" | "H" => Some(Duration::from_secs(3600 * number)),
        _ => None,
    }
}
