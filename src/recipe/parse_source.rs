//! The `[source]` table.

use diag::{Source, Spanned, codes};
use oci::Digest;

use crate::reader::{Table, Value};
use crate::{GitReference, RecipeError, Registry, Requirement, Result, SourceSpec};

/// The keys that name a source, one of which there must be.
const KINDS: [&str; 6] = ["npm", "crate", "go", "git", "archive", "path"];

pub(crate) fn origin(source: &Source, value: &Value<'_>) -> Result<Spanned<SourceSpec>> {
    let table = value.table()?;
    let given: Vec<(&str, Value<'_>)> = KINDS.iter().filter_map(|kind| Some((*kind, table.get(kind)?))).collect();
    let (kind, named) = match given.as_slice() {
        [one] => one,
        [(first, _), (second, value), ..] => {
            return Err(value.bad(format!("a recipe has one source: `{first}` or `{second}`, not both")));
        }
        [] => {
            // A misspelt kind is a better message than a missing one.
            table.finish()?;
            return Err(RecipeError::at(
                codes::recipe::MISSING_KEY,
                source,
                value.span(),
                "`[source]` names no source",
            )
            .mark(format!("one of `{}` belongs here", KINDS.join("`, `"))));
        }
    };
    let spec = match *kind {
        "npm" => release(Registry::Npm, named, &table)?,
        "crate" => release(Registry::Crates, named, &table)?,
        "go" => release(Registry::Go, named, &table)?,
        "git" => git(named, &table)?,
        "archive" => archive(named, &table)?,
        _ => SourceSpec::Path {
            path: named.text()?,
            version: table.get("version").map(|version| version.text()).transpose()?,
        },
    };
    table.finish()?;
    Ok(Spanned::new(spec, value.span()))
}

fn release(registry: Registry, named: &Value<'_>, table: &Table<'_>) -> Result<SourceSpec> {
    let value = table.need("version")?;
    let version: Spanned<Requirement> = value.parse()?;
    check_requirement(registry, &version.value).map_err(|why| value.bad(why))?;
    Ok(SourceSpec::Release { registry, package: named.text()?, version })
}

/// What is wrong with a requirement in its registry's grammar. npm's own is left to the resolver.
pub(crate) fn check_requirement(registry: Registry, requirement: &Requirement) -> std::result::Result<(), String> {
    let text = requirement.as_str();
    match registry {
        Registry::Npm | Registry::PyPi => Ok(()),
        Registry::Crates => match (semver::Version::parse(text), semver::VersionReq::parse(text)) {
            (Ok(_), _) | (_, Ok(_)) => Ok(()),
            (Err(_), Err(error)) => Err(format!("`{text}` is not a version requirement: {error}")),
        },
        Registry::Go => {
            let is_version = text.strip_prefix('v').is_some_and(|rest| semver::Version::parse(rest).is_ok());
            if is_version || text == "latest" {
                Ok(())
            } else {
                Err(format!("`{text}` is not a Go version: `vMAJOR.MINOR.PATCH`, or `latest`"))
            }
        }
    }
}

fn git(url: &Value<'_>, table: &Table<'_>) -> Result<SourceSpec> {
    let url_text = url.text()?;
    let is_remote =
        url_text.value.contains("://") || url_text.value.split_once(':').is_some_and(|(host, _)| !host.contains('/'));
    if !is_remote {
        let message = format!(
            "`{}` is not the URL of a repository: `https://…`, `ssh://…`, `file:///…` or `user@host:path`",
            url_text.value
        );
        return Err(url.bad(message));
    }
    let (tag, branch, rev) = (table.get("tag"), table.get("branch"), table.get("rev"));
    let reference = match (tag, branch, rev) {
        (Some(tag), None, None) => name(&tag)?.map(GitReference::Tag),
        (None, Some(branch), None) => name(&branch)?.map(GitReference::Branch),
        (None, None, Some(rev)) => {
            let text = rev.text()?;
            let is_id = matches!(text.value.len(), 40 | 64)
                && text.value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_id {
                let message =
                    format!("`{}` is not a whole commit id: 40 or 64 lower-case hexadecimal digits", text.value);
                return Err(rev.bad(message));
            }
            text.map(GitReference::Commit)
        }
        (None, None, None) => return Err(url.bad("say which commit: `tag`, `branch` or `rev`")),
        _ => return Err(url.bad("one of `tag`, `branch` and `rev` names the commit, not several")),
    };
    Ok(SourceSpec::Git {
        url: url_text,
        reference,
        version: table.get("version").map(|version| version.text()).transpose()?,
    })
}

/// A reference's name. Spec: git-check-ref-format(1).
fn name(value: &Value<'_>) -> Result<Spanned<String>> {
    let text = value.text()?;
    let bad = text.value.starts_with(['-', '/', '.'])
        || text.value.ends_with(['/', '.'])
        || text.value.contains("..")
        || text.value.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c));
    if bad { Err(value.bad(format!("`{}` is not the name of a tag or branch", text.value))) } else { Ok(text) }
}

fn archive(url: &Value<'_>, table: &Table<'_>) -> Result<SourceSpec> {
    let url_text = url.text()?;
    if !["http://", "https://", "file://"].iter().any(|scheme| url_text.value.starts_with(scheme)) {
        return Err(url.bad(format!("`{}` is not an http, https or file URL", url_text.value)));
    }
    let value = table.need("sha256")?;
    let text = value.text()?;
    let sha256: Digest = format!("sha256:{}", text.value.trim_start_matches("sha256:"))
        .parse()
        .map_err(|_| value.bad(format!("`{}` is not a SHA-256: 64 hexadecimal digits", text.value)))?;
    let root = match table.get("root") {
        Some(root) => relative(&root)?.value,
        None => String::new(),
    };
    Ok(SourceSpec::Archive {
        url: url_text,
        sha256: Spanned::new(sha256, text.span),
        root,
        version: table.need("version")?.text()?,
    })
}

/// A normal path relative to something's root.
pub(crate) fn relative(value: &Value<'_>) -> Result<Spanned<String>> {
    let text = value.text()?;
    let plain = text.value.trim_start_matches("./").trim_end_matches('/');
    if plain.starts_with('/') || plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let message = format!("`{}` is not a path below the source's root: no `/` at the start, no `..`", text.value);
        return Err(value.bad(message));
    }
    Ok(Spanned::new(plain.to_owned(), text.span))
}
