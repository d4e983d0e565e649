//! What sftp says when something fails, in the words of the scripts.

use std::io;
use std::path::PathBuf;

use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::fs::Fs;

/// Why a job has not done what it was to do.
#[derive(Debug)]
pub(super) enum Failed {
    /// In the words of a script.
    Says(String),
    /// Of sftp, about a file of the host.
    Sftp(openssh_sftp_client::Error),
    /// Of sftp, where something was being written below this directory.
    Write(openssh_sftp_client::Error, Fs, PathBuf),
    /// Nobody reads what is printed.
    Unheard,
    /// The server has ended.
    Gone,
}

impl Failed {
    pub(super) fn says(text: impl Into<String>) -> Self {
        Failed::Says(text.into())
    }

    /// What is to be told.
    pub(super) async fn told(self) -> Result<String, NoAnswer> {
        use openssh_sftp_client::Error;
        let (error, at) = match self {
            Failed::Says(text) => return Ok(text),
            Failed::Unheard => return Ok("nobody reads what is printed".to_owned()),
            Failed::Gone => return Err(NoAnswer),
            Failed::Sftp(error) => (error, None),
            Failed::Write(error, fs, directory) => (error, Some((fs, directory))),
        };
        let kind = match error {
            Error::SftpError(kind, _) => kind,
            // Of what was to be sent.
            Error::FormatError(_) => return Ok(NO_UTF_8.to_owned()),
            _ => return Err(NoAnswer),
        };
        // That has no word of its own.
        let is_full = match at {
            Some((mut fs, directory)) if matches!(kind, SftpErrorKind::Failure) => {
                fs.statvfs(&directory).await.is_ok_and(|found| found.bavail == 0)
            }
            _ => false,
        };
        Ok(match kind {
            _ if is_full => "No space left on device".to_owned(),
            SftpErrorKind::NoSuchFile => "No such file or directory".to_owned(),
            SftpErrorKind::PermDenied => "Permission denied".to_owned(),
            SftpErrorKind::BadMessage => "File name too long, or not a valid one".to_owned(),
            SftpErrorKind::OpUnsupported => "its sftp server cannot do that".to_owned(),
            SftpErrorKind::Failure => "its sftp server gives no reason (Failure)".to_owned(),
            other => format!("its sftp server says {other:?}"),
        })
    }
}

impl From<openssh_sftp_client::Error> for Failed {
    fn from(error: openssh_sftp_client::Error) -> Self {
        Failed::Sftp(error)
    }
}

/// The server has gone, or has said something that is no answer.
#[derive(Debug)]
pub(super) struct NoAnswer;

pub(super) const NO_UTF_8: &str = "over sftp only names of UTF-8 are copied";

/// As the scripts say it.
pub(super) const BROKE_OFF: &str = "the copy broke off";

/// What the server has answered. `None` where it has not.
pub(super) fn kind(error: &openssh_sftp_client::Error) -> Option<SftpErrorKind> {
    match error {
        openssh_sftp_client::Error::SftpError(kind, _) => Some(*kind),
        _ => None,
    }
}

/// The same of what a file as a stream gives.
pub(super) fn of_io(error: io::Error) -> openssh_sftp_client::Error {
    match error.downcast::<openssh_sftp_client::Error>() {
        Ok(error) => error,
        Err(error) => openssh_sftp_client::Error::IOError(error),
    }
}
