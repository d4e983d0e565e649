//! Several hosts at once: `cargo run --example many -- CONFIG_FILE`, a file with `[hosts]` as for
//! `sshpool`.

use std::num::NonZeroUsize;

use sshpool::{Config, ConnectErrorKind, Error, Host, Pool};
use tokio::io::{AsyncBufReadExt, BufReader};

/// How many hosts are asked at once.
const WIDTH: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// How many per cent of a file system are much.
const FULL: u32 = 90;

/// Two commands at once. They share a connection; whichever comes first logs in.
async fn look(pool: &Pool, host: &Host) -> Result<String, Error> {
    // Into shell text goes only what is known to be harmless, such as a number. Text from elsewhere
    // is for `Pool::command`, which escapes it.
    let full = async { pool.exec(host, &format!("df -P | awk '$5 + 0 > {FULL}' | wc -l")).await };
    let (system, full) = tokio::try_join!(pool.exec(host, "uname -s"), full)?;
    Ok(format!("{system}, {full} file systems over {FULL} %"))
}

/// The first lines of what a command writes, as they come. Dropping the child ends the command.
async fn watch(pool: &Pool, host: &Host, most: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut child = pool.shell(host, "while cat /proc/loadavg; do sleep 1; done").spawn().await?;
    let mut lines = BufReader::new(child.stdout.take().expect("not taken yet")).lines();
    for _ in 0..most {
        let Some(line) = lines.next_line().await? else { break };
        println!("{}: load {line}", host.name());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: many CONFIG_FILE")?;
    let mut config = Config::load(file.as_ref())?;
    config.pool.apply_env()?;
    let pool = Pool::new(config.pool)?;
    let hosts: Vec<Host> = config.hosts.into_values().collect();

    let answers = sshpool::on_each(&hosts, WIDTH, |host| look(&pool, host)).await;
    for (host, answer) in hosts.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                println!("{}: {answer}", host.name());
                watch(&pool, host, 2).await?;
            }
            Err(Error::Connect { host, source }) => match source.kind() {
                ConnectErrorKind::Authentication => println!("{host}: does not know our key"),
                ConnectErrorKind::Refused | ConnectErrorKind::TimedOut => {
                    println!("{host}: is down")
                }
                _ => println!("{host}: {source}"),
            },
            Err(Error::Failed { host, code, .. }) => {
                println!("{host}: a command ended with {code}")
            }
            Err(error) => println!("{error}"),
        }
    }
    pool.close().await;
    Ok(())
}
