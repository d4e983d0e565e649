//! All Compose projects and the resources of all configured hosts, again and again over one pool:
//! `cargo run --example dashboard -- CONFIG_FILE [SECONDS [TIMES]]`
//!
//! CONFIG_FILE is that of `sshpool`, with `[hosts]`. A page costs a dozen commands a host; after
//! the first one none of them logs in.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::future::join;
use sshpool::docker::{Compose, ComposeError, Overview};
use sshpool::resources::HostResources;
use sshpool::{Config, Host, Pool};

/// How many hosts are asked at once.
const WIDTH: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// What a page shows of one host.
struct Found {
    resources: Result<HostResources, sshpool::Error>,
    projects: Result<Overview, ComposeError>,
}

impl Found {
    fn names(&self) -> Vec<String> {
        self.projects.iter().flatten().map(|(project, _)| project.name.clone()).collect()
    }
}

/// `known` are the projects of the last page: those are asked for at once.
async fn look(pool: &Pool, host: &Host, known: Vec<String>) -> Found {
    let compose = Compose::new(pool, host);
    let (resources, projects) = join(HostResources::of(pool, host), compose.overview(&known)).await;
    Found { resources, projects }
}

fn show(host: &Host, found: &Found) {
    match &found.resources {
        Ok(found) => {
            let percent =
                |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.0} %"));
            let memory = percent(found.memory.and_then(|memory| memory.used_percent));
            let fullest = found.disks.iter().flatten().filter_map(|disk| disk.used_percent).max();
            let disk = percent(fullest.map(f64::from));
            println!(
                "{}: CPU {}, memory {memory}, fullest disk {disk}",
                host.name(),
                percent(found.cpu_percent)
            );
        }
        Err(error) => return println!("{error}"),
    }
    match &found.projects {
        Ok(projects) => {
            for (_, project) in projects {
                match project {
                    Ok(project) => {
                        let running = project
                            .services
                            .iter()
                            .filter(|service| service.state.as_str() == "running");
                        let (running, all) = (running.count(), project.services.len());
                        println!(
                            "    {:<24} {:<8} {running} of {all} containers",
                            project.project, project.status
                        );
                    }
                    Err(error) => println!("    {error}"),
                }
            }
        }
        Err(error) => println!("    {error}"),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: dashboard CONFIG_FILE [SECONDS [TIMES]]")?;
    let pause = Duration::from_secs(args.next().map_or(Ok(5), |text| text.parse())?);
    let times: usize = args.next().map_or(Ok(usize::MAX), |text| text.parse())?;

    let mut config = Config::load(file.as_ref())?;
    config.pool.apply_env()?;
    let pool = Pool::new(config.pool)?;
    // Ctrl-C closes the pool first.
    pool.close_on_signals()?;
    let hosts: Vec<Host> = config.hosts.into_values().collect();
    if hosts.is_empty() {
        return Err(format!("{file}: there are no [hosts]").into());
    }
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for page in 1..=times {
        let started = Instant::now();
        let found = sshpool::on_each(&hosts, WIDTH, |host| {
            look(&pool, host, known.get(host.name()).cloned().unwrap_or_default())
        });
        let found = found.await;
        known =
            hosts.iter().zip(&found).map(|(host, found)| (host.name(), found.names())).collect();
        hosts.iter().zip(&found).for_each(|(host, found)| show(host, found));
        let stats = pool.stats();
        println!(
            "page {page}: {:.0?}, {} commands and {} logins so far\n",
            started.elapsed(),
            stats.commands_run,
            stats.connects
        );
        if page < times {
            tokio::time::sleep(pause).await;
        }
    }
    pool.close().await;
    Ok(())
}
