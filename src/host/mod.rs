//! Where to connect, and as whom.
//!
//! A [`Host`] can only be made of values that ssh and a shell cannot take for something else: what
//! looks like an option, like shell text or like one of the pool's own settings is refused here,
//! before any process is started. Two hosts share connections only when they say the same about
//! everything that decides whose account a command runs in.

pub(crate) mod place;
#[cfg(test)]
mod properties;
pub(crate) mod set;

use std::any::Any;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use place::{Place, Sharing};

/// A machine to run commands on. The name is looked up in the user's ssh_config, as with `ssh
/// NAME`; everything else is optional and wins over what stands there.
///
/// ```
/// use sshpool::Host;
///
/// let web1 = Host::new("web1")?.address("10.0.0.7")?.user("deploy")?.port(2222)?;
/// assert_eq!(web1.key().to_string(), "web1:2222");
///
/// let same: Host = "deploy@web1:2222".parse()?;
/// assert_eq!(same.key(), web1.key());
/// # Ok::<(), sshpool::HostError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    identity: HostIdentity,
    address: Option<String>,
    login: Login,
}

/// How it is logged in, and for whom. What of it connections are shared by is in the
/// [`HostIdentity`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// Where the caller stands; by default where this process does.
    pub place: Option<Arc<Place>>,
    /// How it goes, once ssh was asked.
    pub route: Option<Route>,
    /// The program that asks somebody, and what it has to know in its environment. By default
    /// nobody is asked.
    pub askpass: Option<Arc<Askpass>>,
    /// How long it may take instead of `connect_timeout`: people are slow, and so is what the
    /// user's `ConnectTimeout` allows for.
    pub limit: Option<Duration>,
    /// Where it goes, once ssh was asked. Failed logins are counted by it.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The variables that the caller's sessions send to the server.
    pub variables: Arc<Variables>,
}

/// How a host is reached from its caller's place.
pub(crate) struct Resolved {
    /// What else a login depends on.
    pub sharing: Sharing,
    pub endpoint: Arc<Endpoint>,
    pub variables: Arc<Variables>,
    /// How long a login may take, where that is not `connect_timeout`.
    pub limit: Option<Duration>,
    pub route: Route,
}

/// What the mechanism that makes connections has worked out for a login. Nobody else looks inside.
#[derive(Clone)]
pub(crate) struct Route(Arc<dyn Any + Send + Sync>);

impl Route {
    pub(crate) fn new<R: Any + Send + Sync>(route: Arc<R>) -> Self {
        Route(route)
    }

    /// `None` for the route of another mechanism.
    pub(crate) fn get<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

/// Two are the same when they were worked out together.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Route {}

/// The account that a login is refused or accepted at, whatever alias or place it was named from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub user: String,
    pub address: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.contains(':') {
            true => write!(f, "{}@[{}]:{}", self.user, self.address, self.port),
            false => write!(f, "{}@{}:{}", self.user, self.address, self.port),
        }
    }
}

/// The variables that a session sends to the server, and with which values: what `SendEnv` matches
/// of the caller's environment. A session that was opened with some is of use only to a caller with
/// the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Variables(pub std::collections::BTreeMap<OsString, OsString>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Askpass {
    pub program: PathBuf,
    pub environment: Vec<(&'static str, OsString)>,
    /// Somebody was asked something.
    pub asked: Asked,
}

/// Set once. Two are the same when setting one sets the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Asked {}

impl Login {
    /// A login like this one cannot be made without somebody there.
    pub(crate) fn has_asked(&self) -> bool {
        self.askpass.as_ref().is_some_and(|askpass| askpass.asked.0.load(Ordering::Relaxed))
    }
}

/// What two hosts must have in common to share connections. The address is not part of it: the
/// first one's counts until its connections are closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostIdentity {
    name: String,
    port: Option<u16>,
    user: Option<String>,
    identity_file: Option<PathBuf>,
    config_file: Option<PathBuf>,
    options: Vec<(String, String)>,
    /// What else a login depends on, in the caller's place.
    sharing: Sharing,
}

/// What a host's connections are filed under in messages and statistics: `name:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    name: String,
    port: u16,
}

/// A value that a host cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {reason}")]
pub struct HostError {
    what: &'static str,
    value: String,
    reason: String,
}

