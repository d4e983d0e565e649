//! Some commands on one host: `cargo run --example quickstart -- HOST [SSH_CONFIG]`

use std::time::Duration;

use sshpool::{Error, Host, Pool, PoolConfig};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut host = Host::new(args.next().unwrap_or("web1".to_owned()))?;
    if let Some(ssh_config) = args.next() {
        host = host.config_file(ssh_config)?;
    }
    let pool = Pool::new(PoolConfig::from_env()?)?;

    // Shell text in, what it printed out. The first command logs in, the others do not.
    println!("{}", pool.exec(&host, "echo one; echo two | tr a-z A-Z").await?);

    // A status other than 0 is an error that knows it.
    match pool.exec(&host, "ls /no/such/directory").await {
        Err(Error::Failed { code, .. }) => println!("ls ended with {code}"),
        other => println!("{other:?}"),
    }

    // A program and its arguments, which arrive as they are here.
    let command = pool.command(&host, "printf").args(["%s|", "it's", "$HOME", "a  b"]);
    let output = command.timeout(Duration::from_secs(15)).output().await?;
    println!("{} {}", output.status, String::from_utf8(output.stdout)?);

    // Streams, while the command runs.
    let mut sort = pool.shell(&host, "sort -n").stdin("10\n9\n").spawn().await?;
    let mut lines = String::new();
    sort.stdout.take().expect("not taken yet").read_to_string(&mut lines).await?;
    println!("{:?} {}", lines, sort.wait().await?);

    println!("{} logins, {} commands", pool.stats().connects, pool.stats().commands_run);
    pool.close().await;
    Ok(())
}
