//! What is left of a command on its host.

use std::fmt;
use std::sync::Arc;

/// What became of a remote command that was given up before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remote {
    /// It is gone: nothing of its process group is left there, or it had ended by itself. (What has
    /// left the group, as daemons do, is on its own.)
    Ended,
    /// It may live on, for this reason.
    MayLiveOn(Arc<str>),
}

impl Remote {
    pub(crate) fn may_live_on(reason: impl Into<Arc<str>>) -> Self {
        Remote::MayLiveOn(reason.into())
    }
}

/// What a message about the command goes on with: nothing where nothing is left.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Ended => Ok(()),
            Remote::MayLiveOn(reason) => write!(f, "; it may still run there: {reason}"),
        }
    }
}