/// Options that decide how a connection of the pool works. ssh takes the first value that it sees,
/// so they would have no effect or break the pool.
const POOLS_OWN: &[&str] = &[
    "BatchMode",
    "ClearAllForwardings",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
    "ForkAfterAuthentication",
    "LocalCommand",
    "LogLevel",
    "PermitLocalCommand",
    "RemoteCommand",
    "RequestTTY",
    "SessionType",
    "StdinNull",
];

/// Options that have a setter of their own, which the pool has to know about.
const HAS_SETTER: &[(&str, &str)] = &[
    ("HostName", "address"),
    ("IdentityFile", "identity_file"),
    ("Port", "port"),
    ("User", "user"),
];

/// The longest name of a host, in bytes: no resolver takes more (NI_MAXHOST).
const LONGEST_NAME: usize = 1024;
/// The longest user, in bytes. Bastions have whole targets and tokens in it.
const LONGEST_USER: usize = 4096;
/// What a shell takes for more than a letter, as ssh itself counts: it refuses these in the names
/// of its command line.
const SHELL_TEXT: &str = "'`\"$\\;&<>|(){}";
/// How the address of a URI begins.
const URI: &str = "ssh://";

impl Host {
    /// A host by its name: an alias of the ssh_config, a domain name, or an IP address.
    ///
    /// # Errors
    ///
    /// A name is what ssh takes for one on its command line: anything that is no option (`-` at its
    /// beginning) and no shell text (quotes, `` ` ``, `$`, `\`, `;`, `&`, `<`, `>`, `|`, brackets
    /// other than `[]`), has no blanks and no control characters. An `@` ends a user, and is in no
    /// name.
    pub fn new(name: impl Into<String>) -> Result<Self, HostError> {
        let name = name.into();
        check_name("host name", &name)?;
        let identity = HostIdentity {
            name,
            port: None,
            user: None,
            identity_file: None,
            config_file: None,
            options: Vec::new(),
            sharing: Sharing::default(),
        };
        Ok(Host { identity, address: None, login: Login::default() })
    }

    /// Where to connect to, when that is not the name: a domain name or an IP address. By default
    /// what the ssh_config says, or the name.
    ///
    /// # Errors
    ///
    /// As [`Host::new`].
    pub fn address(mut self, address: impl Into<String>) -> Result<Self, HostError> {
        let address = address.into();
        check_name("address", &address)?;
        self.address = Some(address);
        Ok(self)
    }

    /// The port, 1 to 65535. By default what the ssh_config says, or 22.
    ///
    /// # Errors
    ///
    /// 0 is not a port.
    pub fn port(mut self, port: u16) -> Result<Self, HostError> {
        if port == 0 {
            return Err(HostError::new("port", "0", "expected a number from 1 to 65535"));
        }
        self.identity.port = Some(port);
        Ok(self)
    }

    /// The account to log in to. By default what the ssh_config says, or the local user's name.
    ///
    /// # Errors
    ///
    /// A user is what ssh takes for one on its command line: no option (`-` at its beginning or
    /// behind a blank) and no shell text (quotes, `` ` ``, `;`, `&`, `<`, `>`, `|`, brackets other
    /// than `[]`), without control characters. A `\` is not its last character (`DOMAIN\user` is
    /// right), and a `$` is nowhere else (the account of a Windows machine ends with one).
    pub fn user(mut self, user: impl Into<String>) -> Result<Self, HostError> {
        let user = user.into();
        check_user(&user)?;
        self.identity.user = Some(user);
        Ok(self)
    }

    /// The private key to log in with. It is offered before those that the ssh_config names, and an
    /// agent's other keys are not offered at all. A leading `~/` is the home directory. Whether the
    /// file is there is looked at when a connection is made.
    ///
    /// # Errors
    ///
    /// An empty path, one that starts with `-`, or one with control characters.
    pub fn identity_file(mut self, path: impl Into<PathBuf>) -> Result<Self, HostError> {
        self.identity.identity_file = Some(check_path("identity file", path.into())?);
        Ok(self)
    }

    /// The ssh_config to use instead of the user's and the system's, as `ssh -F`. A leading `~/` is
    /// the home directory.
    ///
    /// # Errors
    ///
    /// As [`identity_file`](Self::identity_file).
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Result<Self, HostError> {
        self.identity.config_file = Some(check_path("ssh_config file", path.into())?);
        Ok(self)
    }

