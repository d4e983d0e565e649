//! The order in which people count: web2 comes before web10.

use std::cmp::Ordering;

use super::notation::MOST_DIGITS;

/// A stretch of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Number(Number),
}

/// Digits as they are written: their value, and how many they are. With leading zeros they are more
/// than the value needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number {
    pub value: u64,
    pub digits: usize,
}

/// A name in its parts. Digits that are too many for a number are text.
pub(super) fn parts(name: &str) -> Vec<Part<'_>> {
    let is_digit = |c: char| c.is_ascii_digit();
    let (mut parts, mut rest) = (Vec::new(), name);
    while let Some(first) = rest.chars().next() {
        let end = if is_digit(first) {
            rest.find(|c| !is_digit(c)).unwrap_or(rest.len())
        } else {
            rest.find(is_digit).unwrap_or(rest.len())
        };
        let (part, after) = rest.split_at(end);
        rest = after;
        let number =
            (is_digit(first) && part.len() <= MOST_DIGITS).then(|| part.parse().ok()).flatten();
        parts.push(match number {
            Some(value) => Part::Number(Number { value, digits: part.len() }),
            None => Part::Text(part),
        });
    }
    parts
}

/// Compares two names as people would. Only the same name is equal.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_parts, b_parts) = (parts(a), parts(b));
    let order = a_parts.iter().zip(&b_parts).map(|(a, b)| match (a, b) {
        (Part::Number(a), Part::Number(b)) => a.cmp(b),
        (Part::Text(a), Part::Text(b)) => a.cmp(b),
        (Part::Number(_), Part::Text(_)) => Ordering::Less,
        (Part::Text(_), Part::Number(_)) => Ordering::Greater,
    });
    order
        .into_iter()
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a_parts.len().cmp(&b_parts.len()).then_with(|| a.cmp(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let ordered = [
            "1",
            "2",
            "10",
            "a",
            "a1",
            "a01",
            "a2",
            "a10",
            "a10b2",
            "a10b10",
            "b",
            "b1.c",
            "b1.d",
            "b2",
            "b99999999999999999999",
        ];
        let mut names: Vec<&str> = ordered.iter().rev().copied().collect();
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ordered);
    }
}
