//! The layers of the crate: which folder of `src/` may import which.
//!
//! The test reads the `use` lines and the paths that begin with `crate::` or `super::`. It fails on
//! an import that runs up or across the table, and on a circle between files of different folders.
//! `docs/architecture.md` draws the same table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the top to the bottom. A folder imports only from lines below its own.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["doctor", "dropin"],
    &["agent"],
    &["fleet", "docker", "resources", "files"],
    &["pool"],
    &["execution", "openssh"],
    &["policy"],
    &["transport"],
    &["command"],
    &["error"],
    &["config"],
    &["host", "forward"],
    &["text"],
];

#[test]
fn imports_run_down_the_layers() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for (file, imports) in &sources.imports {
        let from = top(file);
        // The crate's root declares the folders and hands out what is public.
        if from == "lib" {
            continue;
        }
        let Some(own) = layer(&from) else {
            wrong.push(format!("{}: no layer has {from:?}", file.display()));
            continue;
        };
        for import in imports {
            let to = import.first().expect("a path has a first word");
            if *to == from {
                continue;
            }
            match layer(to) {
                None => wrong.push(format!(
                    "{}: crate::{} names no folder (import it from the folder that has it)",
                    file.display(),
                    import.join("::")
                )),
                Some(layer) if layer <= own => wrong.push(format!(
                    "{}: crate::{} is not below {from:?}",
                    file.display(),
                    import.join("::")
                )),
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_circle_runs_through_two_folders() {
    let sources = Sources::read();
    let graph = sources.graph();
    let circles: Vec<_> = circles(&graph)
        .into_iter()
        .filter(|circle| {
            let folders: BTreeSet<_> = circle.iter().map(|file| file.parent()).collect();
            folders.len() > 1
        })
        .collect();
    println!("files: {}, deepest chain of imports: {}", graph.len(), deepest(&graph));
    assert!(circles.is_empty(), "{circles:#?}");
}

/// What the two tests stand on.
#[test]
fn imports_are_found_in_every_form() {
    let text = r#"
        //! See crate::commented.
        use crate::one::{self, Two, three::{Four, five}};
        pub(crate) use crate::six as seven; // crate::commented
        fn f() -> crate::eight::Nine { "crate::in_a_string"; super::ten::f() }
    "#;
    let found = imports(text, &["here".to_owned(), "file".to_owned()]);
    let found: BTreeSet<String> = found.into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "one",
        "one::Two",
        "one::three::Four",
        "one::three::five",
        "six",
        "eight::Nine",
        "here::ten::f",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The folder of `src/` that a file is in, or its own name.
fn top(file: &Path) -> String {
    let first = file.iter().next().expect("a file has a name");
    Path::new(first).with_extension("").display().to_string()
}

struct Sources {
    /// By the path below `src/`: the paths that a file imports, from the crate's root.
    imports: BTreeMap<PathBuf, BTreeSet<Vec<String>>>,
}

impl Sources {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Sources { imports: BTreeMap::new() };
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let file = path.strip_prefix(&root).expect("it is below").to_owned();
                    let text = std::fs::read_to_string(&path).expect("it is text");
                    found.imports.insert(file.clone(), imports(&text, &module(&file)));
                }
            }
        }
        assert!(found.imports.len() > 100, "{} files", found.imports.len());
        found
    }

    /// Which file imports which. A module's own file names the files below it, which is no import.
    fn graph(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let files: BTreeMap<Vec<String>, &Path> =
            self.imports.keys().map(|file| (module(file), file.as_path())).collect();
        let edges = |file: &Path, imports: &BTreeSet<Vec<String>>| {
            let found = imports.iter().filter_map(|path| {
                let lengths = (1..=path.len()).rev();
                let to = lengths.into_iter().find_map(|length| files.get(&path[..length]))?;
                // `a/mod.rs` and `a.rs` own what is in `a/`.
                let own = match file.file_name() == Some("mod.rs".as_ref()) {
                    true => file.parent().unwrap_or(file).to_owned(),
                    false => file.with_extension(""),
                };
                let is_owner = to.starts_with(own);
                (*to != file && !is_owner).then_some(*to)
            });
            found.collect::<BTreeSet<_>>()
        };
        let files = self.imports.iter().filter(|(file, _)| file.as_path() != Path::new("lib.rs"));
        files.map(|(file, imports)| (file.as_path(), edges(file, imports))).collect()
    }
}

