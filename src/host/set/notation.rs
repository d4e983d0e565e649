//! Reading: words, and what the ranges in their brackets stand for.

use super::{HostSetError, MOST_HOSTS};
use crate::host::{Host, encoded, shortened};

/// What a word stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A destination, in the one way that it is written here.
    Host(String),
    /// The name of a group, without its `@`.
    Group(String),
}

/// Reads words between commas or blanks.
pub(crate) fn read(text: &str) -> Result<Vec<Item>, HostSetError> {
    let mut items = Vec::new();
    for word in words(text)? {
        let pattern = Pattern::read(word)?;
        if items.len() + pattern.count > MOST_HOSTS {
            return Err(HostSetError::TooMany { word: shortened(word) });
        }
        for place in 0..pattern.count {
            let word = pattern.at(place);
            items.push(match word.strip_prefix('@') {
                Some(name) => Item::Group(name.to_owned()),
                None => Item::Host(written(&word.parse()?)?),
            });
        }
    }
    Ok(items)
}

/// The one way to write a destination. It is read as the same again, and is one word of the
/// notation: as a URI where its user has a comma, a blank or a bracket.
fn written(host: &Host) -> Result<String, HostSetError> {
    let place = match host.get_port() {
        // The key puts a name with colons into brackets.
        Some(_) => host.key().to_string(),
        None if is_read_as_name(host.name()) => host.name().to_owned(),
        None => format!("[{}]", host.name()),
    };
    let Some(user) = host.get_user() else { return of_one_word(place, host) };
    let plain = format!("{user}@{place}");
    of_one_word(plain, host)
        .or_else(|_| of_one_word(format!("ssh://{}@{place}", encoded(user)), host))
}

fn is_read_as_name(name: &str) -> bool {
    name.parse::<Host>().is_ok_and(|host| host.name() == name && host.get_port().is_none())
}

/// The word, if it stands for this host and nothing else.
fn of_one_word(word: String, host: &Host) -> Result<String, HostSetError> {
    let is_one = !word.starts_with('@')
        && words(&word).is_ok_and(|words| words == [&*word])
        && Pattern::read(&word).is_ok_and(|pattern| pattern.count == 1 && pattern.at(0) == word)
        && word.parse::<Host>().is_ok_and(|again| again == *host);
    match is_one {
        true => Ok(word),
        false => Err(wrong(
            &word,
            "it cannot stand among others: give it a name of its own in the ssh_config",
        )),
    }
}

fn wrong(word: &str, reason: impl Into<String>) -> HostSetError {
    HostSetError::Notation { word: shortened(word), reason: reason.into() }
}

