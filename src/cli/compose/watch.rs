//! What goes on until it is ended: `events` and `stats`, of all hosts at once, line by line.

use futures_util::future::try_join_all;

use super::failure;
use crate::cli::failure::Failure;
use crate::cli::output::{complain, print};
use crate::docker::Action;
use crate::host::Host;
use tokio::sync::Mutex;

/// Prints their lines until all have ended, and gives the status to end with.
pub(super) async fn watch(actions: &[(&Host, Action)], json: bool) -> Result<u8, Failure> {
    let several = actions.len() > 1;
    let place = Mutex::new(());
    let each = actions.iter().map(|(host, action)| async {
        match lines_of(host, action.clone(), json, several, &place).await {
            Ok(()) => Ok(0),
            // The others go on.
            Err(Failure::Host { text, status, .. }) => {
                complain(format_args!("{}: {text}", host.name()));
                Ok(status)
            }
            Err(other) => Err(other),
        }
    });
    Ok(try_join_all(each).await?.into_iter().max().unwrap_or(0))
}

async fn lines_of(
    host: &Host,
    action: Action,
    json: bool,
    several: bool,
    place: &Mutex<()>,
) -> Result<(), Failure> {
    let failed = |error| failure(host, &error).limited_by("--timeout");
    let mut lines = action.stream().await.map_err(failed)?;
    while let Some(line) = lines.next().await.map_err(failed)? {
        let line = match (json, several) {
            (true, _) => match with_host(host.name(), &line) {
                Some(line) => line,
                // A notice of whoever does it.
                None => continue,
            },
            (false, true) => format!("{}: {line}", host.name()),
            (false, false) => line,
        };
        let _turn = place.lock().await;
        print(&line).await?;
    }
    Ok(())
}

/// The object with the host before all that Compose has in it. `None` for what is no object.
fn with_host(host: &str, line: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).ok().map(|object| {
        let host = serde_json::Value::from(host);
        let rest = line.trim_start().strip_prefix('{').unwrap_or_default().trim_start();
        let comma = if object.is_empty() { "" } else { "," };
        format!("{{\"host\":{host}{comma}{rest}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("{\"b\":1,\"a\":[2]}", Some("{\"host\":\"h\\\"1\",\"b\":1,\"a\":[2]}"))]
    #[case(" { } ", Some("{\"host\":\"h\\\"1\"} "))]
    #[case("[1]", None)]
    #[case("{\"a\":", None)]
    #[case("a notice", None)]
    fn the_host_stands_in_the_object(#[case] line: &str, #[case] expected: Option<&str>) {
        assert_eq!(with_host("h\"1", line).as_deref(), expected);
    }
}
