//! Advice on a name that is not known: the nearest one that is.

/// Names the nearest of `known`, if one is near, and else all of them.
pub(super) fn advice(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|known| distance(name, known));
    match nearest {
        // Close enough for a slip of the hand: one character in three at most.
        Some(nearest) if distance(name, nearest) * 3 <= name.chars().count() => {
            format!("did you mean \"{nearest}\"?")
        }
        _ => format!("expected one of {}", known.join(", ")),
    }
}

/// How many characters have to be inserted, removed or changed to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", "", 0)]
    #[case("abc", "abc", 0)]
    #[case("", "abc", 3)]
    #[case("abc", "", 3)]
    #[case("kitten", "sitting", 3)]
    #[case("ä", "a", 1)]
    fn distances(#[case] a: &str, #[case] b: &str, #[case] expected: usize) {
        assert_eq!(distance(a, b), expected);
    }
}
