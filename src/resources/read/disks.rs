//! The mounted file systems, from `df` and `/proc/mounts`.

use crate::resources::{Disk, Inodes};
use crate::text::printable;

/// Kinds of file systems that have a size and store nothing, or nothing that could fill up by
/// itself. Those without a size are left out anyway.
const NOT_REAL: &[&str] = &[
    "autofs",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "iso9660",
    "ramfs",
    "squashfs",
    "tmpfs",
    "udf",
];

pub(super) struct Mount {
    directory: String,
    kind: String,
    /// An overlay that is read only, without a directory for what is written: what lies below it
    /// is all there is, as in the root of an image (composefs), and it is always full.
    is_image: bool,
}

impl Mount {
    /// `DEVICE DIRECTORY KIND OPTIONS 0 0`, blanks in the names as `\040`.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ').skip(1);
        let (directory, kind) = (unescaped(words.next()?), words.next()?.to_owned());
        let mut options = words.next().unwrap_or_default().split(',');
        let is_image = kind == "overlay"
            && options.clone().any(|option| option == "ro")
            && !options.any(|option| option.starts_with("upperdir="));
        Some(Mount { directory, kind, is_image })
    }
}

/// As df of GNU shows a name.
fn without_controls(name: &str) -> String {
    name.replace(char::is_control, "?")
}

/// `\` and three octal digits stand for one byte.
pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        match (first, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = more;
            }
            _ => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `None` when there is not even a heading, or one that does not say what the numbers are.
pub(super) fn disks(
    lines: &[&str],
    mounts: &[Mount],
    unreadable: &mut Vec<String>,
) -> Option<Vec<Disk>> {
    let Some((heading, lines)) = lines.split_first() else {
        unreadable.push("df: no answer".to_owned());
        return None;
    };
    if heading.split_whitespace().nth(1) != Some("1024-blocks") {
        unreadable.push(format!("df: its blocks are not of 1024 bytes: {:?}", printable(heading)));
        return None;
    }
    let mut disks: Vec<Disk> = Vec::new();
    for line in lines {
        let Some(mut disk) = disk(line) else {
            unreadable.push(format!("df: {:?}", printable(line)));
            continue;
        };
        // What is mounted over something hides it, and comes later.
        let mount = mounts.iter().rfind(|mount| {
            printable(&mount.directory) == disk.mount
                || without_controls(&mount.directory) == disk.mount
        });
        disk.file_system = mount.map(|mount| mount.kind.clone());
        let is_image = mount.is_some_and(|mount| mount.is_image);
        if disk.size_bytes == 0 || is_image || !is_real(&disk) {
            continue;
        }
        // A file system that is mounted several times. What is no path may well be the name of
        // several.
        let same = disks
            .iter_mut()
            .find(|other| other.device == disk.device && disk.device.starts_with('/'));
        match same {
            Some(other) if disk.mount.len() < other.mount.len() => *other = disk,
            Some(_) => {}
            None => disks.push(disk),
        }
    }
    Some(disks)
}

/// Adds what `df -i` says of them. Not every file system has a fixed number of inodes, and not
/// every df can count them.
pub(super) fn inodes(lines: &[&str], disks: &mut [Disk]) {
    let Some((heading, lines)) = lines.split_first() else { return };
    if heading.split_whitespace().nth(1) != Some("Inodes") {
        return;
    }
    for row in lines.iter().filter_map(|line| Row::read(line)) {
        let same =
            disks.iter_mut().find(|disk| (&disk.device, &disk.mount) == (&row.device, &row.mount));
        if let Some(disk) = same.filter(|_| row.size > 0) {
            disk.inodes = Some(Inodes {
                total: row.size,
                used: row.used,
                free: row.available,
                used_percent: row.used_percent,
            });
        }
    }
}

fn disk(line: &str) -> Option<Disk> {
    let row = Row::read(line)?;
    let blocks = |number: u64| number.checked_mul(1024);
    Some(Disk {
        device: row.device,
        mount: row.mount,
        file_system: None,
        size_bytes: blocks(row.size)?,
        used_bytes: blocks(row.used)?,
        available_bytes: blocks(row.available)?,
        used_percent: row.used_percent,
        inodes: None,
    })
}

/// `DEVICE SIZE USED AVAILABLE PERCENT% DIRECTORY`, with blanks in the names perhaps.
struct Row {
    device: String,
    mount: String,
    size: u64,
    used: u64,
    available: u64,
    used_percent: Option<u8>,
}

impl Row {
    fn read(line: &str) -> Option<Row> {
        let words: Vec<&str> = line.split(' ').collect();
        let words: Vec<(usize, &str)> = {
            // Where each begins, to cut the names out whole.
            let mut at = 0;
            let begins = words.into_iter().map(|word| {
                let begin = at;
                at += word.len() + 1;
                (begin, word)
            });
            begins.filter(|(_, word)| !word.is_empty()).collect()
        };
        // A reserve that root has used up makes this one negative.
        let left = |word: &str| match word.strip_prefix('-') {
            Some(digits) => digits.parse::<u64>().ok().map(|_| 0),
            None => word.parse::<u64>().ok(),
        };
        words.windows(5).skip(1).find_map(|window| {
            let [(begin, size), (_, used), (_, available), (_, percent), (mount, _)] = *window
            else {
                return None;
            };
            if !line[mount..].starts_with('/') {
                return None;
            }
            let used_percent = match percent {
                "-" => None,
                percent => {
                    Some(percent.strip_suffix('%')?.parse().ok()?).filter(|percent| *percent <= 100)
                }
            };
            Some(Row {
                device: printable(&line[..begin]),
                mount: printable(&line[mount..]),
                size: size.parse().ok()?,
                used: used.parse().ok()?,
                available: left(available)?,
                used_percent,
            })
        })
    }
}

fn is_real(disk: &Disk) -> bool {
    match disk.file_system.as_deref() {
        // That of a container's root; those that a machine has beside it are its containers'.
        Some("overlay") => disk.mount == "/",
        Some(kind) => !NOT_REAL.contains(&kind),
        // `/dev/sda1`, `server:/export`, `tank/data`; not `tmpfs` or `overlay`.
        None => disk.device.contains('/'),
    }
}
