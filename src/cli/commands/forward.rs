//! `sshpool forward`: ports and sockets that stay.

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::agent::client::{Forwarded, NoAgent};
use crate::agent::protocol::{ForwardInfo, Happened, WhatForwarded};
use crate::cli::backend::Backend;
use crate::cli::failure::{Failure, NOT_RUN, told};
use crate::cli::output::table::aligned;
use crate::cli::output::{complain, print, print_json};
use crate::cli::setup::Setup;
use crate::error::Error;
use crate::forward::{Direction, ForwardSpec};
use crate::host::Host;
use crate::pool::{Forward as PoolForward, ForwardEvents};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  sshpool forward db1 -L 5432:localhost:5432        psql -h localhost, as long as this runs
  sshpool forward web1 -L ./web1.sock:/run/app.sock a socket here that leads to one there
  sshpool forward --keep web1 -L 8080:localhost:80  stays until `sshpool forward rm`
  sshpool forward web1 -R 9000:localhost:3000       web1's port 9000 leads here"
)]
pub(in crate::cli) struct Forward {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    begin: Begin,
}

#[derive(Debug, Args)]
struct Begin {
    /// Leave it to the agent: it stays until `sshpool forward rm` or the end of the agent
    #[arg(long)]
    keep: bool,

    /// Print one JSON object for each thing that happens, with --keep for each forward
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    specs: Specs,

    /// [user@]HOST[:port]
    #[arg(value_name = "HOST", required = true)]
    host: Option<String>,
}

/// What is forwarded.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Specs {
    /// Listen here, and have the host connect: [ADDRESS:]PORT:HOST:PORT, with a socket's path in
    /// the place of either side
    #[arg(short = 'L', value_name = "SPEC", value_parser = ForwardSpec::local)]
    local: Vec<ForwardSpec>,

    /// Have the host listen, and connect from here: [ADDRESS:]PORT:HOST:PORT, or a port alone for
    /// SOCKS
    #[arg(short = 'R', value_name = "SPEC", value_parser = ForwardSpec::remote)]
    remote: Vec<ForwardSpec>,

    /// Listen here for clients that name the target themselves (SOCKS): [ADDRESS:]PORT
    #[arg(short = 'D', value_name = "SPEC", value_parser = ForwardSpec::dynamic)]
    dynamic: Vec<ForwardSpec>,
}