    /// One more option of `ssh_config(5)`, such as `("ProxyJump", "bastion")`. It wins over the
    /// file; ssh itself says whether it knows it, when a connection is made.
    ///
    /// # Errors
    ///
    /// An option that decides how the pool's connections work (`ControlPath`, say) or that has a
    /// setter here, a key that is not made of letters and digits, a value that is empty or has
    /// control characters.
    pub fn option(
        self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, HostError> {
        let key = key.into();
        if let Some((_, setter)) =
            HAS_SETTER.iter().find(|(option, _)| option.eq_ignore_ascii_case(&key))
        {
            return Err(HostError::new("ssh option", &key, format!("say it with `{setter}`")));
        }
        self.any_option(key, value.into())
    }

    /// The same, also for options that have a setter. What is said so has ssh's own meaning (an
    /// `IdentityFile` is one key among others), and is part of what connections are shared by, the
    /// address (`HostName`) too.
    pub(crate) fn any_option(mut self, key: String, value: String) -> Result<Self, HostError> {
        let wrong = |reason: String| Err(HostError::new("ssh option", &key, reason));
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return wrong(
                "expected the name of an option of ssh_config, such as \"ProxyJump\"".to_owned(),
            );
        }
        if POOLS_OWN.iter().any(|own| own.eq_ignore_ascii_case(&key)) {
            return wrong("the pool itself decides about it".to_owned());
        }
        if value.trim().is_empty() || value.contains(char::is_control) {
            return wrong(format!("its value {value:?} is empty or has control characters"));
        }
        self.identity.options.push((key, value));
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its address, if one was set.
    pub fn get_address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Its port, if one was set.
    pub fn get_port(&self) -> Option<u16> {
        self.identity.port
    }

    /// Its user, if one was set.
    pub fn get_user(&self) -> Option<&str> {
        self.identity.user.as_deref()
    }

    /// Its identity file, if one was set.
    pub fn get_identity_file(&self) -> Option<&Path> {
        self.identity.identity_file.as_deref()
    }

    /// Its ssh_config file, if one was set.
    pub fn get_config_file(&self) -> Option<&Path> {
        self.identity.config_file.as_deref()
    }

    /// Its further options, in the order in which they were set.
    pub fn get_options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.identity.options.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What its connections are filed under.
    pub fn key(&self) -> PoolKey {
        PoolKey { name: self.identity.name.clone(), port: self.identity.port.unwrap_or(22) }
    }

    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    pub(crate) fn with_login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    /// The same host, without an address of its own: connections are shared whatever it is.
    pub(crate) fn without_address(&self) -> Self {
        Host { address: None, ..self.clone() }
    }

    /// The same host, as it is reached from the caller's place.
    pub(crate) fn resolved(mut self, resolved: Resolved) -> Self {
        let Resolved { sharing, endpoint, variables, limit, route } = resolved;
        self.identity.sharing = sharing;
        let login = &mut self.login;
        login.limit = login.limit.or(limit);
        login.endpoint = Some(endpoint);
        login.variables = variables;
        // What a login needs of the place is in the route; nothing else of it is kept.
        (login.place, login.route) = (None, Some(route));
        self
    }

    /// Whether it was worked out how it is reached.
    pub(crate) fn is_resolved(&self) -> bool {
        self.login.route.is_some()
    }

    /// Logs in as the other one does.
    pub(crate) fn take_login_of(&mut self, other: &Host) {
        if self.login != other.login {
            self.login = other.login.clone();
        }
    }

    /// What its connections are shared by.
    pub(crate) fn identity(&self) -> &HostIdentity {
        &self.identity
    }
}

/// Reads `[user@]host[:port]`, and `ssh://[user@]host[:port]` as ssh does, with `%20` and the like
/// in the user. A name with a colon, such as an IPv6 address, stands in brackets where a port
/// follows: `[::1]:2222`.
impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix(URI) {
            return of_uri(text, rest);
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (name, port) = if let Some(inside) = rest.strip_prefix('[') {
            match inside.rsplit_once(']') {
                // Brackets around what has no colon are a part of the name, as for ssh.
                Some((name, "")) => (if name.contains(':') { name } else { rest }, None),
                Some((name, port)) if port.starts_with(':') => (name, Some(&port[1..])),
                _ => {
                    return Err(HostError::new(
                        "host",
                        text,
                        "expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"",
                    ));
                }
            }
        } else {
            match rest.split_once(':') {
                // More than one colon, and no brackets: an address without a port.
                Some((_, more)) if more.contains(':') => (rest, None),
                Some((name, port)) => (name, Some(port)),
                None => (rest, None),
            }
        };
        let mut host = Host::new(name)?;
        if let Some(port) = port {
            host = host.port(port_of(port, rest)?)?;
        }
        match user {
            Some(user) => host.user(user),
            None => Ok(host),
        }
    }
}

