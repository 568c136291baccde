//! The `[image]` table.

use std::collections::BTreeMap;
use std::time::Duration;

use diag::{Source, Spanned, codes};

use crate::parse_recipe::variables;
use crate::reader::Table;
use crate::{ContainerPath, Image, ImageCopy, RecipeError, Result, ShippedFile, User};

pub(crate) fn image(source: &Source, table: Table<'_>) -> Result<Image> {
    let repository = table.get("repository").map(|value| value.parse()).transpose()?;
    let base = table.need("base")?.parse()?;
    let packages = table.get("packages").map_or(Ok(Vec::new()), |value| value.strings())?;
    let user = user(&table.need("user")?.table()?)?;
    let workdir = match table.get("workdir") {
        Some(value) => value.parse()?.value,
        None => user.home.clone(),
    };
    let command_value = table.need("command")?;
    let command: Vec<String> = command_value.strings()?.into_iter().map(|text| text.value).collect();
    if command.is_empty() {
        return Err(command_value.bad("names no program"));
    }
    let env = variables(&table, "env")?;
    let ports = match table.get("ports") {
        Some(value) => value
            .array()?
            .iter()
            .map(|port| Ok(Spanned::new(u16::try_from(port.integer(1..=65535)?).expect("within bounds"), port.span())))
            .collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    unique(source, ports.iter().map(|port| (port.value.to_string(), port.span)), "port")?;
    let volumes: Vec<Spanned<ContainerPath>> =
        table.get("volumes").map_or(Ok(Vec::new()), |value| value.parse_all())?;
    let tmpfs: Vec<Spanned<ContainerPath>> = table.get("tmpfs").map_or(Ok(Vec::new()), |value| value.parse_all())?;
    unique(source, volumes.iter().chain(&tmpfs).map(|path| (path.value.to_string(), path.span)), "path")?;
    let stop_signal = match table.get("stop_signal") {
        Some(value) => signal(&value)?,
        None => "SIGTERM".to_owned(),
    };
    let stop_timeout = table.get("stop_timeout").map_or(Ok(Duration::from_secs(10)), |value| value.duration())?;
    let files = match table.get("files") {
        Some(value) => value.array()?.iter().map(|file| shipped(&file.table()?)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let copy = match table.get("copy") {
        Some(value) => value.array()?.iter().map(|copy| image_copy(&copy.table()?)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let mut links = BTreeMap::new();
    if let Some(table) = table.table("links")? {
        for (path, target) in table.entries() {
            path.value
                .parse::<ContainerPath>()
                .map_err(|error| RecipeError::at(codes::recipe::BAD_VALUE, source, path.span, error.to_string()))?;
            links.insert(path.value.to_owned(), target.text()?);
        }
    }
    table.finish()?;
    Ok(Image {
        repository,
        base,
        packages,
        user,
        workdir,
        command,
        env,
        ports,
        volumes,
        tmpfs,
        stop_signal,
        stop_timeout,
        files,
        copy,
        links,
    })
}

fn user(table: &Table<'_>) -> Result<User> {
    let name: Spanned<crate::Name> = table.need("name")?.parse()?;
    let id = |key| table.get(key).map(|value| value.integer(1..=4_000_000_000)).transpose();
    let uid = table.need("uid")?.integer(1..=4_000_000_000)?;
    let gid = id("gid")?.unwrap_or(uid);
    let home = match table.get("home") {
        Some(value) => value.parse()?.value,
        None => format!("/home/{}", name.value).parse().expect("a name makes a normal path"),
    };
    table.known()?;
    let narrow = |id: u64| u32::try_from(id).expect("within bounds");
    Ok(User { name: name.value, uid: narrow(uid), gid: narrow(gid), home })
}

fn signal(value: &crate::reader::Value<'_>) -> Result<String> {
    const SIGNALS: [(&str, &str); 6] = [
        ("SIGTERM", "SIGTERM"),
        ("SIGINT", "SIGINT"),
        ("SIGQUIT", "SIGQUIT"),
        ("SIGHUP", "SIGHUP"),
        ("SIGUSR1", "SIGUSR1"),
        ("SIGUSR2", "SIGUSR2"),
    ];
    Ok(value.choice(&SIGNALS)?.value.to_owned())
}

fn shipped(table: &Table<'_>) -> Result<ShippedFile> {
    let file = ShippedFile {
        from: table.need("from")?.text()?,
        to: table.need("to")?.parse()?,
        mode: table.get("mode").map(|value| value.mode()).transpose()?,
    };
    table.known()?;
    Ok(file)
}

fn image_copy(table: &Table<'_>) -> Result<ImageCopy> {
    let path: Spanned<ContainerPath> = table.need("path")?.parse()?;
    let copy = ImageCopy {
        from: table.need("from")?.parse()?,
        to: table.get("to").map_or_else(|| Ok(path.clone()), |value| value.parse())?,
        path,
    };
    table.known()?;
    Ok(copy)
}

fn unique(source: &Source, items: impl Iterator<Item = (String, diag::Span)>, what: &str) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (item, span) in items {
        if let Some(first) = seen.insert(item.clone(), span) {
            return Err(RecipeError::at(
                codes::recipe::DUPLICATE,
                source,
                span,
                format!("{what} `{item}` is given twice"),
            )
            .mark("again here")
            .also(source, first, "first here"));
        }
    }
    Ok(())
}
