//! How what was done beside the commands of a round has ended.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

/// The ends by their names, and what was not as it has to be.
#[derive(Default)]
pub struct Ends {
    pub ends: BTreeMap<&'static str, usize>,
    pub failures: Vec<String>,
}

impl Ends {
    pub fn count(&mut self, end: &'static str) {
        *self.ends.entry(end).or_default() += 1;
    }

    /// Those of all these tasks, when they have ended.
    pub async fn of(mut tasks: JoinSet<Ends>) -> Ends {
        let mut all = Ends::default();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok(Ends { ends, failures }) => {
                    for (end, count) in ends {
                        *all.ends.entry(end).or_default() += count;
                    }
                    all.failures.extend(failures);
                }
                Err(error) => all.failures.push(format!("it panicked: {error}")),
            }
        }
        all
    }
}
