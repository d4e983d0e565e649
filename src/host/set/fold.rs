//! Writing: many names as few words with ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::natural::{Number, Part, compare, parts};

/// The numbers that stand in one place of a name.
type Numbers = BTreeSet<Number>;

/// Writes names with ranges, in the order in which people count: `db1,web[1-3,5]`. Read as a
/// [`HostSet`](super::HostSet) it is the same hosts again; a name that is given twice is there
/// once.
///
/// ```
/// assert_eq!(sshpool::fold(["web10", "db1", "web9", "web8"]), "db1,web[8-10]");
/// ```
pub fn fold<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<S> = names.into_iter().collect();
    // Names that differ in nothing but their numbers.
    let mut alike: BTreeMap<Vec<&str>, BTreeSet<Vec<Number>>> = BTreeMap::new();
    let mut words: BTreeSet<(Name, String)> = BTreeSet::new();
    for name in names.iter().map(AsRef::as_ref) {
        // The digits of an IPv6 address are not decimal ones, nor those of a URI, and brackets are
        // the name's own.
        if name.matches(':').count() > 1 || name.contains(['[', ']', '%']) {
            words.insert((Name(name.to_owned()), name.to_owned()));
            continue;
        }
        let (texts, numbers) = split(name);
        alike.entry(texts).or_default().insert(numbers);
    }
    for (texts, members) in &alike {
        for block in blocks(members) {
            let first = word(texts, &block, |numbers| written(numbers.first()));
            words.insert((Name(first), word(texts, &block, ranges)));
        }
    }
    words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

/// A name in the order in which people count.
#[derive(PartialEq, Eq)]
struct Name(String);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The numbers of a name and what stands before, between and behind them: one text more than
/// numbers.
fn split(name: &str) -> (Vec<&str>, Vec<Number>) {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    let mut start = 0;
    let mut at = 0;
    for part in parts(name) {
        match part {
            Part::Text(text) => at += text.len(),
            Part::Number(number) => {
                texts.push(&name[start..at]);
                numbers.push(number);
                at += number.digits;
                start = at;
            }
        }
    }
    texts.push(&name[start..]);
    (texts, numbers)
}

/// Puts members together that differ in one place only, place by place. Each is in one block, and a
/// block has nothing that is no member.
fn blocks(members: &BTreeSet<Vec<Number>>) -> Vec<Vec<Numbers>> {
    let mut blocks: Vec<Vec<Numbers>> = members
        .iter()
        .map(|member| member.iter().map(|number| Numbers::from([*number])).collect())
        .collect();
    let places = blocks.first().map_or(0, Vec::len);
    for place in (0..places).rev() {
        let mut merged: BTreeMap<Vec<Numbers>, Numbers> = BTreeMap::new();
        for mut block in blocks {
            let here = std::mem::take(&mut block[place]);
            merged.entry(block).or_default().extend(here);
        }
        let whole = |(mut block, here): (Vec<Numbers>, Numbers)| {
            block[place] = here;
            block
        };
        blocks = merged.into_iter().map(whole).collect();
    }
    blocks
}

fn word(texts: &[&str], block: &[Numbers], show: impl Fn(&Numbers) -> String) -> String {
    let (first, rest) = texts.split_first().expect("there is one text more than numbers");
    let numbers = block.iter().zip(rest).map(|(numbers, text)| show(numbers) + text);
    std::iter::once((*first).to_owned()).chain(numbers).collect()
}

/// One number as it is, several in brackets.
fn ranges(numbers: &Numbers) -> String {
    if numbers.len() == 1 {
        return written(numbers.first());
    }
    let mut runs: Vec<(Number, Number)> = Vec::new();
    // The run that may go on, for each number of digits with leading zeros and for those without: a
    // range has either.
    let mut open: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for number in numbers.iter().copied() {
        let kind = is_padded(number).then_some(number.digits);
        let of_kind = |kind| {
            open.get(&kind).copied().filter(|run: &usize| runs[*run].1.value + 1 == number.value)
        };
        // 09 is followed by 10, which has no leading zero by itself.
        match of_kind(Some(number.digits))
            .or_else(|| if kind.is_none() { of_kind(None) } else { None })
        {
            Some(run) => runs[run].1 = number,
            None => {
                open.insert(kind, runs.len());
                runs.push((number, number));
            }
        }
    }
    let mut text = String::from("[");
    for (first, last) in runs {
        if text.len() > 1 {
            text.push(',');
        }
        text += &written(Some(&first));
        if first != last {
            write!(text, "-{}", written(Some(&last))).expect("writing to a String cannot fail");
        }
    }
    text + "]"
}

fn is_padded(number: Number) -> bool {
    number.digits > 1 && number.value < 10_u64.pow(number.digits as u32 - 1)
}

fn written(number: Option<&Number>) -> String {
    number.map_or_else(String::new, |Number { value, digits }| format!("{value:0digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(&[], "")]
    #[case::one(&["web1"], "web1")]
    #[case::no_numbers(&["db", "bastion"], "bastion,db")]
    #[case::twice(&["web1", "web1"], "web1")]
    #[case::range(&["web3", "web1", "web2"], "web[1-3]")]
    #[case::gaps(&["web1", "web2", "web5", "web7", "web8", "web9"], "web[1-2,5,7-9]")]
    #[case::zeros(&["web08", "web09", "web10", "web11"], "web[08-11]")]
    #[case::no_zeros(&["web8", "web9", "web10", "web11"], "web[8-11]")]
    #[case::past_the_zeros(&["web98", "web099", "web100", "web99"], "web[98-99,099-100]")]
    #[case::with_and_without(&["web1", "web01", "web2", "web02"], "web[1-2,01-02]")]
    #[case::zero(&["web0", "web1", "web00"], "web[0-1,00]")]
    #[case::two_places(&["r1n1", "r1n2", "r2n1", "r2n2"], "r[1-2]n[1-2]")]
    #[case::no_block(&["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1")]
    #[case::order(&["web10", "web2.lan", "web9", "db1"], "db1,web2.lan,web[9-10]")]
    #[case::addresses(&["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"], "10.0.[0-1].[1-2]")]
    #[case::v6(&["::1", "::2", "[::1]:22", "[::1]:23"], "::1,::2,[::1]:22,[::1]:23")]
    #[case::destinations(
        &["deploy@web1:22", "deploy@web2:22", "deploy@web1:23"],
        "deploy@web1:[22-23],deploy@web2:22"
    )]
    #[case::only_numbers(&["1", "2", "3"], "[1-3]")]
    #[case::brackets(&["[a1:b]", "[a2:b]", "[a1:b]:22"], "[a1:b],[a1:b]:22,[a2:b]")]
    #[case::uris(&["ssh://a%20b@h1", "ssh://a%20b@h2"], "ssh://a%20b@h1,ssh://a%20b@h2")]
    #[case::any_names(&["a+b2", "a+b1", "ü1", "ü2"], "a+b[1-2],ü[1-2]")]
    #[case::too_long(
        &["n12345678901234567890", "n12345678901234567891"],
        "n12345678901234567890,n12345678901234567891"
    )]
    fn names_are_folded(#[case] names: &[&str], #[case] expected: &str) {
        assert_eq!(fold(names), expected);
    }
}
