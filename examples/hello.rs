use sshpool::{Error, Host, Pool, PoolConfig};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = Pool::new(PoolConfig::from_env()?)?;
    let web1 = Host::new("web1")?;
    println!("{}", pool.exec(&web1, "uname -s").await?); // logs in
    println!("{}", pool.exec(&web1, "echo $((6 * 7))").await?); // does not
    pool.close().await;
    Ok(())
}
