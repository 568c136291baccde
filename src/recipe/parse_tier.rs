//! The `[profiles]` and `[agents]` tables, and files of one agent.

use std::collections::BTreeMap;

use diag::{Source, Spanned, codes, did_you_mean};

use crate::parse_image::{Claims, additions};
use crate::parse_process;
use crate::parse_recipe::{health, key_path, overrides};
use crate::reader::{Table, Value};
use crate::{Agent, Member, MemberKeys, Name, Profile, Recipe, RecipeError, Result, Roster, Setting};

pub(crate) fn name(source: &Source, text: Spanned<&str>) -> Result<Spanned<Name>> {
    match text.value.parse() {
        Ok(name) => Ok(Spanned::new(name, text.span)),
        Err(error) => Err(RecipeError::at(codes::recipe::BAD_VALUE, source, text.span, format!("{error}"))),
    }
}

pub(crate) fn profiles(source: &Source, table: &Table<'_>) -> Result<Vec<Profile>> {
    let one = |(key, value): (Spanned<&str>, Value<'_>)| {
        let table = value.table()?;
        let profile = Profile {
            name: name(source, key)?,
            summary: table.need("summary")?.text()?.value,
            from: table.get("from").map(|value| value.parse()).transpose()?,
            packages: table.get("packages").map_or(Ok(Vec::new()), |value| value.strings())?,
            additions: additions(source, &table)?,
        };
        table.finish()?;
        Ok(profile)
    };
    table.entries().into_iter().map(one).collect()
}

/// The agent in a table: an entry of `[agents]`, or the whole of a file.
pub(crate) fn agent(source: &Source, name: Spanned<Name>, table: &Table<'_>) -> Result<Agent> {
    let agent = Agent {
        source: source.clone(),
        name,
        summary: table.need("summary")?.text()?.value,
        profile: table.get("profile").map(|value| value.parse()).transpose()?,
        additions: additions(source, table)?,
        settings: settings(table)?,
        members: match table.get("members") {
            Some(value) => value.array()?.iter().map(|member| self::member(&member.table()?)).collect::<Result<_>>()?,
            None => Vec::new(),
        },
        overrides: overrides(table)?,
        processes: match table.table("processes")? {
            Some(table) => parse_process::processes(source, &table)?,
            None => Vec::new(),
        },
        after: table.get("after").map_or(Ok(Vec::new()), |value| value.parse_all())?,
        health: table.table("health")?.map(|table| health(source, table)).transpose()?,
    };
    if let Some(packages) = table.get("packages") {
        let message = "agents have no packages of their own: they share every layer of their profile";
        return Err(RecipeError::at(codes::recipe::UNKNOWN_KEY, source, packages.span(), message)
            .help("put the packages into a profile, and name it: `profile = \"NAME\"`"));
    }
    table.known()?;
    Ok(agent)
}

/// What `settings` says, one entry for each value that is no table.
fn settings(table: &Table<'_>) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(value) = table.get("settings") {
        flatten(&value, &mut Vec::new(), &mut settings)?;
    }
    Ok(settings)
}

fn flatten(value: &Value<'_>, key: &mut Vec<String>, settings: &mut Vec<Setting>) -> Result<()> {
    let entries = if value.is_table() || key.is_empty() { value.table()?.entries() } else { Vec::new() };
    if entries.is_empty() && !key.is_empty() {
        settings.push(Setting { key: key.clone(), value: Spanned::new(value.json()?, value.span()) });
    }
    for (name, value) in entries {
        key.push(name.value.to_owned());
        flatten(&value, key, settings)?;
        key.pop();
    }
    Ok(())
}

fn member(table: &Table<'_>) -> Result<Member> {
    let (mut allow, mut deny) = (None, Vec::new());
    if let Some(tools) = table.table("tools")? {
        allow = tools.get("allow").map(|value| value.strings()).transpose()?;
        deny = tools.get("deny").map_or(Ok(Vec::new()), |value| value.strings())?;
        tools.finish()?;
    }
    let member = Member {
        id: table.need("id")?.parse()?,
        is_default: table.get("default").map_or(Ok(false), |value| value.boolean())?,
        workspace: table.get("workspace").map(|value| value.parse()).transpose()?,
        model: table.get("model").map(|value| value.text()).transpose()?,
        allow,
        deny,
        settings: settings(table)?,
    };
    table.known()?;
    Ok(member)
}

/// `[config.members]`.
pub(crate) fn member_keys(source: &Source, table: &Table<'_>) -> Result<MemberKeys> {
    let key = |key| table.get(key).map(|value| key_path(&value)).transpose();
    let roster = match (key("table")?, key("list")?) {
        (Some(table), None) => Roster::Table(table),
        (None, Some(list)) => Roster::List { key: list, id: key_path(&table.need("id")?)? },
        _ => {
            let message = "`[config.members]` needs exactly one of `table` (agents by id) and `list`";
            return Err(RecipeError::at(codes::recipe::BAD_VALUE, source, table.span(), message));
        }
    };
    let keys = MemberKeys {
        roster,
        default: key("default")?,
        workspace: key("workspace")?,
        model: key("model")?,
        allow: key("allow")?,
        deny: key("deny")?,
    };
    table.known()?;
    Ok(keys)
}

