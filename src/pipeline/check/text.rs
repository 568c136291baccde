//! Conventions of recipes, beyond what parsing holds them to.

use std::time::Duration;

use diag::{Code, Diagnostic, codes};
use recipe::{ContainerPath, ContractPoint, HealthProbe, Recipe};

/// More than an orchestrator waits for anything.
const LONGEST_STOP: Duration = Duration::from_secs(3600);
/// Ports below take a capability no container gets.
const FIRST_PORT: u16 = 1024;
/// What names of secrets end in.
const SECRETS: [&str; 5] = ["_TOKEN", "_PASSWORD", "_SECRET", "_API_KEY", "_PASSPHRASE"];

/// Everything about a recipe's text that is not as it should be.
pub(super) fn issues(recipe: &Recipe) -> Vec<Diagnostic> {
    let image = &recipe.image;
    let name = recipe.name.span;
    let mut issues = Vec::new();
    let mut issue = |code: Code, span, message: String, mark: &str, help: &str| {
        issues.push(Diagnostic::new(code, message).label(&recipe.source, span, mark).help(help));
    };
    if let Err(error) = spdx::Expression::parse(&recipe.license.value) {
        let message = format!("`{}` is no SPDX licence expression: {}", recipe.license.value, error.reason);
        issue(
            codes::check::LICENSE,
            recipe.license.span,
            message,
            "",
            "identifiers are those of https://spdx.org/licenses",
        );
    }
    if recipe.is_firmware() {
        return issues;
    }
    if matches!(recipe.health.probe, HealthProbe::None) && !recipe.contract.waived.contains_key(&ContractPoint::Health)
    {
        let help = "add `[health]`, or say why there can be none: `[contract] waive = { health = \"the reason\" }`";
        let message = format!("nothing tells whether `{}` works", recipe.name.value);
        issue(codes::check::HEALTH, name, message, "it declares no health check", help);
    }
    if image.stop_timeout.is_zero() || image.stop_timeout > LONGEST_STOP {
        let message = format!(
            "`stop_timeout` of {} s leaves no time to stop, or more than anybody waits",
            image.stop_timeout.as_secs()
        );
        issue(codes::check::STOP, name, message, "", "give it a time between a second and an hour");
    }
    for port in image.ports.iter().filter(|port| port.value < FIRST_PORT) {
        let message = format!("port {} can only be opened by root", port.value);
        issue(
            codes::check::PORT,
            port.span,
            message,
            "",
            "listen on a port from 1024 on; containers map it to any other",
        );
    }
    if let Some(config) = &recipe.config {
        let within = |place: &ContainerPath| config.path.value.as_str().starts_with(&format!("{}/", place.as_str()));
        if !image.volumes.iter().chain(&image.tmpfs).any(|place| within(&place.value)) {
            let message = format!("`{}` cannot be written where the root is read-only", config.path.value);
            let help = "let it lie in one of `volumes` or `tmpfs`";
            issue(codes::check::CONFIG_PATH, config.path.span, message, "lies in no volume", help);
        }
        for (variable, entry) in &config.overrides {
            if !entry.secret && SECRETS.iter().any(|end| variable.ends_with(end)) {
                let message = format!("the override `{variable}` looks like a secret and is not declared as one");
                issue(
                    codes::check::SECRET,
                    config.file.span,
                    message,
                    "in this configuration",
                    "write `secret = true`",
                );
            }
            if entry.secret && image.env.get(variable).is_some_and(|value| !value.is_empty()) {
                let message = format!("the secret `{variable}` has a value in `[image.env]`");
                issue(codes::check::SECRET, name, message, "", "take it out: everybody who has the image can read it");
            }
        }
    }
    issues
}
