//! What sudo writes until the command begins: its question, the sign that the command has begun,
//! and words of its own.

use super::text::Signs;

/// The longest that is kept of what sudo has to say. A lecture has some hundred bytes.
const MOST: usize = 64 * 1024;

/// What sudo-rs puts around the prompt that it was given.
const AROUND: (&[u8], &[u8]) = (b"[sudo: ", b"] Password: \n");

/// Looks for sudo's question and for the sign, in what comes on stderr.
pub(super) struct Conversation {
    prompt: Vec<u8>,
    begin: Vec<u8>,
    /// What was read and is neither.
    words: Vec<u8>,
    /// Where the end of sudo-rs's question is to stand, which may come later than its prompt.
    rest: Option<usize>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing as yet.
    More,
    /// sudo asks for the password.
    Question,
    /// The command has begun, and this is what it is to be ended by.
    Begun(String),
}

impl Conversation {
    pub(super) fn new(signs: &Signs) -> Self {
        let (prompt, begin) = (signs.prompt().into_bytes(), signs.begin().into_bytes());
        Conversation { prompt, begin, words: Vec::new(), rest: None }
    }

    /// Takes what was read, and gives what is in it: to be called again, with nothing, until there
    /// is no more.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Said {
        self.words.extend_from_slice(bytes);
        if let Some(at) = self.rest
            && self.words[at..].len() >= AROUND.1.len()
        {
            self.rest = None;
            if self.words[at..].starts_with(AROUND.1) {
                self.words.drain(at..at + AROUND.1.len());
            }
        }
        let question = find(&self.words, &self.prompt);
        let begin = find(&self.words, &self.begin);
        // The command itself may print what looks like a question.
        if let Some(at) = question.filter(|at| begin.is_none_or(|begin| *at < begin)) {
            self.words.drain(at..at + self.prompt.len());
            if self.words[..at].ends_with(AROUND.0) {
                let from = at - AROUND.0.len();
                self.words.drain(from..at);
                self.rest = Some(from);
            }
            return Said::Question;
        }
        let Some(at) = begin else {
            let excess = self.words.len().saturating_sub(MOST);
            self.words.drain(..excess);
            return Said::More;
        };
        let from = at + self.begin.len();
        let Some(end) = find(&self.words[from..], b"\n") else { return Said::More };
        let number = String::from_utf8_lossy(&self.words[from..from + end]).into_owned();
        self.words.drain(at..=from + end);
        Said::Begun(number)
    }

    /// All that was not for us.
    pub(super) fn words(self) -> Vec<u8> {
        self.words
    }

    /// Whether somebody else waits for an answer: the last line has no end.
    pub(super) fn asks(&self) -> bool {
        self.rest.is_none() && self.words.last().is_some_and(|byte| *byte != b'\n')
    }

    /// The last line that says something.
    pub(super) fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.words);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        line.unwrap_or_default().to_owned()
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|at| at == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is found in these pieces, and what is left.
    fn all(pieces: &[&str]) -> (Vec<Said>, String) {
        let signs = Signs::new();
        let mut conversation = Conversation::new(&signs);
        let mut found = Vec::new();
        for piece in pieces {
            let piece = piece.replace("PROMPT", &signs.prompt()).replace("BEGIN ", &signs.begin());
            let mut bytes = piece.as_bytes();
            loop {
                match conversation.take(bytes) {
                    Said::More => break,
                    said => found.push(said),
                }
                bytes = b"";
            }
        }
        (found, String::from_utf8(conversation.words()).expect("it is text"))
    }

    fn begun(number: &str) -> Said {
        Said::Begun(number.to_owned())
    }

    #[test]
    fn the_question_and_the_begin_are_taken_out() {
        assert_eq!(
            all(&["a lecture\n", "PROMPTBEGIN -17\nfirst", " words"]),
            (vec![Said::Question, begun("-17")], "a lecture\nfirst words".to_owned())
        );
    }

    /// sudo-rs 0.2.5 asks so.
    #[test]
    fn a_question_may_come_in_words_and_in_pieces() {
        let whole = "[sudo: PROMPT] Password: \nBEGIN 5\nfirst";
        let found = (vec![Said::Question, begun("5")], "first".to_owned());
        assert_eq!(all(&[whole]), found);
        assert_eq!(all(&["[su", "do: PROMPT", "] Passw", "ord: ", "\n", "BEGIN 5\nfirst"]), found);
        let again = "[sudo: PROMPT] Password: \nsudo: no.\n[sudo: PROMPT] Password: \n";
        assert_eq!(all(&[again]).0, [Said::Question, Said::Question]);
        assert_eq!(all(&[again]).1, "sudo: no.\n");
    }

    #[test]
    fn what_a_command_prints_is_no_question() {
        assert_eq!(all(&["BEGIN 5\nPROMPT"]).0[0], begun("5"));
        assert_eq!(all(&["BEGIN 5"]).0, []);
    }

    #[test]
    fn words_are_kept_within_reason() {
        let long = "x".repeat(MOST);
        let (found, words) = all(&[&long, &long]);
        assert_eq!((found.len(), words.len()), (0, MOST));
    }
}
