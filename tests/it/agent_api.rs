//! The agent's HTTP interface: that it is as docs/agent-api.openapi.json says, its limits, and what
//! it makes of clients that are slow, rude or gone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rstest::rstest;
use serde_json::{Value, json};

use crate::lab::agents::{self, Answer, Home, read_head, request};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{process::run, wait_for};
use crate::lab::pooled::PATIENCE;
use crate::lab::{common, itself};

/// The headers of a request for frames.
const FRAMES: &str = "upgrade: sshpool-frames\r\nconnection: upgrade\r\n";
const API: &str = include_str!("../../docs/agent-api.openapi.json");

/// An agent, with a server that it knows as `lab`.
struct Lab {
    sshd: Sshd,
    home: Home,
    host: Value,
}

impl Lab {
    fn new() -> Self {
        let (sshd, home) = (Sshd::builder().start(), Home::new());
        home.config(&format!("[hosts.lab]\nssh_config = \"{}\"\n", sshd.ssh_config().display()));
        home.exec(&sshd, "true");
        let host = json!({"name": "lab", "ssh_config": sshd.ssh_config()});
        Lab { sshd, home, host }
    }

    fn exec(&self, more: Value) -> Value {
        let mut body = json!({ "host": self.host });
        let more = more.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(more);
        body
    }

    fn resident_kib(&self) -> usize {
        let text =
            std::fs::read_to_string(format!("/proc/{}/status", self.home.pid())).expect("it runs");
        let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
        kib.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.home.get("/v1/health").json(), json!({"ok": true}));
        assert_eq!(self.home.exec(&self.sshd, "echo well"), "well\n");
    }

    fn wait_for_no_command(&self) {
        wait_for("an agent without commands", PATIENCE, || {
            self.home.status()["agent"]["commands"] == 0
        });
    }
}

/// What is written there.
struct Description {
    document: Value,
    /// What was seen: method and path, and status.
    seen: RefCell<BTreeSet<(String, String)>>,
}

impl Description {
    fn read() -> Self {
        let mut document: Value = serde_json::from_str(API).expect("it is JSON");
        // Clients have to expect fields that are new to them; here none is to be forgotten.
        for schema in
            document["components"]["schemas"].as_object_mut().expect("schemas").values_mut()
        {
            close(schema);
        }
        Description { document, seen: RefCell::default() }
    }

    #[track_caller]
    fn hold(&self, schema: &Value, value: &Value) {
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&whole).expect("it is a schema");
        let wrong: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}: {value}");
    }

    /// Sends a request, and compares the answer with what is written of it.
    #[track_caller]
    fn ask(&self, home: &Home, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let answer = home.ask(method, path, head, body);
        self.compare(method, path, body, &answer);
        answer
    }

    #[track_caller]
    fn compare(&self, method: &str, path: &str, body: &str, answer: &Answer) {
        let path = described(path);
        let operation = &self.document["paths"][path][method.to_ascii_lowercase()];
        let status = answer.status.to_string();
        let response = &operation["responses"][&status];
        assert!(
            response.is_object(),
            "{method} {path}: {status} is not described: {}",
            answer.text()
        );
        self.seen.borrow_mut().insert((format!("{method} {path}"), status));
        if let (Ok(body), true) = (serde_json::from_str::<Value>(body), answer.status < 300) {
            self.hold(&operation["requestBody"]["content"]["application/json"]["schema"], &body);
        }
        if answer.status == 101 {
            return;
        }
        let kind = &answer.head["content-type"];
        let schema = &response["content"][kind]["schema"];
        assert!(schema.is_object(), "{method} {path}: {kind} is not described");
        match kind.as_str() {
            "application/json" => self.hold(schema, &answer.json()),
            "application/x-ndjson" => {
                let lines = answer.text();
                let lines: Vec<Value> = lines
                    .lines()
                    .map(|line| serde_json::from_str(line).expect("a line is JSON"))
                    .collect();
                for line in &lines {
                    self.hold(schema, line);
                }
                let is_last = |line: &Value| line.get("exit_code").or(line.get("error")).is_some();
                let last = lines.iter().position(is_last);
                assert_eq!(last, Some(lines.len() - 1), "{lines:?}");
            }
            _ => {}
        }
    }
}

