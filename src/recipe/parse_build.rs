//! The `[build]` table.

use std::collections::BTreeMap;

use diag::Spanned;

use crate::language::Place;
use crate::reader::{Table, Value};
use crate::{
    Build, EspIdf, Go, Language, Node, Optimize, Result, Rust, SourceCopy, SourceSpec, Zig, parse_recipe, parse_source,
};

/// Reads the table of a recipe whose program comes from `origin`.
pub(crate) fn build(table: &Table<'_>, origin: &SourceSpec) -> Result<Build> {
    #[derive(Clone, Copy)]
    enum Word {
        Node,
        Rust,
        Go,
        Zig,
        EspIdf,
        Custom,
    }
    let words = [
        ("node", Word::Node),
        ("rust", Word::Rust),
        ("go", Word::Go),
        ("zig", Word::Zig),
        ("esp-idf", Word::EspIdf),
        ("custom", Word::Custom),
    ];
    let language = table.need("language")?.choice(&words)?;
    let requires = match table.table("requires")? {
        Some(table) => table
            .entries()
            .into_iter()
            .map(|(tool, value)| Ok((tool.value.to_owned(), requirement(&value)?)))
            .collect::<Result<_>>()?,
        None => BTreeMap::new(),
    };
    let kind = match language.value {
        Word::Node => Language::Node(node(table, origin)?),
        Word::Rust => Language::Rust(rust(table)?),
        Word::Go => Language::Go(go(table)?),
        Word::Zig => Language::Zig(zig(table)?),
        Word::EspIdf => Language::EspIdf(esp_idf(table)?),
        Word::Custom => Language::Custom,
    };
    let (mut copy, mut place, mut packages) = (Vec::new(), Vec::new(), Vec::new());
    let mut env = BTreeMap::new();
    if matches!(language.value, Word::Node | Word::Rust | Word::Go | Word::Zig) {
        packages = strings(table, "packages")?;
    }
    if matches!(language.value, Word::Rust | Word::Go | Word::Zig | Word::EspIdf) {
        env = parse_recipe::variables(table, "env")?;
    }
    if matches!(language.value, Word::Rust | Word::Go | Word::Zig) {
        if let Some(value) = table.get("copy") {
            copy = value.array()?.iter().map(source_copy).collect::<Result<_>>()?;
        }
        if let Some(value) = table.get("place") {
            place = value.array()?.iter().map(placed).collect::<Result<_>>()?;
        }
    }
    let toolchain = match language.value {
        Word::Custom => None,
        _ => table.get("toolchain").map(|value| value.parse()).transpose()?,
    };
    if let (Word::Node, None, Some(value)) = (language.value, &toolchain, table.get("packages")) {
        return Err(value.bad("is for compiling, which takes a `toolchain`: `node-toolchain`"));
    }
    // `finish` takes the table; the keys above were asked of the same one.
    table.known()?;
    Ok(Build { language: Spanned::new(kind, language.span), requires, toolchain, packages, env, copy, place })
}

fn strings(table: &Table<'_>, key: &'static str) -> Result<Vec<Spanned<String>>> {
    table.get(key).map_or(Ok(Vec::new()), |value| value.strings())
}

/// Words that become arguments of a compiler, and must not be taken for options of it.
fn words(table: &Table<'_>, key: &'static str) -> Result<Vec<Spanned<String>>> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    let words = value.strings()?;
    match words.iter().find(|word| word.value.starts_with('-') || word.value.contains([' ', ',', '\n'])) {
        Some(word) => Err(value.bad(format!("`{}` is not one plain word", word.value))),
        None => Ok(words),
    }
}

fn node(table: &Table<'_>, origin: &SourceSpec) -> Result<Node> {
    let (foreign, why): (&[&'static str], _) = match origin {
        SourceSpec::Release { .. } => {
            (&["run", "exclude"], "is for sources; a package of the npm registry was built before it was published")
        }
        SourceSpec::Path { .. } | SourceSpec::Git { .. } | SourceSpec::Archive { .. } => (
            &["scripts", "without_scripts", "skip"],
            "is for packages of the npm registry; a source says so in its own `pnpm-workspace.yaml`",
        ),
    };
    if let Some(value) = foreign.iter().find_map(|key| table.get(key)) {
        return Err(value.bad(why));
    }
    Ok(Node {
        scripts: strings(table, "scripts")?,
        without_scripts: strings(table, "without_scripts")?,
        skip: strings(table, "skip")?,
        run: strings(table, "run")?,
        omit: strings(table, "omit")?,
        prefix: match table.get("prefix") {
            Some(value) => value.parse()?.value,
            None => "/app".parse().expect("a normal path"),
        },
        pnpm: table.get("pnpm").map(|value| version(&value)).transpose()?,
        exclude: strings(table, "exclude")?,
    })
}

fn rust(table: &Table<'_>) -> Result<Rust> {
    Ok(Rust {
        members: words(table, "members")?,
        bins: words(table, "bins")?,
        features: words(table, "features")?,
        default_features: table.get("default_features").map_or(Ok(true), |value| value.boolean())?,
        profile: match table.get("profile") {
            Some(value) => {
                let text = value.text()?.value;
                if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
                    return Err(value.bad(format!("`{text}` is not the name of a profile")));
                }
                text
            }
            None => "release".to_owned(),
        },
        is_static: table.get("static").map_or(Ok(false), |value| value.boolean())?,
    })
}

