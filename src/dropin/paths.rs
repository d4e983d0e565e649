//! Paths, as the agent has to name them: it is in another directory than the caller.

use super::Reason;

/// The paths of an option, as whoever is in another directory has to name them.
pub(super) fn absolute_all(option: &str, value: &str) -> Result<String, Reason> {
    let paths = value.split_whitespace().map(|path| match is_the_same_anywhere(option, path) {
        true => Ok(path.to_owned()),
        false => absolute(option, path).map(|path| format!("\"{path}\"")),
    });
    Ok(paths.collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// A path, as whoever is in another directory has to name it.
pub(super) fn absolute(option: &str, path: &str) -> Result<String, Reason> {
    if is_the_same_anywhere(option, path) {
        return Ok(path.to_owned());
    }
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    let here = std::env::current_dir().unwrap_or_default();
    // What stands before the path is a name and no pattern.
    if here.to_string_lossy().contains(['%', '"', '\\', '$', '#', '\'']) {
        return Err("the current directory has a name that ssh would not take as it is".to_owned());
    }
    Ok(path.to_str().ok_or("the current directory is not UTF-8")?.to_owned())
}

/// A path that the agent, which is in another directory, understands as this program does; and
/// words that stand for none.
fn is_the_same_anywhere(option: &str, path: &str) -> bool {
    path.starts_with(['/', '~'])
        || path.starts_with("%d/")
        || path.eq_ignore_ascii_case("none")
        || (option == "identityagent" && path == "SSH_AUTH_SOCK")
        || (option == "securitykeyprovider" && path == "internal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("identityfile", "/a", true)]
    #[case("identityfile", "~/a", true)]
    #[case("identityfile", "%d/a", true)]
    #[case("identityfile", "None", true)]
    #[case("identityfile", "a", false)]
    #[case("identityagent", "SSH_AUTH_SOCK", true)]
    #[case("identityfile", "SSH_AUTH_SOCK", false)]
    fn relative_paths_are_made_absolute(
        #[case] option: &str,
        #[case] path: &str,
        #[case] stays: bool,
    ) {
        let here = std::env::current_dir().expect("there is one");
        let expected = if stays { path.to_owned() } else { here.join(path).display().to_string() };
        assert_eq!(absolute(option, path), Ok(expected));
    }
}
