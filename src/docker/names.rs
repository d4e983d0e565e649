//! Names of projects, services and actions: what could be read as an option or as something else is
//! refused before anything runs.

use super::ComposeError;

/// More than any project is called; Docker's own names of containers, which contain it, end at 255.
const LONGEST: usize = 200;

/// Compose's specification has lower-case letters, digits, `-` and `_`. But what other programs and
/// former versions have named has capitals and dots, too, and `ls` lists it; there Compose says
/// what it makes of it.
pub(super) fn project(name: &str) -> Result<&str, ComposeError> {
    check("project name", name, is_of_a_name, RULE)
}

/// Compose's specification: letters, digits, `.`, `-` and `_`.
pub(super) fn service(name: &str) -> Result<&str, ComposeError> {
    check("service name", name, is_of_a_name, RULE)
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

const RULE: &str = "letters, digits, \".\", \"-\" and \"_\" are allowed";

pub(super) fn action(name: &str) -> Result<&str, ComposeError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c == '-';
    check("action", name, allowed, "lower-case letters and \"-\" are allowed")
}

fn check<'a>(
    what: &'static str,
    name: &'a str,
    allowed: impl Fn(char) -> bool,
    rule: &str,
) -> Result<&'a str, ComposeError> {
    let reason = if name.is_empty() {
        "it must not be empty".to_owned()
    } else if name.len() > LONGEST {
        format!("it is longer than {LONGEST} characters")
    } else if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        format!("it must not contain {c:?}; {rule}")
    } else if name.starts_with('-') {
        "it must not start with \"-\"".to_owned()
    } else if name.chars().all(|c| c == '.') {
        "it must not be made of dots alone".to_owned()
    } else {
        return Ok(name);
    };
    Err(ComposeError::Name { what, value: name.chars().take(LONGEST).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("shop")]
    #[case("shop_2-a")]
    #[case("2shop")]
    #[case("_web")]
    #[case(".hidden")]
    #[case("Shop.Of.Others")]
    fn g1_good_project_names(#[case] name: &str) {
        assert_eq!(project(name).expect("it is a name"), name);
        assert_eq!(service(name).expect("it is a name"), name);
    }

    #[rstest]
    #[case(
        "$(reboot)",
        "invalid project name \"$(reboot)\": it must not contain '$'; letters, digits, \".\", \
            \"-\" and \"_\" are allowed"
    )]
    #[case(
        "-f/etc/passwd",
        "invalid project name \"-f/etc/passwd\": it must not contain '/'; letters, digits, \
            \".\", \"-\" and \"_\" are allowed"
    )]
    #[case("-f", "invalid project name \"-f\": it must not start with \"-\"")]
    #[case(
        "a b",
        "invalid project name \"a b\": it must not contain ' '; letters, digits, \".\", \"-\" \
            and \"_\" are allowed"
    )]
    #[case("..", "invalid project name \"..\": it must not be made of dots alone")]
    #[case("", "invalid project name \"\": it must not be empty")]
    fn bad_project_names(#[case] name: &str, #[case] message: &str) {
        assert_eq!(project(name).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("$(reboot)")]
    #[case("-f/etc/passwd")]
    #[case("--help")]
    #[case("-web")]
    #[case("a b")]
    #[case("a\nb")]
    #[case("")]
    fn bad_service_names_and_actions(#[case] name: &str) {
        assert!(service(name).is_err());
        assert!(action(name).is_err());
    }

    #[test]
    fn long_names_are_refused_and_cut_in_the_message() {
        let error = project(&"a".repeat(300)).unwrap_err().to_string();
        assert!(
            error.ends_with("it is longer than 200 characters") && error.len() < 300,
            "{error}"
        );
    }
}