/// As it is described.
fn described(path: &str) -> &str {
    match path.starts_with("/v1/forwards/") {
        true => "/v1/forwards/{id}",
        false => path,
    }
}

/// Makes every object that is described take the described fields only.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn the_agent_is_as_it_is_described() {
    let lab = Lab::new();
    let (home, api) = (&lab.home, Description::read());
    for path in [
        "/v1/health",
        "/v1/version",
        "/v1/status",
        "/v1/stats",
        "/v1/hosts",
        "/v1/forwards",
        "/metrics",
    ] {
        assert_eq!(api.ask(home, "GET", path, "", "").status, 200, "{path}");
    }
    let lines = "accept: text/plain, application/x-ndjson;q=0.5\r\n";
    for (head, more, status) in [
        ("", json!({"command": "echo out; echo err >&2; exit 3"}), 200),
        ("", json!({"command": "kill -9 $$"}), 200),
        (
            "",
            json!({"argv": ["printf", "%s", "a\u{e9}", "b c"], "env": {"A": "b"}, "cwd": "/", "timeout_ms": 0}),
            200,
        ),
        ("", json!({"command": "cat; printf '\\377' >&2", "stdin_base64": "/w=="}), 200),
        (
            "",
            json!({"command": "cat", "stdin": "text", "auth_sock": "", "max_output_bytes": 4}),
            200,
        ),
        (
            "",
            json!({"command": "cat", "settings": {"max_connections": 1, "standby_sessions": 0}}),
            200,
        ),
        (lines, json!({"command": "echo out; echo err >&2; printf '\\377'; exit 3"}), 200),
        (lines, json!({"command": "echo out; sleep 300", "timeout_ms": 300}), 200),
        (lines, json!({"host": "127.99.99.99:1", "command": "true"}), 502),
        ("", json!({"host": "lab", "command": "true"}), 200),
        ("", json!({"host": "127.99.99.99:1", "command": "true"}), 502),
        ("", json!({"host": "nosuchhost.invalid", "command": "true"}), 502),
        ("", json!({"command": "echo 12345; sleep 300", "max_output_bytes": 4}), 502),
        ("", json!({"command": "echo out; sleep 300", "timeout_ms": 300}), 504),
        ("", json!({"command": "true", "argv": ["true"]}), 400),
        ("", json!({"argv": []}), 400),
        ("", json!({"command": "a\0b"}), 400),
        ("", json!({"command": "true", "auth_sock": "relative"}), 400),
        ("", json!({"command": "true", "auth_sock": "/a\0b"}), 400),
        ("", json!({"command": "cat", "stdin_base64": "?"}), 400),
        ("", json!({"command": "cat", "stdin": "", "stdin_base64": ""}), 400),
        ("", json!({"command": "cat", "stdin_stream": true}), 400),
        ("", json!({"command": "cat", "max_output_bytes": 67_108_865}), 400),
        (lines, json!({"command": "cat", "max_output_bytes": 1}), 400),
        ("", json!({"command": "true", "env": {"NOT A NAME": ""}}), 400),
        ("", json!({"command": "true", "timeout": 3}), 400),
        ("", json!({"command": "true", "settings": {"max_connections": 0}}), 400),
        ("", json!({"host": "-oProxyCommand=x", "command": "true"}), 400),
        (
            "",
            json!({"host": {"name": "lab", "options": [["ControlPath", "x"]]}, "command": "true"}),
            400,
        ),
        ("", json!({"host": ["lab"], "command": "true"}), 400),
        ("", json!({"command": "true", "lease": "0-0"}), 404),
        ("upgrade: websocket\r\nconnection: upgrade\r\n", json!({"command": "true"}), 400),
    ] {
        let body = lab.exec(more).to_string();
        let answer = api.ask(home, "POST", "/v1/exec", head, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    // What its key file is depends on where the client stands.
    let mut unknown = lab.host.clone();
    unknown["options"] = json!([["CertificateFile", "${NOBODY_HAS_TOLD}/cert"]]);
    for (path, body, status) in [
        ("/v1/connect", json!({"host": lab.host}), 200),
        ("/v1/connect", json!({"host": "127.99.99.99:1"}), 502),
        ("/v1/connect", json!({"host": "lab", "held": true}), 400),
        ("/v1/lease", json!({"host": "127.99.99.99:1"}), 502),
        ("/v1/lease", json!({"host": "127.99.99.99:1", "hold": true}), 400),
        ("/v1/lease", json!({"host": lab.host, "place": {"standing": "elsewhere"}}), 421),
        ("/v1/lease", json!({"host": unknown, "place": {}}), 428),
        ("/v1/check", json!({"host": lab.host}), 200),
        ("/v1/check", json!({"host": lab.host, "hold": true}), 400),
        ("/v1/retire", json!({"host": lab.host}), 200),
        ("/v1/retire", json!({"host": "-x"}), 400),
        ("/v1/connect", json!({"host": lab.host, "place": {"standing": "elsewhere"}}), 421),
        (
            "/v1/exec",
            json!({"host": lab.host, "command": "true", "place": {"standing": "elsewhere"}}),
            421,
        ),
        ("/v1/connect", json!({"host": unknown, "place": {}}), 428),
        ("/v1/exec", json!({"host": unknown, "command": "true", "place": {}}), 428),
        ("/v1/connect", json!({"host": lab.host, "place": {"directory": "relative"}}), 400),
        ("/v1/close", json!({"hosts": ["nosuchhost", lab.host]}), 200),
        ("/v1/close", json!({"all": true, "now": true}), 200),
        ("/v1/close", json!({}), 400),
        ("/v1/close", json!({"hosts": ["lab"], "all": true}), 400),
        ("/v1/stop", json!([]), 400),
        (
            "/v1/forwards",
            json!({"host": lab.host, "forward": "-L 0:localhost:22", "keep": true, "place": {}}),
            200,
        ),
        (
            "/v1/forwards",
            json!({"host": lab.host, "forward": "/", "command": "cat", "keep": true}),
            200,
        ),
        ("/v1/forwards", json!({"host": lab.host, "forward": "-L 0:localhost:22"}), 400),
        ("/v1/forwards", json!({"host": lab.host, "forward": "-L 22", "keep": true}), 400),
        (
            "/v1/forwards",
            json!({"host": lab.host, "forward": "/nosuch/s:localhost:22", "keep": true}),
            502,
        ),
        (
            "/v1/forwards",
            json!({"host": "127.99.99.99:1", "forward": "-R 0:localhost:22", "keep": true}),
            502,
        ),
        (
            "/v1/forwards",
            json!({"host": lab.host, "forward": "-D 0", "keep": true, "place": {"standing": "elsewhere"}}),
            421,
        ),
        (
            "/v1/forwards",
            json!({"host": unknown, "forward": "-L 0:localhost:22", "keep": true, "place": {}}),
            428,
        ),
    ] {
        let head = if path == "/v1/lease" { FRAMES } else { "" };
        let answer = api.ask(home, "POST", path, head, &body.to_string());
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
    }
    let ids: Vec<_> = home.get("/v1/forwards").json()["forwards"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|forward| forward["id"].as_u64().expect("a number"))
        .collect();
    assert_eq!(ids.len(), 2);
    api.ask(home, "GET", "/v1/forwards", "", "");
    for id in ids {
        let path = format!("/v1/forwards/{id}");
        assert_eq!(api.ask(home, "DELETE", &path, "", "").json(), json!({"removed": id}));
        let again = api.ask(home, "DELETE", &path, "", "");
        assert_eq!((again.status, &*again.kind()), (404, "not_found"));
    }
    let without_frames = json!({"host": lab.host}).to_string();
    assert_eq!(api.ask(home, "POST", "/v1/lease", "", &without_frames).status, 400);
    let exhausted = json!({"max_connections": 1, "sessions_per_connection": 1, "acquire_timeout_ms": 0, "standby_sessions": 0});
    let exhausted =
        |command: &str| lab.exec(json!({"command": command, "settings": exhausted.clone()}));
    let mut busy = home.frames(&exhausted("sleep 300"));
    assert_eq!(busy.next(), Some((4, vec![])));
    assert_eq!(api.ask(home, "POST", "/v1/exec", "", &exhausted("true").to_string()).status, 503);
    let hosty = json!({"host": lab.host, "settings": {"max_connections": 1, "sessions_per_connection": 1, "acquire_timeout_ms": 0, "standby_sessions": 0}});
    assert_eq!(api.ask(home, "POST", "/v1/connect", "", &hosty.to_string()).status, 503);
    drop(busy);
    // Each has a pool of its own, until somebody tidies up.
    let mut kept = Vec::new();
    for number in 2.. {
        let more = json!({"command": "sleep 300", "settings": {"max_connections": number, "standby_sessions": 0}});
        let mut frames = home.frames(&lab.exec(more.clone()));
        match frames.next() {
            Some((4, _)) if number < 40 => kept.push(frames),
            other => panic!("{other:?}"),
        }
        let one_more = json!({"host": lab.host, "settings": {"max_connections": number + 1000}});
        if kept.len() > 28
            && api.ask(home, "POST", "/v1/connect", "", &one_more.to_string()).status == 429
        {
            let lease = api.ask(home, "POST", "/v1/lease", FRAMES, &one_more.to_string());
            assert_eq!((lease.status, &*lease.kind()), (429, "too_many"));
            let mut forward = one_more.clone();
            forward["forward"] = "-L 0:localhost:22".into();
            forward["keep"] = true.into();
            let forward = api.ask(home, "POST", "/v1/forwards", "", &forward.to_string());
            assert_eq!((forward.status, &*forward.kind()), (429, "too_many"));
            let more = json!({"command": "true", "settings": {"max_connections": number + 1000}});
            assert_eq!(
                api.ask(home, "POST", "/v1/exec", "", &lab.exec(more).to_string()).kind(),
                "too_many"
            );
            break;
        }
    }
    drop(kept);
    let config = home.path().join("config/sshpool/config.toml");
    let text = std::fs::read_to_string(&config).expect("it was written");
    std::fs::write(&config, "[hosts").expect("ours");
    assert_eq!(api.ask(home, "GET", "/v1/hosts", "", "").status, 400);
    std::fs::write(&config, text).expect("ours");

    let paths = api.document["paths"].as_object().expect("paths");
    let methods = |path: &str| -> Vec<String> {
        let operations = paths[path].as_object().expect("operations");
        operations.keys().map(|method| method.to_ascii_uppercase()).collect()
    };
    // Files have a test of their own (`files::`).
    for path in paths.keys().filter(|path| *path != "/v1/file") {
        let (asked, methods) = (path.replace("{id}", "1"), methods(path));
        let other = if methods == ["POST"] { "GET" } else { "PUT" };
        let wrong = home.ask(other, &asked, "", "");
        assert_eq!(
            (wrong.status, &*wrong.kind(), &*wrong.head["allow"]),
            (405, "wrong_method", &*methods.join(", "))
        );
        for method in &methods {
            let newer = api.ask(home, method, &asked, "sshpool-version: 99.0.0\r\n", "");
            assert_eq!((newer.status, &*newer.kind()), (409, "other_version"));
        }
        if methods.contains(&"POST".to_owned()) {
            let mut client = home.connect();
            client
                .write_all(
                    request("POST", path, "", "").replace("h: 0", "h: 1073741824").as_bytes(),
                )
                .expect("it reads");
            let answer = Answer::read(&mut client);
            api.compare("POST", path, "", &answer);
            assert_eq!((answer.status, &*answer.kind()), (413, "too_large"));
        }
    }
    let nowhere = home.ask("GET", "/v2/exec", "", "");
    assert_eq!((nowhere.status, &*nowhere.kind()), (404, "not_found"));
    // Frames are for other tests (`agent_commands`, `runners`, the one below).
    for path in ["/v1/exec", "/v1/lease", "/v1/forwards"] {
        api.seen.borrow_mut().insert((format!("POST {path}"), "101".to_owned()));
    }
    assert_eq!(api.ask(home, "POST", "/v1/stop", "", "").status, 200);

    let described = paths.iter().flat_map(|(path, operations)| {
        operations.as_object().expect("operations").iter().flat_map(move |(method, of)| {
            let statuses = of["responses"].as_object().expect("responses").keys();
            let name = format!("{} {path}", method.to_ascii_uppercase());
            statuses.map(move |status| (name.clone(), status.clone()))
        })
    });
    // The first has a test of its own, and so has the second: it is for whoever asks anything.
    let elsewhere = |(name, status): &(String, String)| {
        status == "408"
            || name.ends_with(" /v1/file")
            || (status == "503" && !["POST /v1/exec", "POST /v1/connect"].contains(&name.as_str()))
    };
    let described: BTreeSet<_> = described.filter(|pair| !elsewhere(pair)).collect();
    assert_eq!(*api.seen.borrow(), described, "all that is described was seen");
}

/// A forward in frames tells what happens to it, ends with them, and is counted.
#[test]
fn a_forward_in_frames_tells_what_happens_and_ends_with_them() {
    let lab = Lab::new();
    let (home, api) = (&lab.home, Description::read());
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let body = json!({"host": lab.host, "forward": "-L 0:127.0.0.1:1"});
    let mut client = home.connect();
    client
        .write_all(request("POST", "/v1/forwards", FRAMES, &body.to_string()).as_bytes())
        .expect("it reads");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut frames = agents::Frames(client);
    let (kind, info) = frames.next().expect("it begins");
    let info: Value = serde_json::from_slice(&info).expect("it is JSON");
    assert_eq!((kind, &info["kept"]), (4, &json!(false)));
    api.hold(&schema("Forward"), &info);
    let status = home.status();
    assert_eq!(
        (&status["agent"]["forwards"], &status["agent"]["commands"]),
        (&1.into(), &1.into())
    );
    let shown = home.run(["status"]).stdout;
    assert!(shown.contains("\n1 forward (`sshpool forward ls` shows it)\n"), "{shown}");

    // Nobody listens there.
    let port = info["listening"].as_str().and_then(|at| at.parse().ok()).expect("a port");
    let mut refused = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let error = refused.read(&mut [0]).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    for expected in ["connected", "failed"] {
        let (kind, event) = frames.next().expect("something happens");
        let event: Value = serde_json::from_slice(&event).expect("it is JSON");
        assert_eq!((kind, &event["event"]), (1, &json!(expected)), "{event}");
        api.hold(&schema("ForwardEvent"), &event);
    }
    let counted = || {
        let metrics = home.get("/metrics").text();
        ["forwards", "forward_clients_total", "forward_failures_total"].map(|name| {
            let start = format!("sshpool_agent_{name} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
            value.unwrap_or_else(|| panic!("{name}: {metrics}")).to_owned()
        })
    };
    assert_eq!(counted(), ["1", "1", "1"]);
    drop(frames);
    wait_for("it counts no more", PATIENCE, || home.status()["agent"]["forwards"] == 0);
    assert_eq!(counted(), ["0", "1", "1"], "what it has counted stays counted");
    wait_for("it is gone", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!home.run(["status"]).stdout.contains("forward"));
}

#[test]
fn what_is_no_request_is_refused() {
    let lab = Lab::new();
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    for garbage in [
        b"\0\x01\x02\x03\xff\xfe garbage \r\n\r\n".to_vec(),
        b"GET /v1/health HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        long.into_bytes(),
        b"POST /v1/exec HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n".to_vec(),
        b"POST /v1/exec HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n".to_vec(),
    ] {
        let mut client = lab.home.connect();
        // It may have heard enough.
        let _ = client.write_all(&garbage);
        client.shutdown(Shutdown::Write).expect("it is open");
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard);
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 4"), "{heard}");
    }
    lab.is_well();
}

#[rstest]
#[case::unknown(&[71, 0, 0, 0, 0, 0, 0, 1, 0], "a frame of kind 71 is not for a command")]
#[case::for_a_client(&[1, 0, 0, 0, 0, 0, 0, 0], "a frame of kind 1 is not for a command")]
#[case::not_asked_for(&[0, 0, 0, 0, 0, 0, 0, 1, 7], "a frame of input, but no stdin_stream in the request")]
#[case::long(&[5, 0, 0, 0, 255, 255, 255, 255], "a frame of kind 5 has no bytes")]
fn a_wrong_frame_ends_the_command_and_is_told(#[case] frame: &[u8], #[case] why: &str) {
    let lab = Lab::new();
    let mut frames = lab.home.frames(&lab.exec(json!({"command": "echo $$; sleep 300"})));
    assert_eq!(frames.next(), Some((4, vec![])));
    let (_, pid) = frames.next().expect("it writes");
    frames.0.write_all(frame).expect("it reads");
    let (out, err, end) = frames.rest();
    assert_eq!((out.len(), err.len()), (0, 0));
    assert_eq!(end, json!({"error": {"kind": "invalid", "message": why, "never_started": false}}));
    let pid = String::from_utf8_lossy(&pid).trim().parse().expect("a pid");
    assert!(!lab.sshd.is_alive(pid));
    lab.wait_for_no_command();
}

#[test]
fn input_may_come_at_once_and_in_a_frame_of_any_length() {
    let lab = Lab::new();
    // Before the login is made: nothing of it is lost.
    assert_eq!(lab.home.run(["close", "--all"]).code(), 0);
    let mut client = lab.home.connect();
    let body = lab.exec(json!({"command": "cat; echo over >&2", "stdin_stream": true})).to_string();
    let head = "connection: upgrade\r\nupgrade: sshpool-frames\r\n";
    let mut all = request("POST", "/v1/exec", head, &body).into_bytes();
    all.extend([0, 0, 0, 0, 0, 0, 0, 5]);
    all.extend(b"first");
    client.write_all(&all).expect("it reads");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut frames = agents::Frames(client);
    let second = vec![b'x'; 3 << 20];
    let mut sender = agents::Frames(frames.0.try_clone().expect("a handle"));
    let feed = std::thread::spawn(move || {
        sender.send(0, &second).and_then(|()| sender.send(0, b"")).expect("it reads");
    });
    let (out, err, end) = frames.rest();
    feed.join().expect("no panic");
    assert!(out.len() == 5 + (3 << 20) && out.starts_with(b"firstx"));
    assert_eq!((&*err, end), (&b"over\n"[..], json!({"exit_code": 0})));

    // What is promised to be long need not come.
    let mut frames =
        lab.home.frames(&lab.exec(json!({"command": "cat >/dev/null", "stdin_stream": true})));
    assert_eq!(frames.next(), Some((4, vec![])));
    frames.0.write_all(&[0, 0, 0, 0, 255, 255, 255, 255]).expect("it reads");
    for _ in 0..200 {
        frames.0.write_all(&[b'x'; 1 << 16]).expect("it reads");
    }
    assert!(lab.resident_kib() < 100 * 1024, "{} KiB are used", lab.resident_kib());
    drop(frames);
    lab.wait_for_no_command();
    lab.is_well();
}

/// A client that is still sending hears of the end all the same.
#[test]
fn input_that_nobody_wants_any_more_is_taken() {
    let lab = Lab::new();
    let mut frames = lab.home.frames(&lab.exec(json!({"command": "exit 7", "stdin_stream": true})));
    let mut sender = agents::Frames(frames.0.try_clone().expect("a handle"));
    let heard = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let send = scope.spawn(|| {
            for _ in 0..2000 {
                let sent = sender.send(0, &[b'x'; 1 << 16]);
                if heard.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                sent.expect("it is taken");
            }
        });
        let mut end = None;
        while let Some((kind, bytes)) = frames.next() {
            if kind == 3 {
                end = Some(serde_json::from_slice::<Value>(&bytes).expect("it is JSON"));
                break;
            }
        }
        assert_eq!(end, Some(json!({"exit_code": 7})));
        heard.store(true, std::sync::atomic::Ordering::Relaxed);
        frames.0.shutdown(Shutdown::Both).expect("it is open");
        send.join().expect("no panic");
    });
    lab.wait_for_no_command();
}

