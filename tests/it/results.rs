//! The result of a command has one shape in `exec --json`, `run --json` and the API, and one word
//! for each kind of error.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};
use sshpool::{ConnectErrorKind, ErrorKind};

use crate::lab::agents::Home;
use crate::lab::common::sshd::Sshd;

const API: &str = include_str!("../../docs/agent-api.openapi.json");

fn schemas() -> Value {
    let whole: Value = serde_json::from_str(API).expect("it is JSON");
    whole["components"].clone()
}

/// Holds a value against `CommandResult` of the description, and against what it says in words.
#[track_caller]
fn hold(value: &Value) {
    let schema = json!({"$ref": "#/components/schemas/CommandResult", "components": schemas()});
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let wrong: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}: {value}");
    assert_eq!(value["failure"].is_null(), value["exit_code"].is_u64(), "{value}");
}

/// What is the same wherever a command ran: all but times and the old keys.
fn essence(value: &Value) -> Value {
    hold(value);
    let of = |key: &str| match value.get(format!("{key}_base64")) {
        Some(base64) => base64.clone(),
        None => value[key].clone(),
    };
    let failure = &value["failure"];
    json!({
        "host": value["host"], "exit_code": value["exit_code"],
        "stdout": of("stdout"), "stderr": of("stderr"),
        "kind": failure["kind"], "cause": failure["cause"],
        "never_started": failure["never_started"], "may_live_on": failure["may_live_on"],
        "limit_bytes": failure["limit_bytes"], "after_ms": failure["after_ms"],
    })
}

#[rstest]
#[case::ended("lab", "echo out; echo err >&2", &[], Value::Null, json!(0))]
#[case::a_status("lab", "exit 255", &[], Value::Null, json!(255))]
#[case::bytes("lab", r"printf 'a\377'; printf '\376' >&2; exit 3", &[], Value::Null, json!(3))]
#[case::killed("lab", "echo out; kill -9 $$", &[], json!("killed"), Value::Null)]
#[case::time("lab", "echo out; sleep 60", &["time"], json!("timed_out"), Value::Null)]
#[case::too_much(
    "lab",
    "echo out; head -c 99999 /dev/zero",
    &["output"],
    json!("output_limit"),
    Value::Null
)]
#[case::unreachable("dead", "true", &[], json!("connect"), Value::Null)]
#[case::a_bad_option("bad", "true", &[], json!("connect"), Value::Null)]
#[case::no_such_name("nosuch.invalid", "true", &[], json!("connect"), Value::Null)]
fn a_result_has_one_shape(
    #[case] host: &str,
    #[case] command: &str,
    #[case] limits: &[&str],
    #[case] kind: Value,
    #[case] code: Value,
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let limit = if limits.contains(&"output") { "max_output = \"50KiB\"\n" } else { "" };
    let time = if limits.contains(&"time") { "command_timeout = \"1s\"\n" } else { "" };
    let bad = home.path().join("bad");
    std::fs::write(&bad, "NoSuchOption yes\n").expect("it can be written");
    home.config(&format!(
        "[pool]\n{limit}{time}[hosts.lab]\nssh_config = \"{}\"\n[hosts.dead]\naddress = \"127.0.0.1\"\n\
         port = 1\nssh_config = \"none\"\n\
         [hosts.bad]\nssh_config = \"{}\"\n",
        sshd.ssh_config().display(),
        bad.display(),
    ));
    let parsed = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    };
    let exec = parsed(&home.run(["exec", "--json", host, "--", command]).stdout);
    let run = parsed(&home.run(["run", "--json", "-w", host, "--", command]).stdout);
    let body = json!({"host": host, "command": command}).to_string();
    let answer = home.ask("POST", "/v1/exec", "", &body);
    let api = answer.json();
    let known = essence(&exec);
    assert_eq!(known, essence(&run));
    assert_eq!(known, essence(&api));
    assert_eq!((&exec["failure"]["kind"], &exec["exit_code"]), (&kind, &code), "{exec}");
    // The old keys, until the next release. The text is the message without the host.
    if let (Some(error), Some(message)) =
        (exec["error"].as_str(), exec["failure"]["message"].as_str())
    {
        assert!(message.ends_with(error), "{message:?}: {error:?}");
    }
    assert_eq!(exec["error"].is_string(), !kind.is_null(), "{exec}");
    assert_eq!(run["error_kind"].is_string(), !kind.is_null(), "{run}");
    let has_error = answer.status >= 400;
    assert_eq!(api["error"].is_object(), has_error, "{api}");
    if has_error {
        assert_eq!(api["error"]["message"], api["failure"]["message"]);
        assert_eq!(api["failure"].get("stdout"), None);
    }
}

/// A word for an error stands in the library, and the description has the same ones.
#[test]
fn the_words_of_the_library_are_those_of_the_description() {
    let schemas = schemas();
    let problem = &schemas["schemas"]["Problem"]["properties"];
    let told = |name: &str| -> BTreeSet<&str> {
        let words = problem[name]["enum"].as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("text")).collect()
    };
    let causes: BTreeSet<&str> = ConnectErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(told("cause"), causes);
    // A status other than 0 is an error of `Pool::exec` only.
    let kinds: BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let missing: Vec<&str> = kinds.difference(&told("kind")).copied().collect();
    assert_eq!(missing, ["failed"]);
    let guide = include_str!("../../docs/library.md");
    for word in kinds.union(&causes) {
        assert!(guide.contains(&format!("`{word}`")), "docs/library.md lacks {word}");
    }
}
