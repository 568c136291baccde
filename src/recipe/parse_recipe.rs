//! Recipe text to [`Recipe`].

use std::collections::BTreeMap;
use std::time::Duration;

use diag::{Source, Spanned, codes};

use crate::reader::{Table, Value, document};
use crate::{
    Config, ConfigFormat, ContainerPath, Contract, Health, HealthProbe, Language, Override, OverrideType, Recipe,
    RecipeError, Result, Stage, StageFrom, StageStep, StepKind, parse_build, parse_image, parse_source, parse_tier,
};

impl Recipe {
    /// Parses a recipe.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(source: &Source) -> Result<Self> {
        let document = document(source)?;
        let root = Table::document(source, &document);
        schema(&root, source)?;
        let runtime = root.need("runtime")?.table()?;
        let name = runtime.need("name")?.parse()?;
        let summary = runtime.need("summary")?.text()?.value;
        let license = runtime.need("license")?.text()?;
        let homepage = runtime.get("homepage").map(|value| value.text()).transpose()?.map(|text| text.value);
        let deferred = runtime.get("deferred").map(|value| value.text()).transpose()?.map(|text| text.value);
        runtime.finish()?;
        let origin = parse_source::origin(source, &root.need("source")?)?;
        let build = parse_build::build(&root.need("build")?.table()?, &origin.value)?;
        // Firmware is not run: what is about running it is unknown to its recipe.
        let is_firmware = matches!(build.language.value, Language::EspIdf(_));
        let table = |key| if is_firmware { Ok(None) } else { root.table(key) };
        let stages = match table("stages")? {
            Some(table) => {
                table.entries().into_iter().map(|(name, value)| stage(source, name, &value)).collect::<Result<_>>()?
            }
            None => Vec::new(),
        };
        let image = match &build.toolchain {
            _ if !is_firmware => parse_image::image(source, root.need("image")?.table()?)?,
            toolchain => parse_image::firmware(root.table("image")?, toolchain.as_ref(), &build.language)?,
        };
        let health = match table("health")? {
            Some(table) => health(source, table)?,
            None => Health {
                probe: HealthProbe::None,
                start_period: Duration::ZERO,
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(5),
                retries: 3,
            },
        };
        let config = table("config")?.map(|table| config(source, table)).transpose()?;
        let contract = table("contract")?.map(|table| Contract::read(source, table)).transpose()?;
        let platforms = match root.table("platforms")? {
            Some(table) => {
                let build = table.need("build")?;
                let platforms = build.parse_all()?;
                if platforms.is_empty() {
                    return Err(build.bad("name at least one platform"));
                }
                table.finish()?;
                platforms
            }
            None => vec![
                Spanned::new(oci::Platform::LINUX_AMD64, root.span()),
                Spanned::new(oci::Platform::LINUX_ARM64, root.span()),
            ],
        };
        let profiles = match table("profiles")? {
            Some(table) => parse_tier::profiles(source, &table)?,
            None => Vec::new(),
        };
        let agents = match table("agents")? {
            Some(table) => table
                .entries()
                .into_iter()
                .map(|(name, value)| parse_tier::agent(source, parse_tier::name(source, name)?, &value.table()?))
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        root.finish()?;
        let recipe = Self {
            source: source.clone(),
            name,
            summary,
            license,
            deferred,
            homepage,
            origin,
            build,
            stages,
            image,
            health,
            config,
            contract: contract.unwrap_or_default(),
            platforms,
            profiles,
            agents,
        };
        parse_tier::check(&recipe)?;
        Ok(recipe)
    }

    /// Adds the agent of a file of its own, called `name`.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub fn add_agent(&mut self, name: &str, source: &Source) -> Result<()> {
        let document = document(source)?;
        let root = Table::document(source, &document);
        schema(&root, source)?;
        let agent = parse_tier::agent(source, parse_tier::name(source, Spanned::new(name, root.span()))?, &root)?;
        parse_tier::check_agent(self, &agent)?;
        self.agents.push(agent);
        Ok(())
    }
}

/// Checks `schema = 1`.
pub(crate) fn schema(root: &Table<'_>, source: &Source) -> Result<()> {
    let value = root.need("schema")?;
    match value.integer(0..=u64::MAX)? {
        1 => Ok(()),
        other => Err(RecipeError::at(
            codes::recipe::SCHEMA,
            source,
            value.span(),
            format!("schema {other} is not known, only 1"),
        )),
    }
}