/// By a frame, or by closing its side, the client has the command ended and hears of it.
#[rstest]
#[case::a_frame(true)]
#[case::half_of_the_connection(false)]
fn a_client_can_end_its_command(#[case] frame: bool) {
    let lab = Lab::new();
    let mut frames = lab.home.frames(&lab.exec(
        json!({"command": "echo $$; trap 'echo told; exit 9' TERM; while :; do sleep 0.05; done"}),
    ));
    assert_eq!(frames.next(), Some((4, vec![])));
    let (_, pid) = frames.next().expect("it writes");
    match frame {
        true => frames.send(5, b"").expect("it reads"),
        false => frames.0.shutdown(Shutdown::Write).expect("it is open"),
    }
    let (_, _, end) = frames.rest();
    assert_eq!(end, json!({"exit_code": null}));
    let pid = String::from_utf8_lossy(&pid).trim().parse().expect("a pid");
    assert!(!lab.sshd.is_alive(pid));
}

/// Also where the agent has no reason to read: it has read the request, and more is there already.
#[rstest]
#[case::collected("")]
#[case::lines("accept: application/x-ndjson\r\n")]
fn a_client_that_has_sent_too_much_and_is_gone_is_heard(#[case] head: &str) {
    let lab = Lab::new();
    let body =
        lab.exec(json!({"command": "echo $$ >~/pid; sleep 300", "timeout_ms": 0})).to_string();
    let mut client = lab.home.connect();
    let two = request("POST", "/v1/exec", head, &body) + &request("GET", "/v1/health", "", "");
    client.write_all(two.as_bytes()).expect("it reads");
    wait_for("a command", PATIENCE, || lab.sshd.exec("cat pid 2>/dev/null").stdout.ends_with('\n'));
    let pid = lab.sshd.exec("cat pid").stdout.trim().parse().expect("a pid");
    drop(client);
    wait_for("its end", PATIENCE, || !lab.sshd.is_alive(pid));
    lab.wait_for_no_command();
}

