//! What holds for any answer of Docker's, and of what answers in its place.

use proptest::collection::vec;
use proptest::prelude::*;

use super::error::Failure;
use super::read::{project_status, projects};
use crate::config::DockerConfig;

const RECORDED: &[&str] = &[
    include_str!("../../tests/recorded/ls-2.40.3-all.json"),
    include_str!("../../tests/recorded/ps-2.20.1-array.json"),
    include_str!("../../tests/recorded/ps-2.40.3-lines.json"),
    include_str!("../../tests/recorded/errors.txt"),
];

/// Anything; pieces of JSON; and true answers with something else in the place of a part.
fn answer() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(
        &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\n",
            "\r\n",
            "null",
            "true",
            "-1",
            "1e999",
            "\"",
            "\\u0000",
            "\\ud800",
            "\"Name\":",
            "\"Service\":",
            "\"State\":",
            "\"running\"",
            "\"Status\":",
            "\"running(2), exited(1)\"",
            "\"ConfigFiles\":",
            "\"Publishers\":",
            "\"URL\":",
            "\"TargetPort\":",
            "99999",
            "\"ExitCode\":",
            "\"\\u001b[2J\"",
            "\u{1b}[31m",
            "[{\"Name\":\"a\",\"Status\":\"",
            "{\"Service\":\"a\",\"State\":\"",
            "\"}]",
        ][..],
    );
    let piece = prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => any::<String>()];
    let made = vec(piece, 0..30).prop_map(|pieces| pieces.concat());
    let index = any::<prop::sample::Index>;
    let damaged = (prop::sample::select(RECORDED), index(), index(), any::<String>()).prop_map(
        |(text, from, length, other)| {
            let from = from.index(text.len());
            let to = from + length.index((text.len() - from).min(60));
            let (from, to) = (text.floor_char_boundary(from), text.floor_char_boundary(to));
            format!("{}{other}{}", &text[..from], &text[to..])
        },
    );
    let deep = (1..20_000_usize).prop_map(|depth| "[{\"Name\":".repeat(depth));
    prop_oneof![4 => made, 8 => damaged, 1 => deep, 1 => any::<String>()]
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused_in_one_line(text in answer()) {
        if let Err(reason) = projects(&text) {
            prop_assert!(!reason.contains(char::is_control), "{reason:?}");
        }
        let found = project_status("shop", &text);
        prop_assert_eq!(found.project, "shop");
        for line in &found.unreadable {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
        for service in &found.services {
            prop_assert!(!service.state.as_str().contains(char::is_control), "{service:?}");
        }
    }

    #[test]
    fn any_failure_is_told_in_one_line(
        stderr in answer(),
        code in any::<Option<i32>>(),
        foreign in any::<bool>(),
    ) {
        let program = &DockerConfig::new();
        let failure = Failure { host: "web1", program, project: "shop", foreign };
        let message = failure.explain(code, &stderr).to_string();
        prop_assert!(message.starts_with("web1: "), "{message:?}");
        prop_assert!(!message.contains(char::is_control), "{message:?}");
    }
}
