//! `sshpool close`: closes connections of the agent.

use clap::Args;

use crate::agent::client::{Client, NoAgent};
use crate::agent::protocol::{self, HostSpec};
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::setup::Setup;

#[derive(Debug, Args)]
pub(in crate::cli) struct Close {
    /// The connections to all hosts
    #[arg(long, conflicts_with = "hosts")]
    all: bool,

    /// End what runs on them at once
    #[arg(long)]
    now: bool,

    /// [user@]HOST[:port], ranges such as web[1-3], groups such as @web
    #[arg(value_name = "HOST", required_unless_present = "all")]
    hosts: Vec<String>,
}

impl Close {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let hosts = setup.hosts(&self.hosts)?;
        let close = protocol::Close {
            hosts: hosts.iter().map(|host| HostSpec::Whole(host.into())).collect(),
            all: self.all,
            now: self.now,
        };
        let client: Client = match setup.client(false) {
            Ok(client) => client,
            Err(no) => return Err(Failure::Output(no.to_string())),
        };
        match client.post::<serde_json::Value>("/v1/close", &close).await {
            Ok(Ok(closed)) => {
                let count = closed["closed"].as_u64().unwrap_or(0);
                let s = if count == 1 { "" } else { "s" };
                print(&format!("{count} connection{s} closed")).await?;
                Ok(0)
            }
            Ok(Err(refused)) => Err(Failure::Usage(refused.error.message)),
            Err(NoAgent::NotThere) => {
                print("0 connections closed: no agent runs").await?;
                Ok(0)
            }
            Err(no) => Err(Failure::Output(no.to_string())),
        }
    }
}