#[test]
fn a_body_without_end_is_cut_off() {
    let lab = Lab::new();
    let mut client = lab.home.connect();
    let head = "POST /v1/exec HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).expect("it reads");
    let chunk =
        [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent < 1024 && client.write_all(&chunk).is_ok() {
        sent += 1;
    }
    assert!(sent < 400, "{sent} MiB were taken");
    assert!(lab.resident_kib() < 300 * 1024, "{} KiB are used", lab.resident_kib());
    let answer = Answer::read(&mut client);
    assert_eq!((answer.status, &*answer.kind()), (413, "too_large"));
    lab.is_well();
}

/// It takes half a minute, beside the others.
#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let lab = Lab::new();
    let mut slow = lab.home.connect();
    slow.write_all(request("POST", "/v1/exec", "", "").replace("h: 0", "h: 100").as_bytes())
        .expect("it reads");
    let mut silent = lab.home.connect();
    silent.write_all(b"GET /v1/hea").expect("it reads");
    let answer = Answer::read(&mut slow);
    Description::read().compare("POST", "/v1/exec", "", &answer);
    assert_eq!((answer.status, &*answer.kind()), (408, "too_slow"));
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).expect("it is closed");
    lab.is_well();
}

/// Whether so many descriptors may be had, and the test is to go on with them. It does so in a
/// process of its own, because the limit is of a whole process, and other tests look at it.
fn descriptors(wanted: u64) -> bool {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    if hard < wanted {
        common::skip(&format!("{hard} descriptors are allowed, and {wanted} needed"));
        return false;
    }
    let alone = itself::is_alone();
    if alone {
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).expect("it is allowed");
    }
    alone
}

