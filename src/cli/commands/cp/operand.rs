//! What stands on the command line: a file here, files of hosts, or a standard stream.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cli::args::text_of;
use crate::cli::failure::Failure;
use crate::files::FileError;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Local(PathBuf),
    Remote { hosts: String, path: PathBuf },
    Stream,
}

impl Operand {
    /// As scp reads it: a colon makes it a file of a host, unless a slash stands before it.
    /// Brackets are those of an address or of a range, and a colon within them is none.
    pub(super) fn read(word: &OsStr) -> Result<Self, Failure> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Ok(Operand::Stream);
        }
        if bytes.is_empty() {
            return Err(Failure::Usage("\"\" is not the name of a file".to_owned()));
        }
        let mut depth = 0;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'[' => depth += 1,
                b']' => depth -= 1,
                b'/' => break,
                b':' if depth == 0 && at > 0 => {
                    let hosts = text_of("a host", OsStr::from_bytes(&bytes[..at]))?;
                    let path = home(&bytes[at + 1..]);
                    let path = PathBuf::from(OsStr::from_bytes(path));
                    return Ok(Operand::Remote { hosts: hosts.to_owned(), path });
                }
                _ => {}
            }
        }
        Ok(Operand::Local(word.into()))
    }
}

/// Commands begin in the home of the account. Other people's homes nobody looks for.
fn home(path: &[u8]) -> &[u8] {
    match path {
        b"" | b"~" => b".",
        _ => path.strip_prefix(b"~/").filter(|rest| !rest.is_empty()).unwrap_or(path),
    }
}

/// Where the files of one of several hosts go.
pub(super) fn directory_of(to: &Path, label: &str) -> Result<PathBuf, FileError> {
    let directory = to.join(label.replace('%', "%25").replace('/', "%2F"));
    match std::fs::create_dir_all(&directory) {
        Ok(()) => Ok(directory),
        Err(error) => Err(FileError::local(&directory, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("web1:/etc/motd", "web1", "/etc/motd")]
    #[case("deploy@web1:a:b", "deploy@web1", "a:b")]
    #[case("web[1-3]:x", "web[1-3]", "x")]
    #[case("@web:x", "@web", "x")]
    #[case("[::1]:x", "[::1]", "x")]
    #[case("web1:", "web1", ".")]
    #[case("web1:~", "web1", ".")]
    #[case("web1:~/x", "web1", "x")]
    #[case("web1:-x", "web1", "-x")]
    fn a_file_of_a_host(#[case] word: &str, #[case] hosts: &str, #[case] path: &str) {
        let expected = Operand::Remote { hosts: hosts.to_owned(), path: path.into() };
        assert_eq!(Operand::read(word.as_ref()).ok(), Some(expected));
    }

    #[rstest]
    #[case("./a:b")]
    #[case("/x/a:b")]
    #[case(":b")]
    #[case("a b")]
    #[case("-x")]
    fn a_file_here(#[case] word: &str) {
        let expected = Operand::Local(word.into());
        assert_eq!(Operand::read(word.as_ref()).ok(), Some(expected));
        assert_eq!(Operand::read("-".as_ref()).ok(), Some(Operand::Stream));
        assert!(Operand::read("".as_ref()).is_err());
    }
}
