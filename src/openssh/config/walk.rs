//! From file to file.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::glob::Segment;
use super::include::{self, Pattern};
use super::line::{self, Line};
use super::watch::{Content, FileSeen, Listing};
use super::{Block, Mention, Place, Reading, Unclear, variables};

/// ssh goes no deeper either.
const DEEPEST: usize = 16;
const MOST_FILES: usize = 500;
const MOST_LISTINGS: usize = 500;
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// A file counts as often as it is included.
const MOST_LINES: usize = 200_000;
/// Of more of them nobody wants to hear.
const MOST_UNCLEAR: usize = 20;

/// How a file was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// By `-F`: it has to be there.
    Named,
    /// The user's own, or the system's.
    Usual,
    Included,
}

pub(super) struct Walk<'a> {
    place: &'a Place<'a>,
    reading: Reading,
    files: HashMap<PathBuf, usize>,
    /// The lines of each file.
    lines: Vec<Rc<[Line]>>,
    listings: HashMap<(PathBuf, Segment), Rc<[OsString]>>,
    /// Files that were begun, for the user or not, and in which block.
    entered: HashSet<(usize, bool, Arc<Block>)>,
    /// Those that are being read, each by the one before.
    stack: Vec<Frame>,
    /// Which files include which, where both are there.
    included: HashSet<(usize, usize)>,
    mentioned: HashSet<(usize, usize, Arc<Block>)>,
    blocks: HashSet<Arc<Block>>,
    bytes: usize,
    lines_read: usize,
}

/// A file that is being read.
struct Frame {
    file: usize,
    is_user: bool,
    block: Arc<Block>,
    next_line: usize,
    /// What its last line includes.
    pending: VecDeque<PathBuf>,
}

impl<'a> Walk<'a> {
    pub fn new(place: &'a Place<'a>) -> Self {
        Walk {
            place,
            reading: Reading::default(),
            files: HashMap::new(),
            lines: Vec::new(),
            listings: HashMap::new(),
            entered: HashSet::new(),
            stack: Vec::new(),
            included: HashSet::new(),
            mentioned: HashSet::new(),
            blocks: HashSet::new(),
            bytes: 0,
            lines_read: 0,
        }
    }

    /// Reads a file, and what it includes. Not by recursion: how deep files go is for ssh to limit.
    pub fn start(&mut self, path: &Path, origin: Origin, is_user: bool) {
        let block = self.block(Block::None);
        let Some(root) = self.enter(path, origin, is_user, block) else { return };
        while let Some(frame) = self.stack.last_mut() {
            let (is_user, block, file) = (frame.is_user, Arc::clone(&frame.block), frame.file);
            if let Some(included) = frame.pending.pop_front() {
                let entered = self.enter(&included, Origin::Included, is_user, block);
                if let Some(included) =
                    entered.filter(|included| self.reading.files[*included].is_there())
                {
                    self.included.insert((file, included));
                }
                continue;
            }
            let lines = Rc::clone(&self.lines[file]);
            match lines.get(frame.next_line) {
                Some(line) => {
                    frame.next_line += 1;
                    self.line(file, line);
                }
                None => {
                    self.stack.pop();
                }
            }
        }
        self.look_how_deep(root);
    }

    pub fn finish(self) -> Reading {
        self.reading
    }

    /// Begins with a file, unless that was done before. Gives its number.
    fn enter(
        &mut self,
        path: &Path,
        origin: Origin,
        is_user: bool,
        block: Arc<Block>,
    ) -> Option<usize> {
        let file = self.file(path, origin)?;
        if self.entered.insert((file, is_user, Arc::clone(&block))) {
            self.stack.push(Frame { file, is_user, block, next_line: 0, pending: VecDeque::new() });
        }
        Some(file)
    }

    /// ssh gives up where files include each other, or go too deep.
    fn look_how_deep(&mut self, root: usize) {
        let mut level = HashSet::from([root]);
        for _ in 0..=DEEPEST {
            let included = self.included.iter().filter(|(from, _)| level.contains(from));
            level = included.map(|(_, included)| *included).collect();
        }
        if !level.is_empty() {
            let path = self.reading.files[root].path().to_owned();
            self.unclear(&path, "files include each other");
        }
    }

    /// A line of the file that is being read.
    fn line(&mut self, file: usize, line: &Line) {
        self.lines_read += 1;
        let arguments = line::arguments(&line.rest);
        let arguments = arguments.unwrap_or_else(|| line::old_arguments(&line.rest));
        let words = || arguments.iter().cloned().map(OsString::from_vec).collect::<Vec<_>>();
        let begun = match &*line.keyword {
            "host" => Some(self.block(Block::Host(words()))),
            "match" => Some(self.block(Block::Match(words()))),
            _ => None,
        };
        let Some(frame) = self.stack.last_mut() else { return };
        frame.block = begun.unwrap_or_else(|| Arc::clone(&frame.block));
        let (block, is_user) = (Arc::clone(&frame.block), frame.is_user);
        if self.lines_read > MOST_LINES {
            self.stack.clear();
            let path = self.reading.files[file].path().to_owned();
            return self.unclear(&path, "there are too many lines");
        }
        if self.mentioned.insert((file, line.number, Arc::clone(&block))) {
            self.mention(file, line, words(), &block);
        }
        if line.keyword == "include" {
            let path = self.reading.files[file].path().to_owned();
            let pending = self.include(&path, &line.rest, arguments, is_user);
            if let Some(frame) = self.stack.last_mut() {
                frame.pending = pending;
            }
        }
    }

