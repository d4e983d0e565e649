//! What lines of `Match` ask for.

use std::collections::BTreeSet;

use super::line;

/// What is decided by the command line, the files and the user's own name. Whatever else there is
/// may be decided by the place.
const OF_THE_FILES: &[&str] =
    &["all", "canonical", "final", "host", "localuser", "originalhost", "tagged", "user"];
const WITHOUT_ARGUMENT: &[&str] = &["all", "canonical", "final"];

/// Whether ssh comes to the same result wherever it is asked.
pub(crate) fn is_the_same_everywhere(criterion: &str) -> bool {
    OF_THE_FILES.contains(&criterion)
}

/// The criteria of the rest of a `Match` line, in small letters and without negation. Versions of
/// ssh take such a line apart in two ways: these are the criteria of both.
pub(super) fn of(rest: &[u8]) -> BTreeSet<String> {
    let new = line::arguments(rest).unwrap_or_default();
    criteria(new).chain(criteria(line::old_arguments(rest))).collect()
}

fn criteria(words: Vec<Vec<u8>>) -> impl Iterator<Item = String> {
    let mut words = words.into_iter();
    std::iter::from_fn(move || {
        let word = words.next().filter(|word| !word.starts_with(b"#"))?;
        let word = word.strip_prefix(b"!").unwrap_or(&word);
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).to_ascii_lowercase();
        if parts.next().is_none() && !WITHOUT_ARGUMENT.contains(&&*name) {
            words.next();
        }
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("all", &["all"])]
    #[case("HOST a,b !User c", &["host", "user"])]
    #[case("host=a exec=\"test -e x\"", &["exec", "host"])]
    #[case("exec \"a = b\" final", &["exec", "final"])]
    #[case("exec=x", &["exec"])]
    #[case("!exec x", &["exec"])]
    #[case("\"exec\" x", &["exec"])]
    #[case("host a # exec b", &["host"])]
    #[case("canonical host exec", &["canonical", "host"])]
    #[case("localnetwork 10.0.0.0/8", &["localnetwork"])]
    // One way to take it apart is enough.
    #[case("host 'a exec' exec b", &["b", "exec", "exec'", "host"])]
    #[case("host 'a' 'exec' b", &["'exec'", "exec", "host"])]
    #[case("", &[])]
    fn lines_of_match_have_criteria(#[case] rest: &str, #[case] expected: &[&str]) {
        assert_eq!(of(rest.as_bytes()).iter().collect::<Vec<_>>(), expected);
    }
}
