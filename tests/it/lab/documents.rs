//! Reading the documents, for tests that what they show is true.

/// The insides of the fenced blocks of this language, in the order of the text.
pub fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    let insides: Vec<_> = text
        .match_indices(&fence)
        .map(|(at, _)| {
            let inside = &text[at + fence.len()..];
            &inside[..inside.find("\n```\n").expect("a block is closed") + 1]
        })
        .collect();
    assert!(!insides.is_empty(), "there is no block of {language}");
    insides
}

/// The part from this heading to the next of the same level.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n{heading}\n")).expect("the heading is there");
    let rest = &text[start + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// `…` stands for anything within a line.
pub fn matches(expected: &str, actual: &str) -> bool {
    match expected.split_once('…') {
        None => expected == actual,
        Some((before, after)) => actual.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.take_while(|&end| !rest[..end].contains('\n'))
                .any(|end| matches(after, &rest[end..]))
        }),
    }
}