#[test]
fn thousands_of_clients_are_refused_and_not_the_end() {
    if !descriptors(6000) {
        return;
    }
    let lab = Lab::new();
    let mut clients: Vec<UnixStream> = (0..2000).map(|_| lab.home.connect()).collect();
    // Those are taken in their order.
    let mut late = lab.home.connect();
    late.write_all(request("GET", "/v1/health", "", "").as_bytes()).expect("it reads");
    let answer = Answer::read(&mut late);
    Description::read().compare("GET", "/v1/health", "", &answer);
    assert_eq!((answer.status, &*answer.kind()), (503, "too_many_clients"));
    let program = lab.home.run_on(&lab.sshd, &["exec", "lab", "true"]);
    let told = "sshpool: lab: the command was not started: more than 2000 clients at once\n";
    assert_eq!((program.code(), &*program.stderr), (255, told));
    clients.extend((0..3000).map(|_| lab.home.connect()));
    // The first ones are served.
    clients[0].write_all(request("GET", "/v1/health", "", "").as_bytes()).expect("it reads");
    assert_eq!(Answer::read(&mut clients[0]).status, 200);
    drop(clients);
    wait_for("fewer clients", PATIENCE, || lab.home.get("/v1/health").status == 200);
    assert!(lab.resident_kib() < 200 * 1024, "{} KiB are used", lab.resident_kib());
    lab.is_well();
}

