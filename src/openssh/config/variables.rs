//! Variables of the environment that a line mentions.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `${NAME}` anywhere, `$NAME` where an argument begins with it, and the word that `IdentityAgent`
/// has for a variable. Some options do not replace them: one name too many does no harm.
pub(super) fn of(keyword: &str, rest: &[u8], arguments: &[OsString]) -> Vec<OsString> {
    let mut names = Vec::new();
    let mut text = rest;
    while let Some(start) = text.windows(2).position(|pair| pair == b"${") {
        text = text.get(start + 2..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == b'}').unwrap_or(0);
        names.extend(text.get(..end).filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
    }
    for argument in arguments {
        let name = argument.as_bytes().strip_prefix(b"$").unwrap_or_default();
        if !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        {
            names.push(name.to_vec());
        }
        if keyword == "identityagent" && argument == "SSH_AUTH_SOCK" {
            names.push(argument.as_bytes().to_vec());
        }
    }
    names.into_iter().map(OsString::from_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("identityfile", "~/${A}/${B_1} # ${C}", &["A", "B_1", "C"])]
    #[case("identityagent", "$D", &["D"])]
    #[case("identityagent", "SSH_AUTH_SOCK", &["SSH_AUTH_SOCK"])]
    #[case("proxycommand", "a${${E}", &["${E", "E"])]
    #[case("user", "${}x${F$G", &[])]
    fn lines_mention_variables(
        #[case] keyword: &str,
        #[case] rest: &str,
        #[case] expected: &[&str],
    ) {
        let arguments: Vec<_> = rest.split(' ').map(OsString::from).collect();
        assert_eq!(of(keyword, rest.as_bytes(), &arguments), expected);
    }
}
