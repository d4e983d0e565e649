//! Projects and services as rows of a table.

use crate::cli::failure::NOT_RUN;
use crate::cli::many::Answer;
use crate::cli::output::complain;
use crate::docker::{Project, ProjectStatus, Service};

pub(super) const PROJECT_COLUMNS: &[&str] = &["PROJECT", "STATUS", "DETAIL", "FILES"];

pub(super) fn project_row(project: &Project) -> Vec<String> {
    vec![
        project.name.clone(),
        project.status.to_string(),
        project.detail.clone(),
        project.config_files.join(","),
    ]
}

pub(super) const SERVICE_COLUMNS: &[&str] =
    &["SERVICE", "CONTAINER", "STATE", "HEALTH", "EXIT", "PORTS"];

pub(super) fn service_row(service: &Service) -> Vec<String> {
    let ports = service.publishers.iter().map(|port| match (&port.address, port.published_port) {
        (Some(address), Some(published)) => {
            let address =
                if address.contains(':') { format!("[{address}]") } else { address.clone() };
            format!("{address}:{published}->{}/{}", port.target_port, port.protocol)
        }
        _ => format!("{}/{}", port.target_port, port.protocol),
    });
    vec![
        service.name.clone(),
        service.container.clone(),
        service.state.to_string(),
        service.health.clone().unwrap_or_else(|| "-".to_owned()),
        service.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
        ports.collect::<Vec<_>>().join(", "),
    ]
}

/// A line that cannot be read is not passed over in silence.
pub(super) fn warn_unreadable(status: u8, answer: &Answer<ProjectStatus>) -> u8 {
    let unreadable = answer.found.iter().flat_map(|project| &project.unreadable);
    unreadable.fold(status, |_, line| {
        complain(format_args!(
            "{}: cannot read the answer of docker compose ps: {line}",
            answer.host
        ));
        NOT_RUN
    })
}
