use super::*;
use rstest::rstest;

const EXPECTED: &str = "\
    api/harbour-api-1 running - - 3000/tcp\n\
    api/harbour-api-2 running - - 3000/tcp\n\
    cache/harbour-cache-1 running unhealthy - \n\
    flaky/harbour-flaky-1 restarting - - \n\
    job/harbour-job-1 exited - 3 \n\
    killed/harbour-killed-1 exited - 137 \n\
    later/harbour-later-1 created - - \n\
    migrate/harbour-migrate-1 exited - 0 \n\
    search/harbour-search-1 running starting - \n\
    web/harbour-web-1 running healthy - \
    0.0.0.0:5353->53/udp,0.0.0.0:8443->443/tcp,127.0.0.1:8080->80/tcp,9000/tcp,\
    :::5353->53/udp,:::8443->443/tcp\n\
    worker/harbour-once exited - 7 \n\
    worker/harbour-worker-1 paused - - \n";

/// A line for each container, sorted: the versions have them in different orders.
fn lines(services: &[Service]) -> String {
    let publisher = |port: &Publisher| match (&port.address, port.published_port) {
        (Some(address), Some(published)) => {
            format!("{address}:{published}->{}/{}", port.target_port, port.protocol)
        }
        (None, None) => format!("{}/{}", port.target_port, port.protocol),
        other => panic!("{other:?}"),
    };
    let mut lines: Vec<String> = Vec::new();
    for service in services {
        let mut ports: Vec<_> = service.publishers.iter().map(publisher).collect();
        ports.sort();
        let code = service.exit_code.map_or("-".to_owned(), |code| code.to_string());
        let health = service.health.as_deref().unwrap_or("-");
        let Service { name, container, state, .. } = service;
        lines.push(format!("{name}/{container} {state} {health} {code} {}\n", ports.join(",")));
    }
    lines.sort();
    lines.concat()
}

#[rstest]
#[case::array_2_20_1(include_str!("../../../tests/recorded/ps-2.20.1-array.json"))]
#[case::array_2_20_3(include_str!("../../../tests/recorded/ps-2.20.3-array.json"))]
#[case::lines_2_21_0(include_str!("../../../tests/recorded/ps-2.21.0-lines.json"))]
#[case::lines_2_26_1(include_str!("../../../tests/recorded/ps-2.26.1-lines.json"))]
#[case::lines_2_31_0(include_str!("../../../tests/recorded/ps-2.31.0-lines.json"))]
#[case::lines_2_40_3(include_str!("../../../tests/recorded/ps-2.40.3-lines.json"))]
fn every_version_says_the_same(#[case] recorded: &str) {
    let found = project_status("harbour", recorded);
    assert_eq!(
        (&*found.project, found.status, &found.unreadable[..]),
        ("harbour", Status::Partial, &[][..])
    );
    assert_eq!(lines(&found.services), EXPECTED);
}

#[test]
fn one_line_is_a_whole_document_too() {
    let found =
        project_status("notes", include_str!("../../../tests/recorded/ps-2.40.3-lines-one.json"));
    assert_eq!(
        (found.status, found.services.len(), found.unreadable.len()),
        (Status::Running, 1, 0)
    );
}

#[rstest]
#[case::array(include_str!("../../../tests/recorded/ps-2.20.3-array-empty.json"))]
#[case::lines(include_str!("../../../tests/recorded/ps-2.21.0-lines-empty.json"))]
fn a_project_without_containers_is_stopped(#[case] recorded: &str) {
    let found = project_status("nosuch", recorded);
    assert!(found.is_nothing() && found.status == Status::Stopped);
}

#[rstest]
#[case::line(
    "{\"Service\":\"web\",\"State\":\"running\"}\n{\"Service\":\"db\"\nWARN[0000] text\n",
    &["line 2: "]
)]
#[case::array(
    "[{\"Service\":\"web\",\"State\":\"running\"},{\"Service\":\"db\"}]",
    &["entry 2: missing field `State`"]
)]
#[case::kind(
    "{\"Service\":\"web\",\"State\":\"running\"}\n{\"Service\":\"web\",\"State\":1}",
    &["line 2: "]
)]
fn what_cannot_be_read_is_reported_and_the_rest_is_there(
    #[case] text: &str,
    #[case] reports: &[&str],
) {
    let found = project_status("shop", text);
    assert_eq!((found.status, found.services.len()), (Status::Unknown, 1));
    assert_eq!(found.unreadable.len(), reports.len(), "{:?}", found.unreadable);
    for (line, report) in found.unreadable.iter().zip(reports) {
        assert!(line.starts_with(report) && !line.contains('\n'), "{line}");
    }
}