/// What stands behind the colon of `rest`, which may have been meant as a whole.
fn port_of(port: &str, rest: &str) -> Result<u16, HostError> {
    let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| {
        let mut reason = "expected a number from 1 to 65535".to_owned();
        if port.contains(char::is_alphabetic)
            && !rest.starts_with('[')
            && check_name("", rest).is_ok()
        {
            write!(reason, " (a name with a colon stands in brackets: {:?})", format!("[{rest}]"))
                .expect("writing to a String cannot fail");
        }
        HostError::new("port", port, reason)
    })
}

/// What stands behind `ssh://`, read as ssh reads it: a user with `%` and two digits for what
/// cannot stand there, `;` and parameters that nobody knows, a host, a port.
fn of_uri(text: &str, rest: &str) -> Result<Host, HostError> {
    let wrong = |reason: &str| HostError::new("address", text, reason);
    let (user, rest) = match rest.split_once('@') {
        Some((user, rest)) => (Some(user.split(';').next().unwrap_or_default()), rest),
        None => (None, rest),
    };
    let end = match rest.starts_with('[') {
        true => rest.rfind(']').ok_or_else(|| wrong("its bracket is not closed"))? + 1,
        false => rest.find([':', '/']).unwrap_or(rest.len()),
    };
    let (name, rest) = rest.split_at(end);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let mut host = Host::new(name)?;
    let (port, path) = match rest.strip_prefix(':') {
        Some(rest) => {
            rest.split_once('/').map_or((Some(rest), ""), |(port, path)| (Some(port), path))
        }
        None => (None, rest.strip_prefix('/').unwrap_or(rest)),
    };
    if !path.is_empty() {
        return Err(wrong("a path has no meaning here: expected \"ssh://[user@]host[:port]\""));
    }
    // Nothing at all behind the colon is no port, for ssh too.
    if let Some(port) = port.filter(|port| !(port.is_empty() && rest == ":")) {
        host = host.port(port_of(port, "")?)?;
    }
    match user {
        Some(user) => host.user(decoded(user).ok_or_else(|| {
            wrong("a \"%\" in its user has to be followed by two hexadecimal digits, of UTF-8 text")
        })?),
        None => Ok(host),
    }
}

/// The text that a URI has in such a form: `%` and two digits for a byte, `+` for a blank.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A user in a form that stands in a URI, and in whatever takes commas, blanks and brackets for
/// more than letters.
pub(crate) fn encoded(user: &str) -> String {
    let mut text = String::new();
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    text
}

impl PoolKey {
    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's port; 22 when it has none.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') || self.name.starts_with('[') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl HostError {
    fn new(what: &'static str, value: &str, reason: impl Into<String>) -> Self {
        HostError { what, value: shortened(value), reason: reason.into() }
    }
}

/// As much of a value as a line of an error shows.
pub(crate) fn shortened(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), HostError> {
    let wrong = |reason: &str| Err(HostError::new(what, name, reason));
    if name.is_empty() {
        return wrong("it must not be empty");
    }
    if name.len() > LONGEST_NAME {
        return wrong(&format!("it is longer than {LONGEST_NAME} bytes"));
    }
    if name.starts_with('-') {
        return wrong("it must not start with \"-\"");
    }
    // ssh would read more than a name there.
    if name.starts_with(URI) {
        return wrong("it is a URI, and not a name");
    }
    let is_wrong =
        |c: char| c == '@' || c.is_ascii_whitespace() || SHELL_TEXT.contains(c) || unprintable(c);
    match name.chars().find(|&c| is_wrong(c)) {
        Some(c) => wrong(&format!(
            "it must not contain {c:?}; give the host a name without it, by Host and HostName in the ssh_config"
        )),
        None => Ok(()),
    }
}

