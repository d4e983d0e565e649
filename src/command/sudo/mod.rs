//! Commands as another user of the host, by sudo.
//!
//! [`Sudo`] says as whom, and has the password. [`Sudo::over`] makes of any [`Runner`] one whose
//! commands run by sudo: it changes what is asked for and leads the conversation with sudo, and
//! knows nothing of connections. `text` has what the host is given, `conversation` finds sudo's
//! question and the begin of the command in what sudo writes, `begin` answers, and `runner` sees to
//! the command until its end. `kept` has the shells that run one command after another.
//!
//! The password is written once, and only when sudo has asked for it: with a prompt that has a
//! number of its own for each command. So no command reads it, whatever the host's sudoers say.
//! What the command is to read follows when the command has begun, and so can never be taken for
//! another try. A second question ends sudo and is told.

mod begin;
mod conversation;
mod kept;
mod runner;
mod text;

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Runner;
use runner::ByUser;
pub(crate) use runner::end_all_by_sudo;

/// How commands are run as another user: by sudo, as root unless another name is given.
///
/// ```no_run
/// use sshpool::{Host, Password, Pool, PoolConfig, Sudo};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::new(PoolConfig::default())?;
/// let sudo = Sudo::new().password(Password::new(std::fs::read_to_string("/run/secrets/sudo")?)?);
/// let log = pool.command(&Host::new("web1")?, "tail").arg("/var/log/auth.log");
/// println!("{:?}", log.sudo(&sudo).output().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Sudo {
    user: Option<String>,
    password: Option<Password>,
    reuse: bool,
}

impl Sudo {
    /// As root, where sudo asks for no password.
    pub fn new() -> Self {
        Sudo::default()
    }

    /// As this user: a name of the host, or `#` and a number.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// What sudo is told when it asks: the password of the account that logs in, unless the host's
    /// sudoers want another one.
    pub fn password(mut self, password: Password) -> Self {
        self.password = Some(password);
        self
    }

    /// Whether a runner that is made [`over`](Self::over) another one keeps a shell of the user on
    /// a host when it has run a command there, and runs further ones in it: those that have no
    /// input and are run to their end. They take as long as without sudo. `false` by default.
    ///
    /// A shell runs commands of this runner alone, for at most 5 minutes, and waits 30 s for one;
    /// that takes up a session of the connection. Where a host can have fewer than eight, none is
    /// kept. The password is asked for, and sudo's log written, once for a shell: the log has the
    /// shell and not what ran in it. A command that a signal has ended has the status that a shell
    /// gives it, such as 137. One that is given up is ended with its shell, and with what former
    /// commands have left in the background there.
    pub fn reuse(mut self, reuse: bool) -> Self {
        self.reuse = reuse;
        self
    }

    /// A runner whose commands run by sudo over this one.
    ///
    /// Everything that is made of commands works over it: [`docker`](crate::docker),
    /// [`files`](crate::files), [`resources`](crate::resources).
    pub fn over(&self, runner: &dyn Runner) -> Arc<dyn Runner> {
        let kept = self.reuse.then(Arc::default);
        Arc::new(ByUser { inner: runner.shared(), sudo: Arc::new(self.clone()), kept })
    }
}

/// A password. `{:?}` does not show it, and its memory is overwritten when it is not needed any
/// more.
#[derive(Clone)]
pub struct Password(Arc<Zeroizing<Vec<u8>>>);

impl Password {
    /// A password; one line break at its end is taken away.
    ///
    /// # Errors
    ///
    /// For one that is empty, or that has a line break or a NUL byte in it: no program could be
    /// given it.
    pub fn new(password: impl Into<Vec<u8>>) -> Result<Self, PasswordError> {
        let given = Zeroizing::new(password.into());
        // With room for the end of a line: a buffer that grows leaves its contents behind.
        let mut password = Zeroizing::new(Vec::with_capacity(given.len() + 1));
        password.extend_from_slice(&given);
        for end in [b'\n', b'\r'] {
            if password.last() == Some(&end) {
                password.pop();
            }
        }
        if password.is_empty() {
            return Err(PasswordError("it is empty"));
        }
        if password.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err(PasswordError("it has a line break or a NUL byte in it"));
        }
        password.push(b'\n');
        Ok(Password(Arc::new(password)))
    }

    /// The line that sudo reads.
    fn line(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why something cannot be a password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("this cannot be a password: {0}")]
pub struct PasswordError(&'static str);
