//! `sshpool cp`.

mod bars;
mod failures;
mod operand;

use std::collections::HashSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;

use self::bars::Bars;
use self::failures::Failures;
use self::operand::Operand;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::setup::Setup;
use crate::cli::sudo::ByUser;
use crate::command::Runner;
use crate::files::{Copied, Download, FileError, Options, Upload};
use crate::fleet::Each;
use crate::host::Host;
use crate::pool::signals;
use crate::text::plain;

pub(in crate::cli) const HELP: &str = "\
Examples:
  sshpool cp app.conf web1:/etc/app/
  sshpool cp -r site @web:/srv/www           all hosts of a group, one reading of the directory
  sshpool cp -p 'web[1-3]:/var/log/app.log' logs     one directory a host below logs
  pg_dump shop | sshpool cp - db2:/srv/shop.sql
  sshpool cp --sha256 image.qcow2 node1:/var/lib/images/

A name with a colon is a file of a host, unless a / stands before the colon: ./a:b is a file here.
Hosts are named as for run -w. A path that does not begin with / begins in the home of the account,
and is taken as it is, without patterns. - is standard input or output.";

#[derive(Debug, Args)]
pub(in crate::cli) struct Cp {
    /// Copy directories with all that is in them. Links are followed
    #[arg(short, long)]
    recursive: bool,

    /// Give the copies exactly the modes and the times of the originals
    #[arg(short, long)]
    preserve: bool,

    /// Give the copy exactly this mode, such as 640
    #[arg(
        long,
        value_name = "MODE",
        value_parser = parse_mode,
        conflicts_with_all = ["preserve", "recursive"]
    )]
    mode: Option<u32>,

    /// Have both sides work out the SHA-256, copy only what has the same on both, and print it
    #[arg(long, conflicts_with = "recursive")]
    sha256: bool,

    /// Do not wait until the disk has the contents before they get their name
    #[arg(long)]
    no_sync: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    by_user: ByUser,

    /// What is copied, and where to: the last one
    #[arg(value_names = ["SRC", "DST"], num_args = 2.., required = true)]
    names: Vec<OsString>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("expected up to four octal digits, such as 640".to_owned()),
    }
}

/// Copies of which all is known: what the user has said makes sense.
pub(in crate::cli) struct Prepared {
    pub(in crate::cli) by_user: ByUser,
    options: Options,
    quiet: bool,
    sha256: bool,
    way: Way,
}

/// Which side the files come from.
enum Way {
    To { from: Vec<Operand>, hosts: Vec<Named>, path: PathBuf },
    From { from: Vec<(Vec<Named>, PathBuf)>, to: Operand },
}

/// A host, and what the user has called it.
struct Named {
    label: String,
    host: Host,
}

impl Cp {
    pub(in crate::cli) fn prepare(self, setup: &Setup) -> Result<Prepared, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let mut names = self.names.iter().map(|name| Operand::read(name));
        let mut names = names.by_ref().collect::<Result<Vec<_>, _>>()?;
        let Some(to) = names.pop() else { return usage("nothing to copy") };
        let is_remote = |operand: &Operand| matches!(operand, Operand::Remote { .. });
        let stdin = names.iter().filter(|operand| matches!(operand, Operand::Stream)).count();
        if stdin > 0 && names.len() > 1 {
            return usage("- cannot be copied together with something else");
        }
        let several = names.len() > 1;
        let way = match to {
            Operand::Remote { hosts, path } => {
                if names.iter().any(is_remote) {
                    return usage(
                        "both sides are on hosts: copy to this machine first, or pipe: \
                         sshpool cp A:FILE - | sshpool cp - B:FILE",
                    );
                }
                let local = names.iter().filter_map(|name| match name {
                    Operand::Local(path) => Some((None, path.as_path())),
                    _ => None,
                });
                of_their_own(local)?;
                // Into a directory, since several files cannot have one name.
                let path = if several { path.join("") } else { path };
                Way::To { from: names, hosts: named(setup, &hosts)?, path }
            }
            to => {
                let mut from = Vec::new();
                for name in names {
                    let Operand::Remote { hosts, path } = name else {
                        return usage("no host is named: a file of a host is HOST:PATH");
                    };
                    from.push((named(setup, &hosts)?, path));
                }
                // Those of several hosts go into a directory for each.
                of_their_own(from.iter().flat_map(|(hosts, path): &(Vec<Named>, PathBuf)| {
                    let is_one = hosts.len() == 1;
                    let place = move |host: &Named| (!is_one).then(|| host.label.clone());
                    hosts.iter().map(move |host| (place(host), path.as_path()))
                }))?;
                let files: usize = from.iter().map(|(hosts, _)| hosts.len()).sum();
                if files > 1 && matches!(to, Operand::Stream) {
                    return usage("several files cannot be copied to -");
                }
                if let Operand::Local(path) = &to
                    && several
                    && !path.is_dir()
                {
                    let path = path.display();
                    return Err(Failure::Usage(format!("{path}: not a directory")));
                }
                Way::From { from, to }
            }
        };
        let mut options = Options::new().recursive(self.recursive).preserve(self.preserve);
        options = options.sync(!self.no_sync).sha256(self.sha256);
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        let Cp { by_user, quiet, sha256, .. } = self;
        Ok(Prepared { by_user, options, quiet, sha256, way })
    }
}

