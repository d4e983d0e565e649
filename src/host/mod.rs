//! Where to connect, and as whom.
//!
//! A [`Host`] can only be made of values that ssh and a shell cannot take for something else: what
//! looks like an option, like shell text or like one of the pool's own settings is refused here,
//! before any process is started. Two hosts share connections only when they say the same about
//! everything that decides whose account a command runs in.

mod check;
mod login;
mod parse;
pub(crate) mod place;
#[cfg(test)]
mod properties;
pub(crate) mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use check::{HAS_SETTER, POOLS_OWN, check_name, check_path, check_user};
pub(crate) use login::{Asked, Askpass, Caller, Endpoint, Login, Resolved, Route, Variables};
pub(crate) use parse::encoded;
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
    forced_command: Option<bool>,
    login: Login,
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
    /// Others are reached over it, and nothing runs there.
    is_hop: bool,
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
            is_hop: false,
        };
        Ok(Host { identity, address: None, forced_command: None, login: Login::default() })
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

    /// Whether the server runs a command of its own (`ForceCommand`) whatever it is asked to run.
    /// Then a login opens no session for a proof, which would run that command. By default the pool
    /// finds out, at the price of one run for each account.
    pub fn forced_command(mut self, is_forced: bool) -> Self {
        self.forced_command = Some(is_forced);
        self
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

    /// Whether its server runs a command of its own, if that was said.
    pub fn get_forced_command(&self) -> Option<bool> {
        self.forced_command
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

    /// The same host, for this caller.
    pub(crate) fn for_caller(mut self, caller: Caller) -> Self {
        self.login.caller = caller;
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

    /// The same host, as the last hop on the way to another one.
    pub(crate) fn before(mut self, target: &Host, place: Arc<Place>) -> Self {
        self.identity.is_hop = true;
        let caller = target.login.caller;
        self.login = Login { place: Some(place), caller, ..Login::default() };
        self
    }

    /// Whether it is a hop on the way to others: nothing runs there.
    pub(crate) fn is_hop(&self) -> bool {
        self.identity.is_hop
    }

    /// The same hop, for a login to this target: who is asked there is asked here, and has as long
    /// for an answer. Where nobody is, the hop's own limit stays.
    pub(crate) fn asking_as(mut self, target: &Host) -> Self {
        self.login.askpass.clone_from(&target.login.askpass);
        if self.login.askpass.is_some() {
            self.login.limit = target.login.limit;
        }
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