fn check_user(user: &str) -> Result<(), HostError> {
    let wrong = |reason: &str| Err(HostError::new("user", user, reason));
    const WAY_ROUND: &str = "a User in the ssh_config can have it";
    if user.is_empty() || user.len() > LONGEST_USER {
        return wrong(&format!("expected 1 to {LONGEST_USER} characters"));
    }
    if user.starts_with('-') {
        return wrong("it must not start with \"-\"");
    }
    if user.contains(" -") {
        return wrong(&format!("a \"-\" behind a blank begins an option; {WAY_ROUND}"));
    }
    // A shell takes `$` for a letter where no name and no bracket follows.
    let body = user.strip_suffix('$').unwrap_or(user);
    if body.ends_with('\\') {
        return wrong("it must not end with \"\\\": that stands between a domain and a user");
    }
    let is_wrong = |c: char| c != '\\' && SHELL_TEXT.contains(c) || unprintable(c);
    match body.chars().find(|&c| is_wrong(c)) {
        Some('$') => wrong(&format!("a \"$\" is its last character, or nowhere; {WAY_ROUND}")),
        Some(c) => wrong(&format!("it must not contain {c:?}; {WAY_ROUND}")),
        None => Ok(()),
    }
}

/// Whether it ends a line or does something to a terminal.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn check_path(what: &'static str, path: PathBuf) -> Result<PathBuf, HostError> {
    let text = path.to_string_lossy();
    let reason = if text.is_empty() {
        "it must not be empty"
    } else if text.starts_with('-') {
        "it must not start with \"-\" (write \"./-…\")"
    } else if text.contains(char::is_control) {
        "it must not contain control characters"
    } else {
        return expand_home(what, path);
    };
    Err(HostError::new(what, &text, reason))
}

