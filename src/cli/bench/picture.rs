//! The file that the times are drawn into.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::cli::failure::Failure;
use crate::cli::output::plot::{Series, distributions};
use crate::text::plain;

pub(super) struct Picture {
    path: PathBuf,
}

impl Picture {
    /// Fails where the file cannot be written: that is to be known before minutes of measuring.
    /// Nothing is there that was not there before.
    pub(super) fn of(path: PathBuf) -> Result<Self, Failure> {
        match try_to_write(&path) {
            Ok(()) => Ok(Picture { path }),
            Err(error) => {
                Err(Failure::Usage(format!("cannot write {}: {}", path.display(), plain(&error))))
            }
        }
    }

    pub(super) fn draw(&self, report: &Report) -> Result<(), Failure> {
        let series: Vec<Series> = report
            .ways()
            .into_iter()
            .map(|(name, times)| Series { name: name.to_owned(), values: times.values.clone() })
            .collect();
        std::fs::write(&self.path, distributions(&report.title(), &series)).map_err(|error| {
            Failure::Output(format!("cannot write {}: {}", self.path.display(), plain(&error)))
        })
    }
}

fn try_to_write(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path),
        // Opened, it keeps what is in it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        match Picture::of(path.to_owned()) {
            Err(Failure::Usage(text)) => text,
            _ => panic!("{} can be written", path.display()),
        }
    }

    #[test]
    fn a_file_that_can_be_written_is_left_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let (new, old) = (directory.path().join("new.svg"), directory.path().join("old.svg"));
        std::fs::write(&old, "before").expect("a file");
        assert!(Picture::of(new.clone()).is_ok() && Picture::of(old.clone()).is_ok());
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "before");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("none/x.svg");
        assert_eq!(
            refusal(&path),
            format!("cannot write {}: No such file or directory", path.display())
        );
        let path = directory.path();
        assert_eq!(refusal(path), format!("cannot write {}: Is a directory", path.display()));
    }
}
