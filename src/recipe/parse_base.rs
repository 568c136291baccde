//! Base text to [`Base`].

use std::collections::BTreeMap;

use diag::{Source, Spanned, codes};

use crate::parse_recipe::schema;
use crate::reader::{Table, document};
use crate::{Base, BaseParent, DebianSet, PlacedFile, RecipeError, Registry, RegistryArchive, Result, Tool, Unpack};

impl Base {
    /// Parses a base.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(source: &Source) -> Result<Self> {
        let document = document(source)?;
        let root = Table::document(source, &document);
        schema(&root, source)?;
        let base = root.need("base")?.table()?;
        let name = base.need("name")?.parse()?;
        let summary = base.need("summary")?.text()?.value;
        let parent = parent(&base)?;
        base.finish()?;
        let debian = root.table("debian")?.map(debian).transpose()?;
        let unpack = match root.get("unpack") {
            Some(value) => value.array()?.iter().map(|item| unpack(&item.table()?)).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let mut tools = BTreeMap::new();
        if let Some(table) = root.table("tools")? {
            for (name, value) in table.entries() {
                let key = name.value.parse().map_err(|error: crate::BadName| {
                    RecipeError::at(codes::recipe::BAD_VALUE, source, name.span, error.to_string())
                })?;
                let table = value.table()?;
                let tool = Tool { archive: archive(&table)?, program: table.need("program")?.text()? };
                tools.insert(key, tool);
                table.finish()?;
            }
        }
        let provides = match root.table("provides")? {
            Some(table) => table
                .entries()
                .into_iter()
                .map(|(name, value)| Ok((name.value.to_owned(), value.text()?)))
                .collect::<Result<_>>()?,
            None => BTreeMap::new(),
        };
        root.finish()?;
        if parent.value == BaseParent::Scratch && debian.is_none() && unpack.is_empty() {
            return Err(RecipeError::at(codes::recipe::BAD_VALUE, source, parent.span, "the base holds nothing")
                .help("give it `from`, `[debian]` packages or `[[unpack]]` archives"));
        }
        Ok(Self { source: source.clone(), name, summary, parent, debian, unpack, tools, provides })
    }
}

fn parent(table: &Table<'_>) -> Result<Spanned<BaseParent>> {
    match (table.get("from"), table.get("image")) {
        (None, None) => Ok(Spanned::new(BaseParent::Scratch, table.span())),
        (Some(_), Some(image)) => Err(image.bad("a base stands on another base or on an image, not both")),
        (Some(from), None) => Ok(from.parse()?.map(BaseParent::Base)),
        (None, Some(image)) => Ok(image.parse::<oci::Reference>()?.map(BaseParent::Image)),
    }
}

fn debian(table: Table<'_>) -> Result<DebianSet> {
    let archive_value = table.need("archive")?;
    let archive = archive_value.text()?;
    if !["http://", "https://", "file://"].iter().any(|scheme| archive.value.starts_with(scheme)) {
        return Err(archive_value.bad("is not an http, https or file URL"));
    }
    let set = DebianSet {
        archive,
        suites: table.need("suites")?.strings()?,
        components: match table.get("components") {
            Some(value) => value.strings()?,
            None => vec![Spanned::new("main".to_owned(), table.span())],
        },
        keys: table.need("keys")?.strings()?,
        packages: {
            let packages = table.need("packages")?;
            let names = packages.strings()?;
            if names.is_empty() {
                return Err(packages.bad("names no package"));
            }
            names
        },
        exclude: table.get("exclude").map_or(Ok(Vec::new()), |value| value.strings())?,
        slim: table.get("slim").map_or(Ok(true), |value| value.boolean())?,
    };
    table.finish()?;
    Ok(set)
}

fn unpack(table: &Table<'_>) -> Result<Unpack> {
    let files = table
        .need("files")?
        .array()?
        .iter()
        .map(|item| {
            let table = item.table()?;
            let file = PlacedFile { from: table.need("from")?.text()?, to: table.need("to")?.parse()? };
            table.finish()?;
            Ok(file)
        })
        .collect::<Result<_>>()?;
    let unpack = Unpack { archive: archive(table)?, files };
    table.known()?;
    Ok(unpack)
}

fn archive(table: &Table<'_>) -> Result<RegistryArchive> {
    let named = [("npm", Registry::Npm), ("go", Registry::Go), ("pypi", Registry::PyPi)];
    let mut given = named.into_iter().filter_map(|(key, registry)| Some((registry, table.get(key)?)));
    let Some((registry, package)) = given.next() else {
        // Asking for one of them tells a misspelt key from a missing one.
        return Err(match table.need("npm") {
            Err(error) => error,
            Ok(value) => value.bad("names no package"),
        });
    };
    if let Some((_, other)) = given.next() {
        return Err(other.bad("an archive is of one registry: `npm`, `go` or `pypi`"));
    }
    Ok(RegistryArchive { registry, package: package.text()?, version: table.need("version")?.parse()? })
}