/// The module that a file is.
fn module(file: &Path) -> Vec<String> {
    let mut words: Vec<String> =
        file.with_extension("").iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.last().is_some_and(|word| word == "mod" || word == "lib") {
        words.pop();
    }
    words
}

/// The paths from the crate's root that a file has in it.
fn imports(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let text = without_comments_and_strings(text);
    let mut found = BTreeSet::new();
    let mut rest = text.as_str();
    while let Some(at) = ["crate::", "super::"].iter().filter_map(|word| rest.find(word)).min() {
        let before = rest[..at].chars().next_back();
        let mut tail = &rest[at..];
        rest = &rest[at + 7..];
        // The end of another word, or the middle of a path that was read.
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let mut base: Vec<String> = module.to_vec();
        if let Some(of_the_root) = tail.strip_prefix("crate::") {
            (base, tail) = (Vec::new(), of_the_root);
        }
        while let Some(of_the_parent) = tail.strip_prefix("super::") {
            base.pop();
            tail = of_the_parent;
        }
        tree(tail, &base, &mut found);
    }
    found.remove(&Vec::new());
    found
}

/// Reads `a::b`, `{a, b::{c}}` and so on, and gives what stands behind it.
fn tree<'a>(text: &'a str, base: &[String], found: &mut BTreeSet<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inside) = text.strip_prefix('{') {
        loop {
            inside = tree(inside, base, found).trim_start();
            match inside.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => inside = next,
                Some(end) => return end.trim_start().strip_prefix('}').unwrap_or(end),
                None => return inside.strip_prefix('}').unwrap_or(inside),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, mut rest) = text.split_at(end);
    let mut path = base.to_vec();
    if !word.is_empty() && word != "self" {
        path.push(word.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
            rest = tree(more, &path, found);
        }
        _ => {
            found.insert(path);
        }
    }
    // `as other`
    let named = rest.trim_start().strip_prefix("as ");
    named.map_or(rest, |named| {
        named.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
    })
}

fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            rest.find("\"'").map_or(1, |at| at + 2)
        } else if let Some(hashes) = raw(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.find('"').map_or(rest.len(), |at| at + 1);
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |at| at + 2)
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// How many hashes a raw string has that begins here.
fn raw(text: &str) -> Option<usize> {
    let text = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = text.bytes().take_while(|&byte| byte == b'#').count();
    text[hashes..].starts_with('"').then_some(hashes)
}

/// The groups of files that import each other, by whatever way.
fn circles<'a>(graph: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<Vec<&'a Path>> {
    let reached = |from: &'a Path| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for to in graph.get(file).into_iter().flatten() {
                if seen.insert(*to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        graph.keys().map(|file| (*file, reached(file))).collect();
    let mut circles: Vec<Vec<&Path>> = Vec::new();
    for (file, others) in &reached {
        if others.contains(file) && !circles.iter().any(|circle| circle.contains(file)) {
            let circle = others.iter().filter(|other| reached[*other].contains(file));
            circles.push(circle.copied().collect());
        }
    }
    circles
}

/// How many files stand below each other at most. A circle counts as one.
fn deepest(graph: &BTreeMap<&Path, BTreeSet<&Path>>) -> usize {
    fn below<'a>(
        file: &'a Path,
        graph: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
        known: &mut BTreeMap<&'a Path, usize>,
    ) -> usize {
        if let Some(depth) = known.get(file) {
            return *depth;
        }
        known.insert(file, 0);
        let depths = graph.get(file).into_iter().flatten().map(|to| below(to, graph, known));
        let depth = 1 + depths.max().unwrap_or(0);
        known.insert(file, depth);
        depth
    }
    let mut known = BTreeMap::new();
    graph.keys().map(|file| below(file, graph, &mut known)).max().unwrap_or(0)
}