/// A comma within brackets does not part words.
fn words(text: &str) -> Result<Vec<&str>, HostSetError> {
    let mut words = Vec::new();
    let (mut start, mut open) = (0, None);
    for (at, c) in text.char_indices() {
        match c {
            '[' if open.is_some() => {
                return Err(wrong(word_from(text, start), "brackets within brackets"));
            }
            '[' => open = Some(at),
            ']' if open.is_none() => {
                return Err(wrong(
                    word_from(text, start),
                    "a bracket is closed that was not opened",
                ));
            }
            ']' => open = None,
            c if open.is_none() && (c == ',' || c.is_whitespace()) => {
                words.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if open.is_some() {
        return Err(wrong(word_from(text, start), "a bracket is not closed"));
    }
    words.push(&text[start..]);
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// What an error shows of a word whose end is not known.
fn word_from(text: &str, start: usize) -> &str {
    const LONGEST: usize = 80;
    let rest = text[start..].split(char::is_whitespace).next().unwrap_or_default();
    rest.char_indices().nth(LONGEST).map_or(rest, |(end, _)| &rest[..end])
}

/// A word in its pieces.
struct Pattern<'a> {
    pieces: Vec<Piece<'a>>,
    /// How many words it stands for.
    count: usize,
}

enum Piece<'a> {
    Text(&'a str),
    Numbers(Vec<String>),
}

impl<'a> Pattern<'a> {
    fn read(word: &'a str) -> Result<Self, HostSetError> {
        let (mut pieces, mut count, mut rest) = (Vec::new(), 1, word);
        while let Some((text, (inside, after))) =
            rest.split_once('[').and_then(|(text, rest)| Some((text, rest.split_once(']')?)))
        {
            if inside.contains(':') {
                // An IPv6 address: it stays as it is.
                pieces.push(Piece::Text(&rest[..rest.len() - after.len()]));
            } else {
                let numbers = numbers(word, inside, MOST_HOSTS / count)?;
                count *= numbers.len();
                pieces.extend([Piece::Text(text), Piece::Numbers(numbers)]);
            }
            rest = after;
        }
        pieces.push(Piece::Text(rest));
        Ok(Pattern { pieces, count })
    }

    /// One of the words. The last brackets go round first.
    fn at(&self, mut place: usize) -> String {
        let mut chosen = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces.iter().rev() {
            chosen.push(match piece {
                Piece::Text(text) => *text,
                Piece::Numbers(numbers) => {
                    let number = &*numbers[place % numbers.len()];
                    place /= numbers.len();
                    number
                }
            });
        }
        chosen.reverse();
        chosen.concat()
    }
}

/// What the brackets of `word` have inside, at most so many.
fn numbers(word: &str, inside: &str, most: usize) -> Result<Vec<String>, HostSetError> {
    let mut all = Vec::new();
    for part in inside.split(',').map(str::trim) {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, number(word, part, step)?),
            None => (part, 1),
        };
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (number(word, part, low)?, number(word, part, high)?);
        if from > to {
            return Err(wrong(word, format!("{part} goes down: write the smaller number first")));
        }
        if step == 0 {
            return Err(wrong(word, format!("{part} never gets on: write a step of 1 or more")));
        }
        if high.len() > 1 && high.starts_with('0') && high.len() != low.len() {
            return Err(wrong(word, format!("{part} has leading zeros on one side only")));
        }
        let count = (to - from) / step + 1;
        if usize::try_from(count).is_ok_and(|count| count > most.saturating_sub(all.len())) {
            return Err(HostSetError::TooMany { word: shortened(word) });
        }
        let width = if low.starts_with('0') { low.len() } else { 0 };
        all.extend((0..count).map(|nth| format!("{:0width$}", from + nth * step)));
    }
    Ok(all)
}

/// Longer ones would not fit into 64 bits.
pub(super) const MOST_DIGITS: usize = 18;

fn number(word: &str, part: &str, digits: &str) -> Result<u64, HostSetError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(
            word,
            format!(
                "{:?} is no number and no range: brackets have such as [1-3,7] or [01-20]",
                shortened(part)
            ),
        ));
    }
    if digits.len() > MOST_DIGITS {
        return Err(wrong(
            word,
            format!("{} has more than {MOST_DIGITS} digits", shortened(digits)),
        ));
    }
    Ok(digits.parse().expect("so few digits fit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn hosts(text: &str) -> Vec<String> {
        let item = |item| match item {
            Item::Host(host) => host,
            Item::Group(name) => format!("group {name}"),
        };
        read(text).unwrap_or_else(|error| panic!("{text}: {error}")).into_iter().map(item).collect()
    }

    #[rstest]
    #[case::nothing(" , ,\n", &[])]
    #[case::plain("web1,db1  mail\n", &["web1", "db1", "mail"])]
    #[case::range("web[1-3]", &["web1", "web2", "web3"])]
    #[case::list("web[1,3,5-7]", &["web1", "web3", "web5", "web6", "web7"])]
    #[case::blanks_inside("web[1, 3 ]", &["web1", "web3"])]
    #[case::zeros("web[08-11]", &["web08", "web09", "web10", "web11"])]
    #[case::longer_end("web[8-11]", &["web8", "web9", "web10", "web11"])]
    #[case::past_the_zeros(
        "web[98-101],n[098-101]",
        &["web98", "web99", "web100", "web101", "n098", "n099", "n100", "n101"]
    )]
    #[case::zero("web[0-2]", &["web0", "web1", "web2"])]
    #[case::two_zeros("web[00-01]", &["web00", "web01"])]
    #[case::steps("web[0-8/4,1-4/2]", &["web0", "web4", "web8", "web1", "web3"])]
    #[case::several("r[1-2]n[1-2].lan", &["r1n1.lan", "r1n2.lan", "r2n1.lan", "r2n2.lan"])]
    #[case::side_by_side("n[1-2][3-4]", &["n13", "n14", "n23", "n24"])]
    #[case::numbers_only("[1-2]", &["1", "2"])]
    #[case::one("web[7]", &["web7"])]
    #[case::destination("deploy@web[1-2]:2222", &["deploy@web1:2222", "deploy@web2:2222"])]
    #[case::users_and_ports("u[1-2]@h:[1-2]", &["u1@h:1", "u1@h:2", "u2@h:1", "u2@h:2"])]
    #[case::addresses("10.0.[0-1].[1-2]", &["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"])]
    #[case::v6(
        "[::1],[::1]:2222,me@[fe80::1%eth0]:22,::2",
        &["::1", "[::1]:2222", "me@[fe80::1%eth0]:22", "::2"]
    )]
    #[case::v6_range("fe80::[1-2]", &["fe80::1", "fe80::2"])]
    #[case::v6_and_ports("[::1]:[22-23]", &["[::1]:22", "[::1]:23"])]
    #[case::one_way_to_write("web1:022", &["web1:22"])]
    #[case::any_name(
        "a+b,x^y ünï a~b a=b a/b a%b",
        &["a+b", "x^y", "ünï", "a~b", "a=b", "a/b", "a%b"]
    )]
    #[case::names_with_colons("[a:b],[a:b]:22,a:b:c", &["[a:b]", "[a:b]:22", "a:b:c"])]
    #[case::any_user(
        "lab:x@h1,a#b@h[1-2]:22,a%b@h1",
        &["lab:x@h1", "a#b@h1:22", "a#b@h2:22", "a%b@h1"]
    )]
    #[case::uris("ssh://lab@h[1-2]:22,ssh://h1", &["lab@h1:22", "lab@h2:22", "h1"])]
    #[case::users_in_uris("ssh://a+b@h1,ssh://a%2Cb%5b1%5D@h1:22,ssh://%40a@h1", &[
        "ssh://a%20b@h1", "ssh://a%2Cb%5B1%5D@h1:22", "ssh://%40a@h1",
    ])]
    #[case::groups("@web,@rack[1-2]", &["group web", "group rack1", "group rack2"])]
    fn what_words_stand_for(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(hosts(text), expected);
    }

    #[rstest]
    #[case("web[1-", "invalid hosts \"web[1-\": a bracket is not closed")]
    #[case("a web1]", "invalid hosts \"web1]\": a bracket is closed that was not opened")]
    #[case("web[[1-2]]", "invalid hosts \"web[[1-2]]\": brackets within brackets")]
    #[case(
        "web[]",
        "invalid hosts \"web[]\": \"\" is no number and no range: brackets have such as [1-3,7] or \
            [01-20]"
    )]
    #[case(
        "web[1-2,]",
        "invalid hosts \"web[1-2,]\": \"\" is no number and no range: brackets have such as \
            [1-3,7] or [01-20]"
    )]
    #[case(
        "web[a-c]",
        "invalid hosts \"web[a-c]\": \"a-c\" is no number and no range: brackets have such as \
            [1-3,7] or [01-20]"
    )]
    #[case(
        "[web1]",
        "invalid hosts \"[web1]\": \"web1\" is no number and no range: brackets have such as \
            [1-3,7] or [01-20]"
    )]
    #[case(
        "web[1-2-3]",
        "invalid hosts \"web[1-2-3]\": \"1-2-3\" is no number and no range: brackets have such as \
            [1-3,7] or [01-20]"
    )]
    #[case("web[5-3]", "invalid hosts \"web[5-3]\": 5-3 goes down: write the smaller number first")]
    #[case(
        "web[1-9/0]",
        "invalid hosts \"web[1-9/0]\": 1-9/0 never gets on: write a step of 1 or more"
    )]
    #[case("web[1-020]", "invalid hosts \"web[1-020]\": 1-020 has leading zeros on one side only")]
    #[case(
        "web[1-1000000000000000000]",
        "invalid hosts \"web[1-1000000000000000000]\": 1000000000000000000 has more than 18 digits"
    )]
    #[case("web[0-65536]", "\"web[0-65536]\" makes it more than 65536 hosts")]
    #[case("a,web[1-256][0-256]", "\"web[1-256][0-256]\" makes it more than 65536 hosts")]
    #[case("a,web[1-65536]", "\"web[1-65536]\" makes it more than 65536 hosts")]
    #[case(
        "web[0-999999999999999999]",
        "\"web[0-999999999999999999]\" makes it more than 65536 hosts"
    )]
    #[case(
        "a;b[1-2]",
        "invalid host name \"a;b1\": it must not contain ';'; \
         give the host a name without it, by Host and HostName in the ssh_config"
    )]
    #[case("-o[1-2]", "invalid host name \"-o1\": it must not start with \"-\"")]
    #[case("web:[0-1]", "invalid port \"0\": expected a number from 1 to 65535")]
    fn what_is_wrong_is_said(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(read(text).expect_err("it is wrong").to_string(), expected);
    }
}
