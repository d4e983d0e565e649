//! The way of one command, over any transport.
//!
//! A [`Target`] says where its connection comes from. [`Attempts`] gets a lease and a session on it
//! until the command has begun, once more where it provably never started; there is no other loop.
//! From then on it is captured ([`output`], [`status`]) or handed out ([`spawn`]). What its end
//! means is said in one place, [`attempts::concluded`], and a command that is given up before its
//! end is ended on its host by [`running`].
//!
//! Nothing here knows processes, sockets or the texts of ssh.

mod attempts;
mod begin;
mod capture;
mod running;
mod spawned;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tracing::Instrument;

use crate::command::{ExitStatus, Output, Request};
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;
use crate::policy::{Core, Lease};
use crate::transport::{Input, Script, Transport};

use attempts::{Attempts, Begun};
pub(crate) use spawned::spawn;

/// Where a command gets its connection from.
pub(crate) enum Target<T: Transport> {
    /// Any connection to this host.
    Pool(Arc<Core<T>>, Arc<Host>),
    /// The one that a lease holds.
    Lease(Arc<Core<T>>, Arc<Lease<T>>, Arc<Host>),
}

impl<T: Transport> Clone for Target<T> {
    fn clone(&self) -> Self {
        match self {
            Target::Pool(core, host) => Target::Pool(Arc::clone(core), Arc::clone(host)),
            Target::Lease(core, lease, host) => {
                Target::Lease(Arc::clone(core), Arc::clone(lease), Arc::clone(host))
            }
        }
    }
}

impl<T: Transport> Target<T> {
    fn core(&self) -> &Arc<Core<T>> {
        match self {
            Target::Pool(core, _) | Target::Lease(core, ..) => core,
        }
    }

    fn host(&self) -> &Arc<Host> {
        match self {
            Target::Pool(_, host) | Target::Lease(_, _, host) => host,
        }
    }

    fn name(&self) -> String {
        self.host().name().to_owned()
    }
}

/// Runs a command to its end. What it writes is kept.
pub(crate) async fn output<T: Transport>(
    target: Target<T>,
    request: Request,
) -> Result<Output, Error> {
    let limit = request.max_output.unwrap_or(target.core().config().max_output);
    let mut partial = PartialOutput::default();
    let status = to_the_end(target, request, Some(limit), &mut partial).await?;
    Output::of(Ok(status), partial)
}

/// Runs a command to its end. What it writes is thrown away.
pub(crate) async fn status<T: Transport>(
    target: Target<T>,
    request: Request,
) -> Result<ExitStatus, Error> {
    to_the_end(target, request, None, &mut PartialOutput::default()).await
}

/// Without a limit the output is thrown away.
async fn to_the_end<T: Transport>(
    target: Target<T>,
    request: Request,
    limit: Option<usize>,
    partial: &mut PartialOutput,
) -> Result<ExitStatus, Error> {
    let default = Some(target.core().config().command_timeout);
    let span = tracing::debug_span!("command", host = %target.host().key());
    let Request { text, is_subsystem, stdin, timeout, fresh_session, .. } = request;
    let input = stdin.bytes(target.host())?;
    let script = Script::of(text, is_subsystem);
    let again = target.core().config().reuses_sessions() && input.is_empty() && !fresh_session;
    let mut attempts = Attempts::new(target, timeout.or(default), again);
    let run = async {
        match attempts.begin(&script, Input::Bytes(&input), limit, partial).await? {
            Begun::Runs(running) => attempts.capture(running, &input, limit, partial).await,
            Begun::Ended(mut streams, status) => {
                let rest = capture::rest(&mut streams, limit, partial);
                rest.map(|()| status).map_err(|excess| {
                    excess.into_error(attempts.host(), Remote::Ended, std::mem::take(partial))
                })
            }
        }
    };
    run.instrument(span).await
}
