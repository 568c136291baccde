//! The `processes` of an agent.

use std::time::Duration;

use diag::{Source, Spanned, codes, did_you_mean};

use crate::parse_recipe::{probe, variables};
use crate::parse_tier::name;
use crate::reader::{Table, Value};
use crate::{Agent, HealthProbe, Name, Process, Ready, Recipe, RecipeError, Restart, Result};

pub(crate) fn processes(source: &Source, table: &Table<'_>) -> Result<Vec<Process>> {
    let one = |(key, value): (Spanned<&str>, Value<'_>)| {
        let table = value.table()?;
        let command = table.need("command")?;
        let process = Process {
            name: name(source, key)?,
            command: command.strings()?.into_iter().map(|text| text.value).collect(),
            env: variables(&table, "env")?,
            workdir: table.get("workdir").map(|value| value.parse()).transpose()?.map(|path| path.value),
            restart: match table.get("restart") {
                Some(value) => {
                    let words = [Restart::Always, Restart::OnFailure, Restart::Never];
                    value.choice(&words.map(|word| (word.as_str(), word)))?.value
                }
                None => Restart::OnFailure,
            },
            after: table.get("after").map_or(Ok(Vec::new()), |value| value.parse_all())?,
            ready: table.get("ready").map_or(Ok(Ready::Started), |value| ready(source, &value))?,
            health: match table.table("health")? {
                Some(table) => {
                    let probe = probe(source, &table)?;
                    let timeout = duration(&table, "timeout", 5)?;
                    table.finish()?;
                    Some((probe, timeout))
                }
                None => None,
            },
        };
        if process.command.is_empty() {
            return Err(command.bad("names no program"));
        }
        table.finish()?;
        Ok(process)
    };
    table.entries().into_iter().map(one).collect()
}

fn duration(table: &Table<'_>, key: &'static str, seconds: u64) -> Result<Duration> {
    table.get(key).map_or(Ok(Duration::from_secs(seconds)), |value| value.duration())
}

fn ready(source: &Source, value: &Value<'_>) -> Result<Ready> {
    if value.is_string() {
        let word = value.choice(&[("started", true), ("completed", false)])?.value;
        return Ok(if word { Ready::Started } else { Ready::Completed });
    }
    let table = value.table()?;
    let (probe, within) = (probe(source, &table)?, duration(&table, "within", 60)?);
    table.finish()?;
    Ok(match probe {
        HealthProbe::None => Ready::Started,
        probe => Ready::Probe { probe, within },
    })
}

/// Checks that the processes of an agent can start in some order.
pub(crate) fn check(recipe: &Recipe, agent: &Agent) -> Result<()> {
    let Agent { source, processes, .. } = agent;
    let own = &recipe.name.value;
    if let Some(process) = processes.iter().find(|process| process.name.value == *own) {
        let message = format!("`{own}` is the name of the recipe's own command");
        return Err(RecipeError::at(codes::recipe::DUPLICATE, source, process.name.span, message));
    }
    let known: Vec<&str> = processes.iter().map(|one| one.name.value.as_str()).chain([own.as_str()]).collect();
    let all = processes.iter().flat_map(|process| &process.after).chain(&agent.after);
    if let Some(unknown) = all.clone().find(|name| !known.contains(&name.value.as_str())) {
        let message = format!("process `{}` is not defined", unknown.value);
        let error = RecipeError::at(codes::recipe::UNKNOWN_PROCESS, source, unknown.span, message);
        return Err(match did_you_mean(unknown.value.as_str(), known.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help(format!("processes: {}", known.join(", "))),
        });
    }
    // What waits for nothing that is left can start, until nothing is left or nothing can.
    let mut left: Vec<(&Name, &[Spanned<Name>])> = processes
        .iter()
        .map(|one| (&one.name.value, one.after.as_slice()))
        .chain([(own, agent.after.as_slice())])
        .collect();
    loop {
        let waiting: Vec<&Name> = left.iter().map(|(name, _)| *name).collect();
        left.retain(|(_, after)| after.iter().any(|name| waiting.contains(&&name.value)));
        match left.first().and_then(|(_, after)| after.iter().find(|name| waiting.contains(&&name.value))) {
            None => return Ok(()),
            Some(stuck) if left.len() == waiting.len() => {
                let names: Vec<&str> = waiting.iter().map(|name| name.as_str()).collect();
                let message = format!("processes wait for each other: {}", names.join(", "));
                return Err(RecipeError::at(codes::recipe::CYCLE, source, stuck.span, message)
                    .help("take one of them out of an `after`"));
            }
            Some(_) => {}
        }
    }
}
