//! The image config as instructions.

use std::fmt::Write as _;

use oci::{ContainerConfig, HealthCheck};

use super::Unsayable;
use super::words::{json_list, line, quoted};

/// Instructions for the last stage.
pub(super) fn instructions(config: &ContainerConfig) -> Result<String, Unsayable> {
    let mut text = String::new();
    let mut instruction = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string grows as needed");
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        instruction(format_args!("ENV {}={}", line("the name of a variable", name)?, quoted("a variable", value)?));
    }
    for (name, value) in &config.labels {
        instruction(format_args!("LABEL {}={}", quoted("a label", name)?, quoted("a label", value)?));
    }
    for port in &config.exposed_ports {
        instruction(format_args!("EXPOSE {}", line("a port", port)?));
    }
    if !config.volumes.is_empty() {
        instruction(format_args!("VOLUME {}", json_list(config.volumes.iter().map(String::as_str))));
    }
    if !config.working_dir.is_empty() {
        instruction(format_args!("WORKDIR {}", line("the working directory", &config.working_dir)?));
    }
    if !config.user.is_empty() {
        instruction(format_args!("USER {}", line("the user", &config.user)?));
    }
    if !config.stop_signal.is_empty() {
        instruction(format_args!("STOPSIGNAL {}", line("the stop signal", &config.stop_signal)?));
    }
    if let Some(check) = &config.healthcheck {
        instruction(format_args!("HEALTHCHECK {}", health_check(check)?));
    }
    if !config.entrypoint.is_empty() {
        instruction(format_args!("ENTRYPOINT {}", json_list(config.entrypoint.iter().map(String::as_str))));
    }
    if !config.cmd.is_empty() {
        instruction(format_args!("CMD {}", json_list(config.cmd.iter().map(String::as_str))));
    }
    Ok(text)
}

fn health_check(check: &HealthCheck) -> Result<String, Unsayable> {
    let mut words = Vec::new();
    for (name, nanoseconds) in
        [("interval", check.interval), ("timeout", check.timeout), ("start-period", check.start_period)]
    {
        if nanoseconds > 0 {
            let (number, unit) = match nanoseconds % 1_000_000_000 {
                0 => (nanoseconds / 1_000_000_000, "s"),
                _ => (nanoseconds, "ns"),
            };
            words.push(format!("--{name}={number}{unit}"));
        }
    }
    if check.retries > 0 {
        words.push(format!("--retries={}", check.retries));
    }
    match check.test.split_first() {
        Some((kind, program)) if kind == "CMD" => {
            words.push(format!("CMD {}", json_list(program.iter().map(String::as_str))));
        }
        Some((kind, [command])) if kind == "CMD-SHELL" => {
            words.push(format!("CMD {}", line("the health check", command)?));
        }
        Some(_) | None => return Ok("NONE".to_owned()),
    }
    Ok(words.join(" "))
}