fn stage(source: &Source, name: Spanned<&str>, value: &Value<'_>) -> Result<Stage> {
    let parsed = name
        .value
        .parse()
        .map_err(|error| RecipeError::at(codes::recipe::BAD_VALUE, source, name.span, format!("{error}")))?;
    let table = value.table()?;
    let from_value = table.need("from")?;
    let text = from_value.text()?;
    let from = match text.value.as_str() {
        "scratch" => StageFrom::Scratch,
        image if image.contains(['/', ':', '@']) => {
            let reference: oci::Reference = from_value.parse()?.value;
            if reference.digest.is_none() {
                return Err(from_value.bad("an image must be named by digest: `repository@sha256:…`"));
            }
            StageFrom::Image(reference)
        }
        _ => StageFrom::Named(from_value.parse()?.value),
    };
    let steps = match table.get("steps") {
        Some(steps) => steps.array()?.iter().map(step).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    table.finish()?;
    Ok(Stage { name: Spanned::new(parsed, name.span), from: Spanned::new(from, text.span), steps })
}

fn step(value: &Value<'_>) -> Result<StageStep> {
    let table = value.table()?;
    let kinds = ["run", "copy", "write", "directory", "symlink", "remove"].map(|kind| table.get(kind));
    let given = kinds.iter().flatten().count();
    let [run, copy, write, directory, symlink, remove] = kinds;
    let kind = if given > 1 {
        return Err(value.bad("a step does one thing: one of run, copy, write, directory, symlink, remove"));
    } else if let Some(run) = run {
        let args: Vec<String> = run.strings()?.into_iter().map(|text| text.value).collect();
        if args.is_empty() {
            return Err(run.bad("names no program"));
        }
        StepKind::Run {
            args,
            env: variables(&table, "env")?,
            workdir: table.get("workdir").map(|value| value.parse()).transpose()?.map(|path| path.value),
            network: table.get("network").map_or(Ok(false), |value| value.boolean())?,
            cache: table.get("cache").map_or(Ok(Vec::new()), |value| value.parse_all())?,
            secrets: table.get("secrets").map_or(Ok(Vec::new()), |value| value.parse_all())?,
        }
    } else if let Some(copy) = copy {
        let paths = if copy.is_string() { vec![copy.text()?] } else { copy.strings()? };
        StepKind::Copy {
            from: table.get("from").map(|value| value.parse()).transpose()?,
            paths,
            to: table.need("to")?.parse()?,
            owner: table.get("owner").map(|value| owner(&value)).transpose()?,
            mode: table.get("mode").map(|value| value.mode()).transpose()?,
            exclude: table.get("exclude").map_or(Ok(Vec::new()), |value| value.strings())?,
        }
    } else if let Some(write) = write {
        StepKind::Write {
            path: write.parse()?,
            text: table.need("text")?.string()?.value,
            mode: table.get("mode").map_or(Ok(0o644), |value| value.mode())?,
        }
    } else if let Some(directory) = directory {
        StepKind::Directory {
            path: directory.parse()?,
            mode: table.get("mode").map_or(Ok(0o755), |value| value.mode())?,
        }
    } else if let Some(symlink) = symlink {
        StepKind::Symlink { path: symlink.parse()?, target: table.need("target")?.text()?.value }
    } else if let Some(remove) = remove {
        StepKind::Remove { path: remove.parse()? }
    } else {
        table.finish()?;
        return Err(value.bad("a step does one of run, copy, write, directory, symlink, remove"));
    };
    table.finish()?;
    Ok(StageStep { kind: Spanned::new(kind, value.span()) })
}

fn owner(value: &Value<'_>) -> Result<(u32, u32)> {
    let text = value.text()?.value;
    let pair = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    pair.ok_or_else(|| value.bad(format!("`{text}` is not `uid:gid` in numbers")))
}

/// A table of `NAME = "value"`.
pub(crate) fn variables(table: &Table<'_>, key: &'static str) -> Result<BTreeMap<String, String>> {
    let Some(table) = table.table(key)? else { return Ok(BTreeMap::new()) };
    table
        .entries()
        .into_iter()
        .map(|(name, value)| {
            check_variable(name.value, &value)?;
            Ok((name.value.to_owned(), value.string()?.value))
        })
        .collect()
}

pub(crate) fn check_variable(name: &str, value: &Value<'_>) -> Result<()> {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if good {
        Ok(())
    } else {
        Err(value.bad(format!("`{name}` is not the name of a variable: letters, digits and `_`")))
    }
}

