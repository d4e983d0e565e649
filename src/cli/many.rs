//! Answers of many hosts: asked at once, shown as a table or as JSON.

use std::num::NonZeroUsize;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::table::aligned;
use super::output::{complain, print, print_json};
use crate::fleet::on_each;
use crate::host::Host;

#[derive(Debug, Args)]
pub(super) struct Many {
    /// Print one JSON array, with an object for each host
    #[arg(long)]
    json: bool,

    /// How many hosts are asked at once
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZeroUsize,
}

/// An answer of one host, as `--json` prints it.
#[derive(Serialize)]
pub(super) struct Answer<T> {
    pub host: String,
    /// Why there is none.
    pub error: Option<String>,
    #[serde(flatten)]
    pub found: Option<T>,
    /// For this program to end with.
    #[serde(skip)]
    status: u8,
}

impl Many {
    /// Asks all hosts at once. What one of them cannot answer is in its place; wrong usage ends it
    /// all.
    pub(super) async fn ask<'a, T, F: Future<Output = Result<T, Failure>>>(
        &self,
        hosts: &'a [Host],
        question: impl Fn(&'a Host) -> F,
    ) -> Result<Vec<Answer<T>>, Failure> {
        let found = on_each(hosts, self.concurrency, question).await;
        let answers = hosts.iter().zip(found).map(|(host, found)| {
            let host = host.name().to_owned();
            match found {
                Ok(found) => Ok(Answer { host, error: None, found: Some(found), status: 0 }),
                Err(Failure::Host { text, status, .. }) => {
                    Ok(Answer { host, error: Some(text), found: None, status })
                }
                Err(other) => Err(other),
            }
        });
        answers.collect()
    }

    /// Prints the answers, complains of those that are missing, and gives the status to end with.
    pub(super) async fn show<T: Serialize>(
        &self,
        answers: &[Answer<T>],
        text: impl Fn(&[Answer<T>]) -> String,
    ) -> Result<u8, Failure> {
        if self.json {
            print_json(&answers).await?;
        } else {
            if answers.iter().any(|answer| answer.found.is_some()) {
                print(&text(answers)).await?;
            }
            for answer in answers {
                if let Some(error) = &answer.error {
                    complain(format_args!("{}: {error}", answer.host));
                }
            }
        }
        Ok(answers.iter().map(|answer| answer.status).max().unwrap_or(0))
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }
}

/// A table of what was found, with the host before each row if there are several.
pub(super) fn rows<'a, T, R: 'a>(
    answers: &'a [Answer<T>],
    columns: &[&str],
    items: impl Fn(&'a T) -> &'a [R],
    row: impl Fn(&R) -> Vec<String>,
) -> String {
    let several = answers.len() > 1;
    let with_host = |host: &str, mut cells: Vec<String>| {
        if several {
            cells.insert(0, host.to_owned());
        }
        cells
    };
    let mut table =
        vec![with_host("HOST", columns.iter().map(|column| (*column).to_owned()).collect())];
    for answer in answers {
        let items = answer.found.iter().flat_map(&items);
        table.extend(items.map(|item| with_host(&answer.host, row(item))));
    }
    aligned(&table)
}