#[rstest]
#[case::v2_20_3(include_str!("../../../tests/recorded/ls-2.20.3-all.json"))]
#[case::v2_40_3(include_str!("../../../tests/recorded/ls-2.40.3-all.json"))]
fn projects_are_listed(#[case] recorded: &str) {
    let found = projects(recorded).expect("it can be read");
    let found: Vec<_> =
        found.iter().map(|p| (&*p.name, p.status, p.config_files.join(" "))).collect();
    let expected = [
        ("harbour", Status::Partial, "/srv/harbour/compose.yaml"),
        ("notes", Status::Running, "/srv/notes/compose.yaml /srv/notes/compose.override.yaml"),
        ("piped", Status::Running, ""),
        ("sets", Status::Stopped, "/srv/sets/docker-compose.yml"),
    ];
    assert_eq!(found, expected.map(|(name, status, files)| (name, status, files.to_owned())));
    assert!(
        projects(include_str!("../../../tests/recorded/ls-2.40.3-empty.json"))
            .expect("it is empty")
            .is_empty()
    );
    assert_eq!(
        projects(include_str!("../../../tests/recorded/ls-2.40.3.json"))
            .expect("it can be read")
            .len(),
        3
    );
}

#[rstest]
#[case("/srv/a.yaml", &["/srv/a.yaml"], false)]
#[case("/srv/a.yaml,/srv/b.yaml", &["/srv/a.yaml", "/srv/b.yaml"], false)]
#[case("/srv/a, b/c.yaml,/srv/d.yaml", &["/srv/a, b/c.yaml", "/srv/d.yaml"], false)]
#[case("/srv/a.yaml,-", &["/srv/a.yaml"], true)]
#[case("-", &[], true)]
#[case("N/A", &[], false)]
#[case("", &[], false)]
fn files_of_a_project(#[case] list: &str, #[case] files: &[&str], #[case] from_stdin: bool) {
    let text = format!(
        "Welcome!\n[{{\"Name\":\"shop\",\"Status\":\"running(1)\",\"ConfigFiles\":{list:?}}}]\n"
    );
    let found = &projects(&text).expect("it can be read")[0];
    assert_eq!(
        (&found.config_files[..], found.from_stdin),
        (files.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>().as_slice(), from_stdin)
    );
}

#[test]
fn a_greeting_before_the_answer_is_not_part_of_it() {
    let line = "{\"Service\":\"web\",\"State\":\"running\"}\n";
    let found = project_status("shop", &format!("[info] welcome to web1\n\n{line}{line}"));
    assert_eq!(
        (found.status, found.services.len(), found.unreadable.len()),
        (Status::Running, 2, 0)
    );
    let found = project_status("shop", "Welcome to web1\n");
    assert_eq!((found.status, found.unreadable.len()), (Status::Unknown, 1));
}

#[rstest]
#[case::array("[{\"Service\":\"web\",\"State\":\"running\"}]\n>>>> by podman-compose <<<<\n")]
#[case::lines("{\"Service\":\"web\",\"State\":\"running\"}\nWARN[0000] deprecated\n[notice] a\n")]
fn g4_text_behind_the_answer_is_read_over(#[case] text: &str) {
    let found = project_status("shop", text);
    assert_eq!(
        (found.status, found.services.len(), found.unreadable.len()),
        (Status::Running, 1, 0)
    );
    let listed = projects("[{\"Name\":\"shop\",\"Status\":\"running(1)\"}]\n>>>> by podman <<<<\n");
    assert_eq!(listed.expect("it can be read").len(), 1);
    assert!(projects("[]\nnotice\n").expect("it can be read").is_empty());
}

#[test]
fn a_list_that_cannot_be_read_is_an_error_of_one_line() {
    let error = projects("[{\"Status\":\"running(1)\"}]\n\u{1b}[31m").expect_err("no name");
    assert!(error.contains("in \"[{") && !error.contains(char::is_control), "{error}");
}

#[rstest]
#[case("running(2)", Status::Running)]
#[case("running(2), exited(1)", Status::Partial)]
#[case("exited(1), running(2)", Status::Partial)]
#[case("paused(1), running(2)", Status::Partial)]
#[case("exited(1)", Status::Stopped)]
#[case("created(1), exited(3)", Status::Stopped)]
#[case("running", Status::Unknown)]
#[case("running(x)", Status::Unknown)]
#[case("running(0)", Status::Unknown)]
#[case("dreaming(1)", Status::Unknown)]
#[case("", Status::Unknown)]
fn counts_of_containers_are_a_status(#[case] text: &str, #[case] status: Status) {
    assert_eq!(Status::from_counts(text), status);
}
