//! What an action says as it comes, line by line.

use tokio::io::AsyncReadExt;

use super::{Action, ComposeError};
use crate::command::{Child, ChildStderr, ChildStdout};

/// A line that is longer is parted: nobody's memory is endless.
const LONGEST: usize = 1024 * 1024;
/// How much of the end of stderr is kept, to say why it failed.
const LAST_WORDS: usize = 64 * 1024;

/// The lines of an action that goes on, such as [`events`](super::Compose::events). Made by
/// [`Action::stream`].
///
/// Dropping it ends the action, here and there, as dropping a [`Child`] does.
#[derive(Debug)]
pub struct Lines {
    action: Action,
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What has come of stdout and was not given yet.
    begun: Vec<u8>,
    wrote_nothing: bool,
    last_words: Vec<u8>,
    is_over: bool,
}

impl Lines {
    pub(super) fn new(action: Action, mut child: Child) -> Self {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (begun, last_words) = (Vec::new(), Vec::new());
        let (wrote_nothing, is_over) = (true, false);
        Lines { action, child, stdout, stderr, begun, wrote_nothing, last_words, is_over }
    }

    /// The next line, without its end and without the sequences by which `stats` clears a
    /// terminal. Empty lines are left out. `None` when the action has ended well.
    ///
    /// # Errors
    ///
    /// Why it ended, if that was not well; said once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no line is lost, and the next call goes on.
    pub async fn next(&mut self) -> Result<Option<String>, ComposeError> {
        loop {
            while let Some(line) = self.take() {
                self.wrote_nothing = false;
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.is_over {
                return Ok(None);
            }
            // Both are read: a full pipe would stop it.
            tokio::select! {
                read = read(&mut self.stdout, &mut self.begun), if self.stdout.is_some() => {
                    if read == 0 {
                        self.stdout = None;
                    }
                }
                read = read(&mut self.stderr, &mut self.last_words), if self.stderr.is_some() => {
                    if read == 0 {
                        self.stderr = None;
                    }
                    let surplus = self.last_words.len().saturating_sub(LAST_WORDS);
                    self.last_words.drain(..surplus);
                }
                end = self.child.wait(), if self.stdout.is_none() && self.stderr.is_none() => {
                    self.is_over = true;
                    self.action.verdict(end?, self.wrote_nothing, &self.last_words).await?;
                }
            }
        }
    }

    /// A line that is whole, or all that is left where nothing more comes.
    fn take(&mut self) -> Option<String> {
        let end = self.begun.iter().position(|byte| *byte == b'\n');
        let line: Vec<u8> = match end {
            Some(end) => self.begun.drain(..=end).collect(),
            None if self.begun.len() >= LONGEST || self.stdout.is_none() => {
                std::mem::take(&mut self.begun)
            }
            None => return None,
        };
        (!line.is_empty()).then(|| without_sequences(&String::from_utf8_lossy(&line)))
    }
}

/// 0 at the end.
async fn read(stream: &mut Option<impl AsyncReadExt + Unpin>, into: &mut Vec<u8>) -> usize {
    match stream {
        // A pipe of ours does not fail to be read; if it does, nothing more comes from it.
        Some(stream) => stream.read_buf(into).await.unwrap_or(0),
        None => 0,
    }
}

/// The text without control sequences (`ESC [ … letter`), other escapes and control characters.
fn without_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                let is_part = |c: &char| matches!(c, ' '..='?');
                while chars.next_if(is_part).is_some() {}
                chars.next_if(|c| matches!(c, '@'..='~'));
            }
            '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain\tline \r\n", "plain\tline")]
    #[case("\u{1b}[2J\u{1b}[H{\"a\":1}\u{1b}[K\n", "{\"a\":1}")]
    #[case("\u{1b}[1;31mred\u{1b}[0m", "red")]
    #[case("\u{1b}[", "")]
    #[case("\u{1b}]0;title\u{7}", "]0;title")]
    #[case("\u{1b}[J\n", "")]
    fn lines_are_plain(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(without_sequences(text), expected);
    }
}
