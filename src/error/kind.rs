//! The words for what went wrong. Each stands once, here or in [`ConnectErrorKind`]: programs meet
//! it in JSON, in the API and in Rust alike.
//!
//! [`ConnectErrorKind`]: super::ConnectErrorKind

/// An enum of kinds, and for each the word that stands for it in JSON.
macro_rules! kinds {
    (
        $(#[$about:meta])*
        $name:ident { $($(#[$what:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$what])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The word that stands for it in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        /// As [`as_str`]($name::as_str).
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(super) use kinds;

use super::Error;

kinds! {
    /// What an [`Error`] is about, for programs.
    ErrorKind {
        /// A host, a setting or a command is not acceptable. Nothing was started.
        Invalid = "invalid",
        /// No connection could be made. [`ConnectErrorKind`](crate::ConnectErrorKind) says why.
        Connect = "connect",
        /// All connections were taken for `acquire_timeout`.
        Exhausted = "exhausted",
        /// The pool, or this host's part of it, was closed.
        Closed = "closed",
        /// The command never started, and trying again did not help.
        NeverStarted = "never_started",
        /// sudo did not run the command.
        Sudo = "sudo",
        /// This machine or the server does not listen for a forward.
        Forward = "forward",
        /// The connection was lost while the command ran.
        Lost = "lost",
        /// The command took longer than its timeout.
        TimedOut = "timed_out",
        /// The command wrote more than its limit.
        OutputLimit = "output_limit",
        /// The command ended with a status other than 0, where that is an error.
        Failed = "failed",
        /// A signal ended the command.
        Killed = "killed",
        /// Something on this machine: no ssh program, no more processes or descriptors.
        Local = "local",
    }
}

impl Error {
    /// What it is about, in one word for programs.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Host(_) | Error::Config(_) | Error::InvalidCommand { .. } => ErrorKind::Invalid,
            Error::Connect { .. } => ErrorKind::Connect,
            Error::Exhausted { .. } => ErrorKind::Exhausted,
            Error::Closed { .. } => ErrorKind::Closed,
            Error::NeverStarted { .. } => ErrorKind::NeverStarted,
            Error::Sudo { .. } => ErrorKind::Sudo,
            Error::Forward { .. } => ErrorKind::Forward,
            Error::Lost { .. } => ErrorKind::Lost,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::OutputLimit { .. } => ErrorKind::OutputLimit,
            Error::Failed { .. } => ErrorKind::Failed,
            Error::Killed { .. } => ErrorKind::Killed,
            Error::SshNotFound | Error::Io { .. } => ErrorKind::Local,
        }
    }
}
