//! The tests that docs/reliability.md names are there, and none of them is ignored.

use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/reliability.md");

#[test]
fn every_test_that_is_named_is_there() {
    let words = DOCUMENT.split('`').skip(1).step_by(2);
    let named: Vec<_> = words
        .filter_map(|word| word.split_once("::"))
        .filter(|(module, _)| *module != "Error")
        .collect();
    assert!(named.len() >= 20, "{named:?}");
    for (module, test) in named {
        // Of the notation.
        if (module, test) == ("module", "test") {
            continue;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{module}.rs"));
        let source = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (before, _) = source
            .split_once(&format!("fn {test}("))
            .unwrap_or_else(|| panic!("no {module}::{test}"));
        let attributes = before.rsplit("\n\n").next().unwrap_or_default();
        assert!(
            attributes.contains("test") && !attributes.contains("#[ignore"),
            "{module}::{test}: {attributes}"
        );
    }
}