impl Specs {
    fn all(&self) -> Vec<ForwardSpec> {
        [&*self.local, &*self.remote, &*self.dynamic].concat()
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the forwards of the agent
    #[command(alias = "list")]
    Ls {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// End forwards of the agent
    #[command(alias = "remove")]
    Rm {
        /// All that are kept
        #[arg(long, conflicts_with = "ids")]
        all: bool,

        /// The numbers that `sshpool forward ls` shows
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<u64>,
    },
}

/// A forward of this command.
enum Running {
    Pool { _forward: PoolForward, events: ForwardEvents },
    Agent(Forwarded),
}

impl Running {
    async fn next(&mut self) -> Option<Happened> {
        match self {
            Running::Pool { events, .. } => events.next().await.map(Happened::from),
            Running::Agent(forwarded) => forwarded.next().await,
        }
    }
}

impl Forward {
    /// Gives the backend, where one is to be closed.
    pub(in crate::cli) async fn run(
        self,
        setup: &Setup,
    ) -> Result<(Option<Backend>, Result<u8, Failure>), Failure> {
        match self.action {
            Some(Action::Ls { json }) => return Ok((None, list(setup, json).await)),
            Some(Action::Rm { all, ids }) => return Ok((None, remove(setup, all, &ids).await)),
            None => {}
        }
        let begin = self.begin;
        let host = setup.host(begin.host.as_deref().expect("clap demands it"))?;
        let backend = setup.backend(host.name(), true).await?;
        let result = match begin.keep {
            true => begin.keep(&backend, &host).await,
            false => begin.in_the_foreground(&backend, &host).await,
        };
        Ok((Some(backend), result))
    }
}

impl Begin {
    /// Leaves them to the agent.
    async fn keep(&self, backend: &Backend, host: &Host) -> Result<u8, Failure> {
        let Backend::Agent(client) = backend else {
            let why = "--keep needs the agent, which keeps the forward";
            return Err(Failure::Usage(why.to_owned()));
        };
        let mut status = 0;
        for spec in &self.specs.all() {
            match client.keep_forward(host, &WhatForwarded::Spec(spec)).await {
                Ok(info) if self.json => print_json(&info).await?,
                Ok(info) => {
                    let at = info.listening.as_deref().unwrap_or("-");
                    print(&format!("{}: {}: {}", info.id, info.forward, listens(spec, at))).await?;
                }
                Err(error) => {
                    status = NOT_RUN;
                    complain(format_args!("{}: {}", host.name(), told(&error, host.name())));
                }
            }
        }
        Ok(status)
    }

    /// For as long as this runs.
    async fn in_the_foreground(&self, backend: &Backend, host: &Host) -> Result<u8, Failure> {
        let specs = self.specs.all();
        let begun = specs.iter().map(async |spec| begin(backend, host, spec).await);
        let mut all = Vec::new();
        for (spec, begun) in specs.iter().zip(join_all(begun).await) {
            // All of them, or none.
            let (at, running) = begun.map_err(|error| Failure::of(host.name(), &error))?;
            self.tell(host, spec, &Happened::Listening { at }).await?;
            all.push((spec, running));
        }
        let watch = async |(spec, running): (&ForwardSpec, &mut Running)| {
            while let Some(happened) = running.next().await {
                // Whoever has read where it listens need not read on.
                let _ = self.tell(host, spec, &happened).await;
            }
        };
        let mut watched: FuturesUnordered<_> =
            all.iter_mut().map(|(spec, running)| watch((spec, running))).collect();
        // The first one that ends, ends it.
        watched.next().await;
        Err(Failure::Output(format!("{}: the forward has ended", host.name())))
    }

    async fn tell(
        &self,
        host: &Host,
        spec: &ForwardSpec,
        happened: &Happened,
    ) -> Result<(), Failure> {
        if self.json {
            let mut line = serde_json::to_value(happened).expect("it has text keys");
            line["host"] = host.name().into();
            line["forward"] = spec.to_string().into();
            return print_json(&line).await;
        }
        let what = match happened {
            Happened::Listening { at } => listens(spec, at),
            Happened::Connected => "connected".to_owned(),
            Happened::Failed { reason } => format!("failed: {reason}"),
            Happened::Lost { reason } => format!("connection lost: {reason}"),
        };
        print(&format!("{}: {spec}: {what}", host.name())).await
    }
}

/// Begins one, and gives where it listens.
async fn begin(
    backend: &Backend,
    host: &Host,
    spec: &ForwardSpec,
) -> Result<(String, Running), Error> {
    let unknown = || spec.listen().to_string();
    match backend {
        Backend::Pool(pool) => {
            let forward = pool.forward(host, spec).await?;
            let events = forward.events();
            let at = forward.listening().map_or_else(unknown, |at| at.to_string());
            Ok((at, Running::Pool { _forward: forward, events }))
        }
        Backend::Agent(client) => {
            let (info, forwarded) = client.forward(host, &WhatForwarded::Spec(spec)).await?;
            Ok((info.listening.unwrap_or_else(unknown), Running::Agent(forwarded)))
        }
    }
}

fn listens(spec: &ForwardSpec, at: &str) -> String {
    match spec.direction() {
        Direction::Remote => format!("the host listens at {at}"),
        Direction::Local | Direction::Dynamic => format!("listening at {at}"),
    }
}

async fn list(setup: &Setup, json: bool) -> Result<u8, Failure> {
    let all = match setup.client(false) {
        Ok(client) => client.forwards().await,
        Err(no) => Err(no),
    };
    let all = match all {
        Ok(all) => all,
        Err(NoAgent::NotThere) => Vec::new(),
        Err(no) => return Err(Failure::Output(no.to_string())),
    };
    if json {
        print_json(&all).await?;
        return Ok(0);
    }
    if all.is_empty() {
        print("no forwards").await?;
        return Ok(0);
    }
    let titles = ["ID", "HOST", "FORWARD", "LISTENING", "OPEN", "TOTAL", "FAILED", "LAST ERROR"];
    let row = |of: &ForwardInfo| {
        vec![
            of.id.to_string(),
            of.host.clone(),
            of.forward.clone(),
            of.listening.clone().unwrap_or_else(|| "-".to_owned()),
            of.open.to_string(),
            of.total.to_string(),
            of.failed.to_string(),
            of.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let titles = titles.map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(titles).chain(all.iter().map(row)).collect();
    print(&aligned(&rows)).await?;
    Ok(0)
}

async fn remove(setup: &Setup, all: bool, ids: &[u64]) -> Result<u8, Failure> {
    let failed = |no: NoAgent| Failure::Output(no.to_string());
    let client = setup.client(false).map_err(failed)?;
    let ids = match all {
        true => match client.forwards().await {
            Ok(all) => all.iter().filter(|one| one.kept).map(|one| one.id).collect(),
            Err(NoAgent::NotThere) => Vec::new(),
            Err(no) => return Err(failed(no)),
        },
        false => ids.to_vec(),
    };
    for id in ids {
        let removed = client.remove_forward(id).await.map_err(failed)?;
        removed.map_err(|refused| Failure::Usage(refused.error.message))?;
    }
    Ok(0)
}
