use super::table::NO_LIST_OF_REVOKED;
use super::*;
use crate::error::advice::of_kind;
use rstest::rstest;

/// What the sources of OpenSSH have: what it is, versions, text.
fn recorded() -> Vec<(&'static str, &'static str, &'static str)> {
    let list = include_str!("../../../tests/recorded/openssh-texts.tsv");
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut fields = lines.map(|line| line.splitn(3, '\t'));
    let recorded: Vec<_> = fields
        .by_ref()
        .map(|mut line| {
            let mut next = || line.next().expect("three fields");
            (next(), next(), next())
        })
        .collect();
    assert!(recorded.len() > 150, "{}", recorded.len());
    recorded
}

/// As ssh would write it, of any values.
fn written(format: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        text += before;
        let length = behind.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(0);
        let is_long = behind[length..].starts_with("lu");
        text += match behind[length..].chars().next() {
            Some('d' | 'u' | 'l') => "7",
            Some('%') => "%",
            _ => "word",
        };
        rest = &behind[(length + 1 + usize::from(is_long)).min(behind.len())..];
    }
    text + rest
}

#[test]
fn each_text_of_the_table_is_one_of_openssh() {
    let recorded = recorded();
    for cause in CAUSES {
        let Texts::All(texts) = cause.texts else { panic!("{cause:?}") };
        for text in texts {
            let is_there = recorded.iter().any(|(_, _, format)| {
                format.contains(text) || written(format).contains(text) || text.contains(format)
            });
            assert!(is_there, "{text:?} is in no version");
        }
    }
    for text in NOTES {
        // What a session that was refused leaves in the log of its master.
        let kinds = if *text == ": open failed: " { ["part", "part"] } else { ["note", "note"] };
        let is_there =
            recorded.iter().any(|(kind, _, format)| kinds.contains(kind) && format.contains(text));
        assert!(is_there, "{text:?} is in no version");
    }
    for text in BEFORE_A_LINE {
        assert!(
            recorded
                .iter()
                .any(|(_, _, format)| written(format).contains(text) || format.contains(text)),
            "{text:?} is in no version"
        );
    }
}

#[test]
fn each_recorded_text_has_its_row() {
    for (kind, versions, format) in recorded() {
        let text = written(format);
        let mut rows = CAUSES.iter().filter(|cause| match cause.texts {
            Texts::All(texts) => {
                texts.iter().any(|part| text.contains(part) || format.contains(part))
            }
            Texts::ConfigurationLine => false,
        });
        match kind {
            "cause" => {
                assert!(rows.next().is_some(), "{text:?} names a cause and has no row");
                assert!(!is_note(&text) || text.contains(": open failed: "), "{text:?} is no note");
            }
            "line" => assert!(is_of_configuration(&text), "{text:?}"),
            "note" => {
                assert!(is_note(&text), "{text:?}");
                assert!(!is_cause(&text), "{text:?} is no cause");
            }
            "before" => assert!(is_before_a_line(&text), "{text:?}"),
            "part" | "system" => {}
            other => panic!("what is {other:?}?"),
        }
        let known = ["7.6", "8.2", "8.9", "9.2", "9.8", "10.0", "10.1", "10.5"];
        assert_eq!(versions.is_empty(), kind == "system", "{format}");
        assert!(
            versions.split_terminator(' ').all(|version| known.contains(&version)),
            "{versions}"
        );
    }
}

#[test]
fn an_advice_names_the_host_and_nothing_else_by_that_word() {
    let all = CAUSES.iter().filter_map(|cause| cause.advice).chain([ASKS, NO_KEY]);
    for advice in all {
        let told = for_host(advice, "web1");
        assert!(!told.contains("HOST"), "{told}");
        assert_eq!(told.matches("web1").count(), advice.matches("HOST").count());
        assert!(
            !advice.ends_with('.') && !advice.contains('\n') && !advice.contains("  "),
            "{advice:?}"
        );
    }
}

/// Where the key or the certificate is not to be trusted, nothing says how to trust it.
#[test]
fn nobody_is_told_to_add_a_key_that_is_not_to_be_trusted() {
    let kinds = [Kind::HostKeyRevoked, Kind::HostCertificate];
    let of_rows =
        CAUSES.iter().filter(|cause| kinds.contains(&cause.kind)).filter_map(|cause| cause.advice);
    for advice in of_rows.chain(kinds.into_iter().filter_map(of_kind)).chain([NO_LIST_OF_REVOKED]) {
        for word in ["add the key", "accept", "keyscan", "known_hosts", "sshpool warm"] {
            assert!(!advice.contains(word), "{advice}");
        }
    }
}

#[rstest]
#[case("/etc/ssh/ssh_config line 12: Bad port 'abc'.", true)]
#[case("a b line 1: invalid quotes", true)]
#[case("command-line line 0: Bad port 'abc'.", true)]
#[case("c: line 3: Bad configuration option: foo", true)]
#[case("bash: line 1: foo: command not found", false)]
#[case("/bin/sh: line 1: exec: foo: not found", false)]
#[case(" line 1: x", false)]
#[case("on line x: y", false)]
#[case("c line : y", false)]
#[case("the end of line 3", false)]
fn a_line_of_the_configuration_is_known_by_its_form(#[case] line: &str, #[case] is: bool) {
    assert_eq!(is_of_configuration(line), is);
}
