//! Text for people and programs: what goes to stdout and stderr, and how it looks.
//!
//! Writing never panics and never blocks for ever: nobody may be there to read.

pub(super) mod colour;
pub(super) mod messages;
pub(super) mod stdio;
pub(super) mod table;
pub(super) mod watched;

pub(super) use messages::complain;

use super::failure::{Failure, cannot_print};

/// One object on stdout.
pub(super) async fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).expect("the reports have text keys and finite numbers");
    print(&text).await
}

/// A line on stdout.
pub(super) async fn print(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n")).await
}

/// Writes to stdout. Signals are heard meanwhile: whoever is to read may never do so.
pub(super) async fn write(text: impl Into<Vec<u8>>) -> Result<(), Failure> {
    use tokio::io::AsyncWriteExt;
    let mut stdout = tokio::io::stdout();
    let written = async {
        stdout.write_all(&text.into()).await?;
        stdout.flush().await
    };
    written.await.map_err(|error| cannot_print(&error))
}
