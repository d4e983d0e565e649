//! What the crate offers is written down, so that a change of it is seen.
//!
//! `tests/recorded/public-api.txt` is made anew by
//! `SSHPOOL_UPDATE_PUBLIC_API=1 cargo test --test it -- public_api::`.

use std::path::Path;
use std::time::Duration;

use crate::lab::common::process::{make_program, outside, run};
use crate::lab::common::skip;

const LISTING: &str = "tests/recorded/public-api.txt";

/// It compiles what the crate depends on, as far as that was not done.
const PATIENCE: Duration = Duration::from_secs(600);

/// The listing, by what rustdoc says of the crate. `Err` where this toolchain's rustdoc says it in
/// another way than the library that reads it knows.
fn listing() -> Result<String, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is below the target");
    // rustdoc's JSON is not stable, so it is to be asked for. One format is made by one toolchain.
    // Only rustdoc is asked: cargo would make the dependencies anew, and no other build of this
    // target would find those that it has.
    let directory = tempfile::tempdir().expect("a directory");
    let wrapper = directory.path().join("rustdoc");
    make_program(&wrapper, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n");
    let mut rustdoc = outside(env!("CARGO"));
    rustdoc
        .args(["rustdoc", "--locked", "--quiet", "--lib", "--all-features", "--target-dir"])
        .arg(target)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        .env("RUSTDOC", &wrapper)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let made = run(&mut rustdoc, PATIENCE);
    assert_eq!(made.code(), 0, "{}", made.stderr);
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/sshpool.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    api.map(|api| api.to_string()).map_err(|error| error.to_string())
}

#[test]
fn what_the_crate_offers_is_as_it_is_written_down() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LISTING);
    let now = match listing() {
        Ok(now) => now,
        Err(why) => {
            let why = why.replace('\n', " ");
            return skip(&format!("rustdoc's JSON cannot be read: {why}"));
        }
    };
    if std::env::var_os("SSHPOOL_UPDATE_PUBLIC_API").is_some() {
        std::fs::write(&path, &now).expect("it can be written");
    }
    let before = std::fs::read_to_string(&path).expect("it is there");
    let (before, now): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("-{line}\n"));
    let new = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+{line}\n"));
    let changed: String = gone.chain(new).collect();
    assert!(
        changed.is_empty(),
        "{LISTING} is another one (tests/it/public_api.rs says how it is made anew):\n{changed}"
    );
}