/// Two files that would have one name in one directory are one too many: the second would take the
/// place of the first.
fn of_their_own<'a>(
    files: impl Iterator<Item = (Option<String>, &'a Path)>,
) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for (place, path) in files {
        // `dir/.` is what is in it.
        let is_content = path.as_os_str().as_bytes().ends_with(b"/.");
        if let Some(name) = path.file_name().filter(|_| !is_content)
            && !seen.insert((place, name))
        {
            let name = Path::new(name).display();
            return Err(Failure::Usage(format!(
                "several of these would be {name}, each in the place of the one before: copy them \
                 to names of their own"
            )));
        }
    }
    Ok(())
}

fn named(setup: &Setup, hosts: &str) -> Result<Vec<Named>, Failure> {
    let set = setup.host_set(&[hosts.to_owned()])?;
    if set.is_empty() {
        return Err(Failure::Usage(format!("{hosts}: there is no host in it")));
    }
    let named = set.iter().map(|label| {
        let host = setup.host(label)?;
        Ok(Named { label: label.clone(), host })
    });
    named.collect()
}

/// How many hosts are read from at once.
const WIDTH: NonZeroUsize = NonZeroUsize::new(16).expect("it is not 0");

impl Prepared {
    /// The host to name when nothing can be run at all.
    pub(in crate::cli) fn first(&self) -> &str {
        match &self.way {
            Way::To { hosts, .. } => &hosts[0].label,
            Way::From { from, .. } => &from[0].0[0].label,
        }
    }

    pub(in crate::cli) async fn run(self, runner: &dyn Runner) -> Result<u8, Failure> {
        signals::end_on_signals().map_err(|error| {
            Failure::Output(format!("cannot handle signals: {}", plain(&error)))
        })?;
        let mut failures = Failures::default();
        let bars = Bars::new(self.quiet || self.is_to_stdout());
        match &self.way {
            Way::To { from, hosts, path } => {
                for source in from {
                    self.upload(runner, source, hosts, path, &bars, &mut failures).await?;
                }
            }
            Way::From { from, to } => {
                for (hosts, path) in from {
                    self.download(runner, hosts, path, to, &bars, &mut failures).await?;
                }
            }
        }
        if signals::is_ending() {
            return Ok(0);
        }
        drop(bars);
        Ok(failures.tell())
    }

    fn is_to_stdout(&self) -> bool {
        matches!(&self.way, Way::From { to: Operand::Stream, .. })
    }

    async fn upload(
        &self,
        runner: &dyn Runner,
        source: &Operand,
        hosts: &[Named],
        path: &Path,
        bars: &Bars,
        failures: &mut Failures,
    ) -> Result<(), Failure> {
        let (name, upload) = match source {
            Operand::Local(from) => {
                (from.display().to_string(), Upload::new(from, path, &self.options))
            }
            _ => ("-".to_owned(), Ok(Upload::stdin(path, &self.options))),
        };
        let upload = match upload {
            Ok(upload) => upload,
            Err(error) => {
                failures.add(None, &error);
                return Ok(());
            }
        };
        let labels = hosts.iter().map(|named| &*named.label);
        let shown = bars.of(&name, labels, upload.length());
        let targets: Vec<Host> = hosts.iter().map(|named| named.host.clone()).collect();
        let progress = |place: usize, bytes| shown.add(place, bytes);
        let copied = upload.run(runner, &targets, &progress).await;
        drop(shown);
        for (named, copied) in hosts.iter().zip(copied) {
            self.report(named, &name, copied, failures).await?;
        }
        Ok(())
    }

    async fn download(
        &self,
        runner: &dyn Runner,
        hosts: &[Named],
        path: &Path,
        to: &Operand,
        bars: &Bars,
        failures: &mut Failures,
    ) -> Result<(), Failure> {
        let name = path.display().to_string();
        let labels = hosts.iter().map(|named| &*named.label);
        let shown = bars.of(&name, labels, None);
        let places: Vec<usize> = (0..hosts.len()).collect();
        let mut each = Each::new(&places, WIDTH, |&place| {
            let (named, shown) = (&hosts[place], &shown);
            async move {
                let progress = |bytes| shown.add(place, bytes);
                let begun = Download::begin(runner, &named.host, path, &self.options).await?;
                shown.has_length(place, begun.length());
                match to {
                    Operand::Local(to) if hosts.len() > 1 => {
                        let to = operand::directory_of(to, &named.label)?;
                        begun.save(&to, &progress).await
                    }
                    Operand::Local(to) => begun.save(to, &progress).await,
                    _ => begun.write_to(tokio::io::stdout(), Path::new("stdout"), &progress).await,
                }
            }
        });
        let mut copied: Vec<Option<Result<Copied, FileError>>> = vec![None; hosts.len()];
        while let Some((place, result)) = each.next().await {
            copied[*place] = Some(result);
        }
        drop(each);
        drop(shown);
        for (named, copied) in hosts.iter().zip(copied) {
            let copied = copied.expect("each host has answered");
            self.report(named, &name, copied, failures).await?;
        }
        Ok(())
    }

    /// The digest, as sha256sum prints it, with the host before the name.
    async fn report(
        &self,
        named: &Named,
        name: &str,
        copied: Result<Copied, FileError>,
        failures: &mut Failures,
    ) -> Result<(), Failure> {
        match copied {
            Ok(Copied { sha256: Some(sum), .. }) if self.sha256 && !self.is_to_stdout() => {
                print(&format!("{sum}  {}:{name}", named.label)).await
            }
            Ok(_) => Ok(()),
            Err(error) => {
                failures.add(Some(named), &error);
                Ok(())
            }
        }
    }
}
