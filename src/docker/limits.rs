//! How long an action may take, unless its caller says.

use std::time::Duration;

/// For what only looks.
pub(super) const LOOK: Duration = Duration::from_secs(15);
/// For an action that nothing is known of, or that looks and may have much to say.
const SHORT: Duration = Duration::from_secs(30);
/// For what stops or starts containers: each may take its grace period, one after another.
const LONG: Duration = Duration::from_secs(600);

/// `None` for what takes as long as images are large, or goes on until it is ended.
pub(super) fn limit(action: &str) -> Option<Duration> {
    match action {
        "attach" | "build" | "create" | "events" | "publish" | "pull" | "push" | "run"
        | "scale" | "stats" | "up" | "wait" | "watch" => None,
        "commit" | "cp" | "down" | "export" | "kill" | "pause" | "restart" | "rm" | "start"
        | "stop" | "unpause" => Some(LONG),
        _ => Some(SHORT),
    }
}

/// Whether an action only looks, and changes nothing.
pub(super) fn only_looks(action: &str) -> bool {
    matches!(
        action,
        "config"
            | "convert"
            | "events"
            | "images"
            | "logs"
            | "ls"
            | "port"
            | "ps"
            | "stats"
            | "top"
            | "version"
            | "viz"
            | "volumes"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("restart", Some(600), false)]
    #[case("down", Some(600), false)]
    #[case("up", None, false)]
    #[case("build", None, false)]
    #[case("pull", None, false)]
    #[case("events", None, true)]
    #[case("ps", Some(30), true)]
    #[case("top", Some(30), true)]
    #[case("exec", Some(30), false)]
    #[case("nosuch", Some(30), false)]
    fn g11_a_limit_fits_what_an_action_does(
        #[case] action: &str,
        #[case] seconds: Option<u64>,
        #[case] looks: bool,
    ) {
        assert_eq!(limit(action), seconds.map(Duration::from_secs));
        assert_eq!(only_looks(action), looks);
    }
}