#[test]
fn too_many_commands_are_refused() {
    if !descriptors(6000) {
        return;
    }
    let lab = Lab::new();
    // It accepts, and says nothing: all of them wait for one login.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    let body = json!({"host": address, "command": "true", "settings": {"connect_timeout_ms": 300_000, "acquire_timeout_ms": 300_000}}).to_string();
    let mut clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = lab.home.connect();
            client.write_all(request("POST", "/v1/exec", "", &body).as_bytes()).expect("it reads");
            client
        })
        .collect();
    wait_for("all of them", PATIENCE, || lab.home.status()["agent"]["commands"] == 1000);
    let one = lab.exec(json!({"command": "true"})).to_string();
    let again = || {
        let answer = lab.home.ask("POST", "/v1/exec", "", &one);
        Description::read().compare("POST", "/v1/exec", &one, &answer);
        answer
    };
    let answer = again();
    assert_eq!((answer.status, &*answer.kind()), (429, "too_many"));
    clients.pop();
    wait_for("a place", PATIENCE, || again().status == 200);
    drop(clients);
    lab.wait_for_no_command();
    lab.is_well();
}

/// One after another, over one connection.
#[test]
fn a_connection_serves_many_requests() {
    let lab = Lab::new();
    let mut client = lab.home.connect();
    for number in 0..20 {
        let body = lab.exec(json!({"command": format!("echo {number}")})).to_string();
        client.write_all(request("POST", "/v1/exec", "", &body).as_bytes()).expect("it reads");
        let answer = Answer::read(&mut client);
        assert_eq!(answer.json()["stdout"], format!("{number}\n"));
        assert_eq!(answer.head["keep-alive"], "timeout=30");
    }
    let counts: BTreeMap<String, Value> =
        serde_json::from_value(lab.home.status()["agent"].clone()).expect("an object");
    assert_eq!((&counts["clients"], &counts["commands"]), (&json!(1), &json!(0)));
    // An agent that leaves does not wait for one that may ask more.
    assert_eq!(run(&mut lab.home.command(["agent", "stop"]), Duration::from_secs(4)).code(), 0);
}