/// `http` or `exec`, and in `[health]` also `none`: exactly one.
pub(crate) fn probe(source: &Source, table: &Table<'_>) -> Result<HealthProbe> {
    let http = table.get("http");
    let exec = table.get("exec");
    let none = table.get("none");
    match (http, exec, none) {
        (Some(http), None, None) => {
            let http_table = http.table()?;
            let port = u16::try_from(http_table.need("port")?.integer(1..=65535)?).expect("within bounds");
            let path_value = http_table.need("path")?;
            let path = path_value.text()?.value;
            if !path.starts_with('/') || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(path_value.bad("must start with `/` and hold no spaces"));
            }
            let port_env = match http_table.get("port_env") {
                Some(value) => {
                    let name = value.text()?.value;
                    check_variable(&name, &value)?;
                    Some(name)
                }
                None => None,
            };
            http_table.finish()?;
            Ok(HealthProbe::Http { port, port_env, path })
        }
        (None, Some(exec), None) => Ok(HealthProbe::Exec(exec.strings()?.into_iter().map(|text| text.value).collect())),
        (None, None, Some(none)) if none.boolean()? => Ok(HealthProbe::None),
        _ => Err(RecipeError::at(
            codes::recipe::BAD_VALUE,
            source,
            table.span(),
            format!("`[{}]` needs exactly one of `http`, `exec`, `none = true`", table.path()),
        )),
    }
}

pub(crate) fn health(source: &Source, table: Table<'_>) -> Result<Health> {
    let probe = probe(source, &table)?;
    let duration = |key, default| table.get(key).map_or(Ok(Duration::from_secs(default)), |value| value.duration());
    let health = Health {
        probe,
        start_period: duration("start_period", 30)?,
        interval: duration("interval", 30)?,
        timeout: duration("timeout", 5)?,
        retries: table.get("retries").map_or(Ok(3), |value| value.integer(1..=100))?.try_into().expect("within bounds"),
    };
    table.finish()?;
    Ok(health)
}

fn config(source: &Source, table: Table<'_>) -> Result<Config> {
    let file = table.need("file")?.text()?;
    let path: Spanned<ContainerPath> = table.need("path")?.parse()?;
    let format = table.need("format")?.choice(&[
        ("json", ConfigFormat::Json),
        ("json5", ConfigFormat::Json5),
        ("toml", ConfigFormat::Toml),
        ("yaml", ConfigFormat::Yaml),
        ("env", ConfigFormat::Env),
    ])?;
    let overrides = overrides(&table)?;
    let members = table.table("members")?.map(|table| parse_tier::member_keys(source, &table)).transpose()?;
    table.finish()?;
    Ok(Config { file, path, format, overrides, members })
}

/// The `overrides` of a table.
pub(crate) fn overrides(table: &Table<'_>) -> Result<BTreeMap<String, Override>> {
    let Some(table) = table.table("overrides")? else { return Ok(BTreeMap::new()) };
    let entries = table.entries().into_iter().map(|(name, value)| {
        check_variable(name.value, &value)?;
        Ok((name.value.to_owned(), one_override(&value)?))
    });
    entries.collect()
}

/// A path of keys: `a.b`, or an array where names hold dots.
pub(crate) fn key_path(value: &Value<'_>) -> Result<Vec<String>> {
    if value.is_string() {
        Ok(value.text()?.value.split('.').map(str::to_owned).collect())
    } else {
        Ok(value.strings()?.into_iter().map(|text| text.value).collect())
    }
}

fn one_override(value: &Value<'_>) -> Result<Override> {
    let table = value.table()?;
    let key = table.get("key").map_or(Ok(Vec::new()), |key| key_path(&key))?;
    let kind = match table.get("type") {
        Some(kind) => {
            kind.choice(&[
                ("string", OverrideType::String),
                ("integer", OverrideType::Integer),
                ("boolean", OverrideType::Boolean),
                ("list", OverrideType::List),
                ("json", OverrideType::Json),
            ])?
            .value
        }
        None => OverrideType::String,
    };
    let secret = table.get("secret").map_or(Ok(false), |value| value.boolean())?;
    let example = match table.get("example") {
        Some(value) if secret => return Err(value.bad("a secret has no example: tests make their own")),
        Some(value) => Some(value.text()?),
        None => None,
    };
    let parsed = Override { key, kind, secret, example, doc: table.need("doc")?.text()?.value };
    table.finish()?;
    Ok(parsed)
}
