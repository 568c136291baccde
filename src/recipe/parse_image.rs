//! The `[image]` table.

use std::collections::BTreeMap;
use std::time::Duration;

use diag::{Source, Spanned, codes};

use crate::parse_recipe::variables;
use crate::reader::Table;
use crate::{Additions, ContainerPath, Image, ImageCopy, Language, Naming, RecipeError, Result, ShippedFile, User};

pub(crate) fn image(source: &Source, table: Table<'_>) -> Result<Image> {
    let repository = table.get("repository").map(|value| value.parse()).transpose()?;
    let naming = match table.get("naming") {
        Some(value) => value.choice(&[("plain", Naming::Plain), ("agent", Naming::Agent)])?.value,
        None => Naming::default(),
    };
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
    let more = additions(source, &table)?;
    let stop_signal = match table.get("stop_signal") {
        Some(value) => signal(&value)?,
        None => "SIGTERM".to_owned(),
    };
    let stop_timeout = table.get("stop_timeout").map_or(Ok(Duration::from_secs(10)), |value| value.duration())?;
    table.finish()?;
    Ok(Image {
        repository,
        base,
        packages,
        user,
        naming,
        workdir,
        command: command.into_iter().chain(more.args).collect(),
        env: more.env,
        ports: more.ports,
        volumes: more.volumes,
        tmpfs: more.tmpfs,
        stop_signal,
        stop_timeout,
        files: more.files,
        copy: more.copy,
        links: more.links,
        processes: Vec::new(),
        after: Vec::new(),
    })
}

/// The image of firmware: its files, from nothing. All that can be said is where it is pushed. The base is the one it is
/// built on.
pub(crate) fn firmware(
    table: Option<Table<'_>>,
    toolchain: Option<&Spanned<crate::Name>>,
    language: &Spanned<Language>,
) -> Result<Image> {
    let mut repository = None;
    if let Some(table) = table {
        repository = table.get("repository").map(|value| value.parse()).transpose()?;
        table.finish()?;
    }
    let usual =
        || Spanned::new(language.value.toolchain().unwrap_or("esp-idf").parse().expect("a name"), language.span);
    let root: ContainerPath = "/".parse().expect("a normal path");
    Ok(Image {
        repository,
        naming: Naming::default(),
        base: toolchain.cloned().unwrap_or_else(usual),
        packages: Vec::new(),
        user: User { name: "nobody".parse().expect("a name"), uid: 65534, gid: 65534, home: root.clone() },
        workdir: root,
        command: Vec::new(),
        env: BTreeMap::new(),
        ports: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        stop_signal: "SIGTERM".to_owned(),
        stop_timeout: Duration::from_secs(10),
        files: Vec::new(),
        copy: Vec::new(),
        links: BTreeMap::new(),
        processes: Vec::new(),
        after: Vec::new(),
    })
}

/// What images of all tiers can have.
pub(crate) fn additions(source: &Source, table: &Table<'_>) -> Result<Additions> {
    let args = table.get("args").map_or(Ok(Vec::new()), |value| value.strings())?;
    let env = variables(table, "env")?;
    let ports = match table.get("ports") {
        Some(value) => value
            .array()?
            .iter()
            .map(|port| Ok(Spanned::new(u16::try_from(port.integer(1..=65535)?).expect("within bounds"), port.span())))
            .collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let volumes = table.get("volumes").map_or(Ok(Vec::new()), |value| value.parse_all())?;
    let tmpfs = table.get("tmpfs").map_or(Ok(Vec::new()), |value| value.parse_all())?;
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
    let args = args.into_iter().map(|text| text.value).collect();
    let additions = Additions { args, env, ports, volumes, tmpfs, files, copy, links };
    Claims::default().add(source, &additions)?;
    Ok(additions)
}

/// The ports and paths that the tiers of an image have taken, and where.
#[derive(Clone, Default)]
pub(crate) struct Claims(BTreeMap<(&'static str, String), (Source, diag::Span)>);

impl Claims {
    /// Takes what `additions` name.
    ///
    /// # Errors
    /// Something is taken already.
    pub(crate) fn add(&mut self, source: &Source, additions: &Additions) -> Result<()> {
        self.all(source, &additions.ports, &additions.volumes, &additions.tmpfs)
    }

    /// As [`Claims::add`], for a runtime's own.
    pub(crate) fn all(
        &mut self,
        source: &Source,
        ports: &[Spanned<u16>],
        volumes: &[Spanned<ContainerPath>],
        tmpfs: &[Spanned<ContainerPath>],
    ) -> Result<()> {
        let ports = ports.iter().map(|port| ("port", port.value.to_string(), port.span));
        let paths = volumes.iter().chain(tmpfs).map(|path| ("path", path.value.to_string(), path.span));
        for (what, item, span) in ports.chain(paths) {
            if let Some((first, place)) = self.0.insert((what, item.clone()), (source.clone(), span)) {
                let message = format!("{what} `{item}` is given twice");
                return Err(RecipeError::at(codes::recipe::DUPLICATE, source, span, message).mark("again here").also(
                    &first,
                    place,
                    "first here",
                ));
            }
        }
        Ok(())
    }
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