fn expand_home(what: &'static str, path: PathBuf) -> Result<PathBuf, HostError> {
    let Ok(rest) = path.strip_prefix("~") else {
        return Ok(path);
    };
    match std::env::home_dir().filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(rest)),
        None => Err(HostError::new(
            what,
            &path.to_string_lossy(),
            "there is no home directory for \"~\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("web1")]
    #[case("web-1.example_net.org")]
    #[case("10.0.0.7")]
    #[case("::1")]
    #[case("fe80::1%eth0")]
    #[case("a+b")]
    #[case("x^y")]
    #[case("ünï")]
    #[case("a,b=c~d/e#f%g!h*i?j")]
    #[case("[x]")]
    #[case("1:2")]
    fn names_that_are_accepted(#[case] name: &str) {
        assert_eq!(Host::new(name).expect("a valid name").name(), name);
        Host::new("x").unwrap().address(name).expect("a valid address");
    }

    #[rstest]
    #[case("", "invalid host name \"\": it must not be empty")]
    #[case(
        "-oProxyCommand=x",
        "invalid host name \"-oProxyCommand=x\": it must not start with \"-\""
    )]
    #[case(
        "a;b",
        "invalid host name \"a;b\": it must not contain ';'; \
         give the host a name without it, by Host and HostName in the ssh_config"
    )]
    #[case(
        "a\nb",
        "invalid host name \"a\\nb\": it must not contain '\\n'; \
         give the host a name without it, by Host and HostName in the ssh_config"
    )]
    #[case("ssh://web1", "invalid host name \"ssh://web1\": it is a URI, and not a name")]
    fn names_that_are_refused(#[case] name: &str, #[case] message: &str) {
        assert_eq!(Host::new(name).unwrap_err().to_string(), message);
        let message = message.replace("host name", "address");
        assert_eq!(Host::new("x").unwrap().address(name).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let name = |length| Host::new("ä".repeat(length));
        assert!(name(512).is_ok() && name(513).is_err() && name(1 << 20).is_err());
        let user = |length| Host::new("web1").and_then(|host| host.user("a".repeat(length)));
        assert!(user(4096).is_ok() && user(4097).is_err() && user(1 << 20).is_err());
    }

    /// What a shell could take for more than a letter is in none of them, wherever it stands.
    #[test]
    fn b8_shell_text_and_options_are_no_names() {
        for c in SHELL_TEXT.chars().chain("\0\t\n\r\x0b\x0c\x1b\x7f\u{9b}\u{2028}".chars()) {
            for text in [format!("{c}"), format!("{c}a"), format!("a{c}"), format!("a{c}b")] {
                assert!(Host::new(&*text).is_err(), "{text:?}");
                assert!(Host::new("x").unwrap().address(&*text).is_err(), "{text:?}");
                let user = Host::new("x").unwrap().user(&*text).is_ok();
                let harmless = match c {
                    '$' => text.ends_with('$'),
                    '\\' => !text.ends_with('\\'),
                    _ => false,
                };
                assert_eq!(user, harmless, "{text:?}");
            }
        }
        for text in ["-", "-l", "-oProxyCommand=x", "ssh://-oProxyCommand=x", "a@-oProxyCommand=x"]
        {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
        for text in ["-l", "a -oProxyCommand=x"] {
            assert!(Host::new("x").unwrap().user(text).is_err(), "{text}");
        }
    }

    #[rstest]
    #[case("deploy", true)]
    #[case("deploy+ci@example.org", true)]
    #[case("CORP\\deploy", true)]
    #[case("", false)]
    #[case("-l", false)]
    #[case("a;b", false)]
    #[case("a$b", false)]
    #[case("a`b", false)]
    #[case("a\\", false)]
    #[case("a -b", false)]
    #[case("lab:x", true)]
    #[case("cf:3e1d/0", true)]
    #[case("a#b", true)]
    #[case("a%b", true)]
    #[case("John Doe", true)]
    #[case("ünï", true)]
    #[case("CORP\\web1$", true)]
    fn users(#[case] user: &str, #[case] accepted: bool) {
        assert_eq!(Host::new("web1").unwrap().user(user).is_ok(), accepted);
    }

    #[rstest]
    #[case("web1", None, "web1", None)]
    #[case("web1:2222", None, "web1", Some(2222))]
    #[case("deploy@web1", Some("deploy"), "web1", None)]
    #[case("a@b@web1:1", Some("a@b"), "web1", Some(1))]
    #[case("::1", None, "::1", None)]
    #[case("[::1]", None, "::1", None)]
    #[case("deploy@[fe80::1%eth0]:65535", Some("deploy"), "fe80::1%eth0", Some(65535))]
    #[case("lab:x@web1:22", Some("lab:x"), "web1", Some(22))]
    #[case("a#b%c@web1", Some("a#b%c"), "web1", None)]
    #[case("[a:b]:22", None, "a:b", Some(22))]
    #[case("[web1]:22", None, "web1", Some(22))]
    #[case("[x]", None, "[x]", None)]
    #[case("[[x]]:22", None, "[x]", Some(22))]
    #[case("ssh://web1", None, "web1", None)]
    #[case("ssh://web1/", None, "web1", None)]
    #[case("ssh://web1:", None, "web1", None)]
    #[case("ssh://lab@web1:24711", Some("lab"), "web1", Some(24711))]
    #[case("ssh://a%2fb%25;x=y@web1:022/", Some("a/b%"), "web1", Some(22))]
    #[case("ssh://a+b%2Bc@[::1]:22", Some("a b+c"), "::1", Some(22))]
    #[case("ssh://%C3%BC@web1", Some("ü"), "web1", None)]
    fn texts_that_are_read(
        #[case] text: &str,
        #[case] user: Option<&str>,
        #[case] name: &str,
        #[case] port: Option<u16>,
    ) {
        let host: Host = text.parse().expect("a valid host");
        assert_eq!((host.get_user(), host.name(), host.get_port()), (user, name, port));
    }

    #[rstest]
    #[case("web1:0", "invalid port \"0\": expected a number from 1 to 65535")]
    #[case("web1:70000", "invalid port \"70000\": expected a number from 1 to 65535")]
    #[case("web1:+22", "invalid port \"+22\": expected a number from 1 to 65535")]
    #[case("web1:", "invalid port \"\": expected a number from 1 to 65535")]
    #[case("@web1", "invalid user \"\": expected 1 to 4096 characters")]
    #[case("[::1", "invalid host \"[::1\": expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"")]
    #[case("[::1]22", "invalid host \"[::1]22\": expected \"[ADDRESS]\" or \"[ADDRESS]:PORT\"")]
    #[case(
        "web1:ssh",
        "invalid port \"ssh\": expected a number from 1 to 65535 \
         (a name with a colon stands in brackets: \"[web1:ssh]\")"
    )]
    #[case("ssh://web1:/", "invalid port \"\": expected a number from 1 to 65535")]
    #[case(
        "ssh://web1/x",
        "invalid address \"ssh://web1/x\": a path has no meaning here: expected \"ssh://[user@]host[:port]\""
    )]
    #[case("ssh://@web1", "invalid user \"\": expected 1 to 4096 characters")]
    #[case(
        "ssh://a%2@web1",
        "invalid address \"ssh://a%2@web1\": a \"%\" in its user has to be followed by two hexadecimal digits, of UTF-8 text"
    )]
    #[case(
        "ssh://a%3Bb@web1",
        "invalid user \"a;b\": it must not contain ';'; a User in the ssh_config can have it"
    )]
    #[case(
        "ssh://a@b@web1",
        "invalid host name \"b@web1\": it must not contain '@'; \
         give the host a name without it, by Host and HostName in the ssh_config"
    )]
    fn texts_that_are_refused(#[case] text: &str, #[case] message: &str) {
        assert_eq!(text.parse::<Host>().unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("ProxyJump", "bastion", None)]
    #[case("controlpath", "/x", Some("the pool itself decides about it"))]
    #[case("User", "x", Some("say it with `user`"))]
    #[case("Proxy Jump", "x", Some("expected the name of an option"))]
    #[case("ProxyJump=x", "x", Some("expected the name of an option"))]
    #[case("ProxyJump", " ", Some("its value \" \" is empty"))]
    #[case("ProxyJump", "a\nb", Some("its value \"a\\nb\" is empty or has control characters"))]
    fn options(#[case] key: &str, #[case] value: &str, #[case] refused: Option<&str>) {
        match (Host::new("web1").unwrap().option(key, value), refused) {
            (Ok(host), None) => assert_eq!(host.get_options().collect::<Vec<_>>(), [(key, value)]),
            (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (result, _) => panic!("{result:?}"),
        }
    }

    #[rstest]
    #[case("")]
    #[case("-key")]
    #[case("a\nb")]
    fn paths_that_are_refused(#[case] path: &str) {
        assert!(Host::new("web1").unwrap().identity_file(path).is_err());
        assert!(Host::new("web1").unwrap().config_file(path).is_err());
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = std::env::home_dir().expect("tests run with a home directory");
        let host = Host::new("web1").unwrap().identity_file("~/.ssh/key").unwrap();
        assert_eq!(host.get_identity_file(), Some(home.join(".ssh/key").as_path()));
    }

    /// Whatever the name has in it, its key is read as the same name and port.
    #[rstest]
    #[case("a:b", "[a:b]:22")]
    #[case("[x]", "[[x]]:22")]
    #[case("[a]:5", "[[a]:5]:22")]
    #[case("x]", "x]:22")]
    #[case("a,b", "a,b:22")]
    fn b8_a_key_is_read_as_what_it_is_of(#[case] name: &str, #[case] key: &str) {
        let host = Host::new(name).unwrap();
        assert_eq!(host.key().to_string(), key);
        let again: Host = key.parse().unwrap();
        assert_eq!((again.name(), again.get_port()), (name, Some(22)));
    }

    #[test]
    fn a_key_has_22_when_there_is_no_port_and_brackets_around_ipv6() {
        assert_eq!(Host::new("web1").unwrap().key().to_string(), "web1:22");
        assert_eq!(Host::new("::1").unwrap().port(2222).unwrap().key().to_string(), "[::1]:2222");
    }

    #[test]
    fn only_the_address_may_differ_where_connections_are_shared() {
        let host = || Host::new("web1").unwrap();
        assert_eq!(host().identity(), host().address("10.0.0.1").unwrap().identity());
        for other in [
            host().user("x").unwrap(),
            host().port(22).unwrap(),
            host().identity_file("/k").unwrap(),
            host().config_file("/c").unwrap(),
            host().option("Compression", "yes").unwrap(),
        ] {
            assert_ne!(host().identity(), other.identity());
        }
    }
}