/// Checks that the tiers of a recipe fit together.
pub(crate) fn check(recipe: &Recipe) -> Result<()> {
    let source = &recipe.source;
    for profile in &recipe.profiles {
        if let Some(from) = &profile.from {
            known_profile(recipe, source, from)?;
        }
        let mut below = vec![&profile.name.value];
        let mut next = profile.from.as_ref();
        while let Some(from) = next {
            if below.contains(&&from.value) {
                let circle: Vec<&str> = below.iter().map(|name| name.as_str()).chain([from.value.as_str()]).collect();
                let message = format!("profiles stand on each other: {}", circle.join(" -> "));
                return Err(RecipeError::at(codes::recipe::CYCLE, source, from.span, message)
                    .mark("the circle closes here")
                    .help("let one of them stand on the runtime: leave out its `from`"));
            }
            below.push(&from.value);
            next = recipe.profile(&from.value).and_then(|profile| profile.from.as_ref());
        }
    }
    // Only now is it known that chains of profiles end.
    for profile in &recipe.profiles {
        claims(recipe, Some(&profile.name))?;
    }
    recipe
        .agents
        .iter()
        .enumerate()
        .try_for_each(|(place, agent)| check_against(recipe, &recipe.agents[..place], agent))
}

/// Checks that an agent fits to its recipe.
pub(crate) fn check_agent(recipe: &Recipe, agent: &Agent) -> Result<()> {
    check_against(recipe, &recipe.agents, agent)
}

fn check_against(recipe: &Recipe, others: &[Agent], agent: &Agent) -> Result<()> {
    let Agent { source, name, .. } = agent;
    let others = others.iter().map(|other| ("agent", &other.source, &other.name));
    let profiles = recipe.profiles.iter().map(|profile| ("profile", &recipe.source, &profile.name));
    if let Some((what, first, place)) = others.chain(profiles).find(|(_, _, other)| other.value == name.value) {
        // Their images would have one name.
        let message = format!("`{}` is the name of a {what} already", name.value);
        return Err(RecipeError::at(codes::recipe::DUPLICATE, source, name.span, message).mark("again here").also(
            first,
            place.span,
            "first here",
        ));
    }
    if let Some(profile) = &agent.profile {
        known_profile(recipe, source, profile)?;
    }
    claims(recipe, agent.profile.as_ref())?.add(source, &agent.additions)?;
    let mut ids: BTreeMap<&Name, diag::Span> = BTreeMap::new();
    for member in &agent.members {
        if let Some(first) = ids.insert(&member.id.value, member.id.span) {
            let message = format!("agent `{}` is given twice", member.id.value);
            return Err(RecipeError::at(codes::recipe::DUPLICATE, source, member.id.span, message)
                .mark("again here")
                .also(source, first, "first here"));
        }
    }
    parse_process::check(recipe, agent)?;
    check_config(recipe, agent)
}

/// Checks that the configuration can hold what the agent says.
fn check_config(recipe: &Recipe, agent: &Agent) -> Result<()> {
    let missing = |span, what: &str, table: &str| {
        let message = format!("agent `{}` {what}, and the recipe has no `{table}`", agent.name.value);
        Err(RecipeError::at(codes::recipe::MISSING_KEY, &agent.source, span, message))
    };
    let Some(config) = &recipe.config else {
        return match (agent.settings.first(), agent.members.first()) {
            (Some(setting), _) => missing(setting.value.span, "sets configuration", "[config]"),
            (None, Some(member)) => missing(member.id.span, "lists agents", "[config]"),
            (None, None) if !agent.overrides.is_empty() => {
                missing(agent.name.span, "overrides configuration", "[config]")
            }
            (None, None) => Ok(()),
        };
    };
    let Some(first) = agent.members.first() else { return Ok(()) };
    let Some(keys) = &config.members else {
        return missing(first.id.span, "lists agents", "[config.members]");
    };
    for member in &agent.members {
        let asked = [
            ("default", member.is_default.then_some(member.id.span), &keys.default),
            ("workspace", member.workspace.as_ref().map(|workspace| workspace.span), &keys.workspace),
            ("model", member.model.as_ref().map(|model| model.span), &keys.model),
            ("allow", member.allow.as_ref().map(|_| member.id.span), &keys.allow),
            ("deny", member.deny.first().map(|tool| tool.span), &keys.deny),
        ];
        for (what, span, key) in asked {
            if let (Some(span), None) = (span, key) {
                let message = format!("`[config.members]` of the recipe does not say where `{what}` goes");
                return Err(RecipeError::at(codes::recipe::MISSING_KEY, &agent.source, span, message));
            }
        }
    }
    Ok(())
}

fn known_profile(recipe: &Recipe, source: &Source, asked: &Spanned<Name>) -> Result<()> {
    if recipe.profile(&asked.value).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = recipe.profiles.iter().map(|profile| profile.name.value.as_str()).collect();
    let message = format!("profile `{}` is not defined", asked.value);
    let error = RecipeError::at(codes::recipe::UNKNOWN_PROFILE, source, asked.span, message);
    Err(match did_you_mean(asked.value.as_str(), known.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.help("define it in the recipe as `[profiles.NAME]`"),
        None => error.help(format!("profiles defined: {}", known.join(", "))),
    })
}

/// What the runtime and the profiles up to this one have taken.
fn claims(recipe: &Recipe, profile: Option<&Spanned<Name>>) -> Result<Claims> {
    let image = &recipe.image;
    let mut claims = Claims::default();
    claims.all(&recipe.source, &image.ports, &image.volumes, &image.tmpfs)?;
    if let Some(profile) = profile {
        for profile in recipe.profiles_of(&crate::Tier::Profile(profile.value.clone())) {
            claims.add(&recipe.source, &profile.additions)?;
        }
    }
    Ok(claims)
}