    fn mention(&mut self, file: usize, line: &Line, arguments: Vec<OsString>, block: &Arc<Block>) {
        self.reading.variables.extend(variables::of(&line.keyword, &line.rest, &arguments));
        self.reading.mentions.push(Mention {
            keyword: line.keyword.clone(),
            arguments,
            rest: OsString::from_vec(line.rest.clone()),
            block: Arc::clone(block),
            file,
            line: line.number,
        });
    }

    /// The number of a file, which is read when it is met for the first time.
    fn file(&mut self, path: &Path, origin: Origin) -> Option<usize> {
        if let Some(file) = self.files.get(path) {
            return Some(*file);
        }
        if self.reading.files.len() >= MOST_FILES || self.bytes > MOST_BYTES {
            self.unclear(path, "there are too many files");
            return None;
        }
        let (seen, content) = FileSeen::read(path);
        let (bytes, why) = match content {
            Content::Bytes(bytes) => (bytes, None),
            Content::Missing => {
                (Vec::new(), (origin == Origin::Named).then_some("it is not there"))
            }
            Content::Unclear(why) => (Vec::new(), Some(why)),
        };
        // Versions of ssh go on at different places behind it.
        let nul = bytes.contains(&0).then_some("it has a NUL in it");
        for why in why.into_iter().chain(nul) {
            self.unclear(path, why);
        }
        self.bytes += bytes.len();
        let number = self.reading.files.len();
        self.files.insert(path.to_owned(), number);
        self.lines.push(line::lines(&bytes).collect());
        self.reading.files.push(seen);
        Some(number)
    }

    /// The files that a line includes.
    fn include(
        &mut self,
        path: &Path,
        rest: &[u8],
        mut arguments: Vec<Vec<u8>>,
        is_user: bool,
    ) -> VecDeque<PathBuf> {
        // What an older ssh would look for is looked at as well.
        for argument in line::old_arguments(rest) {
            if !arguments.contains(&argument) {
                arguments.push(argument);
            }
        }
        let mut files = VecDeque::new();
        for argument in arguments {
            let named = include::named(&argument, self.place, is_user);
            if let Some(why) = named.unclear {
                self.unclear(path, why);
            }
            for (name, value) in named.variables {
                self.reading.variables.insert(name.clone());
                self.reading.places.insert(name, value);
            }
            for pattern in named.patterns {
                files.extend(self.matching(path, pattern));
            }
        }
        files
    }

    /// The files of a pattern: those that are in the directories that it names, and those that are
    /// named in full, there or not.
    fn matching(&mut self, path: &Path, pattern: Pattern) -> Vec<PathBuf> {
        let mut found = vec![pattern.base];
        for segment in &pattern.segments {
            match segment.name() {
                Some(name) => {
                    let name = OsString::from_vec(name);
                    found.iter_mut().for_each(|path| path.push(&name));
                }
                None => {
                    let mut next = Vec::new();
                    for directory in found {
                        let names = self.listing(path, &directory, segment);
                        next.extend(names.iter().map(|name| directory.join(name)));
                    }
                    found = next;
                }
            }
        }
        found
    }

    fn listing(&mut self, path: &Path, directory: &Path, segment: &Segment) -> Rc<[OsString]> {
        let key = (directory.to_owned(), segment.clone());
        if let Some(names) = self.listings.get(&key) {
            return Rc::clone(names);
        }
        if self.listings.len() >= MOST_LISTINGS {
            self.unclear(path, "there are too many directories");
            return Rc::default();
        }
        let (listing, names) = Listing::read(directory, segment);
        let names: Rc<[_]> = names
            .unwrap_or_else(|why| {
                self.unclear(directory, why);
                Vec::new()
            })
            .into();
        self.reading.listings.push(listing);
        self.listings.insert(key, Rc::clone(&names));
        names
    }

    fn block(&mut self, block: Block) -> Arc<Block> {
        if let Some(known) = self.blocks.get(&block) {
            return Arc::clone(known);
        }
        let block = Arc::new(block);
        self.blocks.insert(Arc::clone(&block));
        block
    }

    fn unclear(&mut self, path: &Path, why: &'static str) {
        let unclear = Unclear { path: path.to_owned(), why };
        if self.reading.unclear.len() < MOST_UNCLEAR && !self.reading.unclear.contains(&unclear) {
            self.reading.unclear.push(unclear);
        }
    }
}