fn go(table: &Table<'_>) -> Result<Go> {
    let main = words(table, "main")?;
    let mut variables = BTreeMap::new();
    if let Some(table) = table.table("variables")? {
        for (name, value) in table.entries() {
            let text = value.text()?.value;
            if name.value.contains([' ', '=', '\'']) || text.contains('\'') {
                return Err(value.bad(format!("`{}` is not a package variable and its value", name.value)));
            }
            variables.insert(name.value.to_owned(), text);
        }
    }
    Ok(Go {
        main: if main.is_empty() { vec![Spanned::new(".".to_owned(), table.span())] } else { main },
        tags: words(table, "tags")?,
        variables,
        generate: words(table, "generate")?,
    })
}

fn zig(table: &Table<'_>) -> Result<Zig> {
    let mut options = BTreeMap::new();
    if let Some(table) = table.table("options")? {
        for (name, value) in table.entries() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            // These are what the recipe's platform and `optimize` decide.
            let taken = ["target", "cpu", "optimize"].contains(&name.value);
            if name.value.is_empty() || taken || !name.value.chars().all(plain) {
                return Err(value.bad(format!("`{}` is not an option of build.zig to set here", name.value)));
            }
            options.insert(name.value.to_owned(), value.text()?.value);
        }
    }
    let modes = Optimize::ALL.map(|mode| (mode.as_str(), mode));
    Ok(Zig {
        optimize: match table.get("optimize") {
            Some(value) => value.choice(&modes)?.value,
            None => Optimize::Small,
        },
        options,
        bins: words(table, "bins")?,
    })
}

fn esp_idf(table: &Table<'_>) -> Result<EspIdf> {
    let value = table.need("chip")?;
    let chip = value.text()?;
    if !chip.value.starts_with("esp32") || !chip.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Err(value.bad(format!("`{}` is not a chip of ESP-IDF: `esp32`, `esp32s3`, `esp32c3`, …", chip.value)));
    }
    let refuse = match table.get("refuse") {
        Some(value) => value.array()?.iter().map(parse_source::relative).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    Ok(EspIdf {
        partitions: match table.get("partitions") {
            Some(value) => parse_source::relative(&value)?,
            None => Spanned::new("partitions.csv".to_owned(), chip.span),
        },
        chip,
        components: table.get("components").map_or(Ok(false), |value| value.boolean())?,
        refuse,
    })
}

fn source_copy(value: &Value<'_>) -> Result<SourceCopy> {
    let table = value.table()?;
    let copy = SourceCopy {
        from: table.need("from")?.parse()?,
        path: table.need("path")?.parse()?,
        to: parse_source::relative(&table.need("to")?)?,
    };
    table.finish()?;
    Ok(copy)
}

fn placed(value: &Value<'_>) -> Result<Place> {
    let table = value.table()?;
    let place = Place { from: parse_source::relative(&table.need("from")?)?, to: table.need("to")?.parse()? };
    table.finish()?;
    Ok(place)
}

/// One version, such as `10.33.0`.
fn version(value: &Value<'_>) -> Result<Spanned<semver::Version>> {
    let text = value.text()?;
    match semver::Version::parse(&text.value) {
        Ok(version) => Ok(Spanned::new(version, text.span)),
        Err(error) => Err(value.bad(format!("`{}` is not a version: {error}", text.value))),
    }
}

/// A version requirement in Cargo's grammar, such as `>=24.16, <25`.
fn requirement(value: &Value<'_>) -> Result<Spanned<String>> {
    let text = value.text()?;
    match semver::VersionReq::parse(&text.value) {
        Ok(_) => Ok(text),
        Err(error) => Err(value.bad(format!("`{}` is not a version requirement: {error}", text.value))),
    }
}
