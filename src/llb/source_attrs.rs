//! Source ops on the wire: an identifier with a scheme and string attributes. Spec: BuildKit `solver/pb/attr.go`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bollard_buildkit_proto::pb;
use oci::{Digest, Reference};

use crate::decode::FieldError;
use crate::source::{GitSource, HttpSource, ImageSource, LocalSource, OciLayoutSource, SourceOp};

const LOCAL_INCLUDE: &str = "local.includepattern";
const LOCAL_EXCLUDE: &str = "local.excludepatterns";
const LOCAL_FOLLOW_PATHS: &str = "local.followpaths";
const LOCAL_SHARED_KEY_HINT: &str = "local.sharedkeyhint";
const LOCAL_SESSION: &str = "local.session";
const LOCAL_UNIQUE: &str = "local.unique";
const OCI_STORE: &str = "oci.store";
const OCI_SESSION: &str = "oci.session";
const GIT_FULL_URL: &str = "git.fullurl";
const GIT_KEEP_DIR: &str = "git.keepgitdir";
const GIT_TOKEN_SECRET: (&str, &str) = ("git.authtokensecret", "GIT_AUTH_TOKEN");
const GIT_HEADER_SECRET: (&str, &str) = ("git.authheadersecret", "GIT_AUTH_HEADER");
const HTTP_CHECKSUM: &str = "http.checksum";
const HTTP_FILENAME: &str = "http.filename";
const HTTP_PERM: &str = "http.perm";
const HTTP_UID: &str = "http.uid";
const HTTP_GID: &str = "http.gid";

type Attrs = BTreeMap<String, String>;

/// Identifier and attributes of a source.
pub(crate) fn encode(source: &SourceOp) -> (String, Attrs) {
    let mut attrs = Attrs::new();
    let mut set = |key: &str, value: String| _ = attrs.insert(key.to_owned(), value);
    let identifier = match source {
        SourceOp::Image(image) => format!("docker-image://{}@{}", image.repository, image.digest),
        SourceOp::OciLayout(OciLayoutSource { name, digest, store, session }) => {
            if let Some(store) = store {
                set(OCI_STORE, store.clone());
            }
            if let Some(session) = session {
                set(OCI_SESSION, session.clone());
            }
            format!("oci-layout://{name}@{digest}")
        }
        SourceOp::Local(LocalSource { name, include, exclude, follow_paths, shared_key_hint, session, unique }) => {
            for (key, list) in [(LOCAL_INCLUDE, include), (LOCAL_EXCLUDE, exclude), (LOCAL_FOLLOW_PATHS, follow_paths)]
            {
                if !list.is_empty() {
                    set(key, json(list));
                }
            }
            for (key, value) in
                [(LOCAL_SHARED_KEY_HINT, shared_key_hint), (LOCAL_SESSION, session), (LOCAL_UNIQUE, unique)]
            {
                if let Some(value) = value {
                    set(key, value.clone());
                }
            }
            format!("local://{name}")
        }
        SourceOp::Git(git) => {
            set(GIT_FULL_URL, git.remote.clone());
            for (key, secret) in [GIT_TOKEN_SECRET, GIT_HEADER_SECRET] {
                set(key, secret.to_owned());
            }
            if git.keep_git_dir {
                set(GIT_KEEP_DIR, "true".to_owned());
            }
            git_identifier(git)
        }
        SourceOp::Http(HttpSource { url, checksum, filename, perm, uid, gid }) => {
            set(HTTP_CHECKSUM, checksum.to_string());
            if let Some(filename) = filename {
                set(HTTP_FILENAME, filename.clone());
            }
            if let Some(perm) = perm {
                set(HTTP_PERM, format!("0{perm:o}"));
            }
            for (key, id) in [(HTTP_UID, uid), (HTTP_GID, gid)] {
                if *id != 0 {
                    set(key, id.to_string());
                }
            }
            url.clone()
        }
    };
    (identifier, attrs)
}

/// `git://host/path#commit[:subdir]`: the same for every protocol the repository is reached by.
fn git_identifier(git: &GitSource) -> String {
    let place = match git.remote.split_once("://") {
        Some((_, rest)) => rest.rsplit_once('@').map_or(rest, |(_, rest)| rest),
        None => &git.remote,
    };
    let fragment = match &git.subdir {
        Some(subdir) => format!("{}:{subdir}", git.commit),
        None => git.commit.to_string(),
    };
    format!("git://{place}#{fragment}")
}

/// The source that identifier and attributes name.
pub(crate) fn decode(encoded: pb::SourceOp) -> Result<SourceOp, FieldError> {
    let pb::SourceOp { identifier, mut attrs } = encoded;
    let (scheme, rest) =
        identifier.split_once("://").ok_or_else(|| FieldError::value("source.identifier", &identifier))?;
    let bad = || FieldError::value("source.identifier", &identifier);
    let source = match scheme {
        "docker-image" => {
            let Reference { repository, tag: None, digest: Some(digest) } = rest.parse().map_err(|_| bad())? else {
                return Err(bad());
            };
            SourceOp::Image(ImageSource { repository, digest })
        }
        "oci-layout" => {
            let (name, digest) = rest.split_once('@').ok_or_else(bad)?;
            SourceOp::OciLayout(OciLayoutSource {
                name: name.to_owned(),
                digest: digest.parse().map_err(|_| bad())?,
                store: attrs.remove(OCI_STORE),
                session: attrs.remove(OCI_SESSION),
            })
        }
        "local" => SourceOp::Local(LocalSource {
            name: rest.to_owned(),
            include: list(LOCAL_INCLUDE, &mut attrs)?,
            exclude: list(LOCAL_EXCLUDE, &mut attrs)?,
            follow_paths: list(LOCAL_FOLLOW_PATHS, &mut attrs)?,
            shared_key_hint: attrs.remove(LOCAL_SHARED_KEY_HINT),
            session: attrs.remove(LOCAL_SESSION),
            unique: attrs.remove(LOCAL_UNIQUE),
        }),
        "git" => {
            let (_, fragment) = rest.split_once('#').ok_or_else(bad)?;
            let (commit, subdir) = match fragment.split_once(':') {
                Some((commit, subdir)) => (commit, Some(subdir.to_owned())),
                None => (fragment, None),
            };
            for (key, secret) in [GIT_TOKEN_SECRET, GIT_HEADER_SECRET] {
                if attrs.remove(key).is_some_and(|name| name != secret) {
                    return Err(FieldError::Unsupported(key));
                }
            }
            SourceOp::Git(GitSource {
                remote: attrs.remove(GIT_FULL_URL).ok_or(FieldError::Missing(GIT_FULL_URL))?,
                commit: commit.parse().map_err(|_| bad())?,
                subdir,
                keep_git_dir: attrs.remove(GIT_KEEP_DIR).is_some_and(|value| value == "true"),
            })
        }
        "http" | "https" => {
            let checksum = attrs.remove(HTTP_CHECKSUM).ok_or(FieldError::Missing(HTTP_CHECKSUM))?;
            let checksum: Digest = checksum.parse().map_err(|_| FieldError::value(HTTP_CHECKSUM, &checksum))?;
            SourceOp::Http(HttpSource {
                checksum,
                filename: attrs.remove(HTTP_FILENAME),
                perm: number(HTTP_PERM, 8, &mut attrs)?,
                uid: number(HTTP_UID, 10, &mut attrs)?.unwrap_or(0),
                gid: number(HTTP_GID, 10, &mut attrs)?.unwrap_or(0),
                url: identifier,
            })
        }
        _ => return Err(bad()),
    };
    match attrs.into_iter().next() {
        None => Ok(source),
        Some((key, _)) => Err(FieldError::value("source.attrs", key)),
    }
}

fn number(key: &'static str, radix: u32, attrs: &mut Attrs) -> Result<Option<u32>, FieldError> {
    let number = |text: String| u32::from_str_radix(&text, radix).map_err(|_| FieldError::value(key, text));
    attrs.remove(key).map(number).transpose()
}

fn list(key: &'static str, attrs: &mut Attrs) -> Result<Vec<String>, FieldError> {
    let list = |text: String| serde_json::from_str(&text).map_err(|_| FieldError::value(key, text));
    Ok(attrs.remove(key).map(list).transpose()?.unwrap_or_default())
}

/// The bytes Go's `json.Marshal` gives for a `[]string`: `<`, `>`, `&` and the two line separators escaped too.
fn json(list: &[String]) -> String {
    let mut text = String::from("[");
    for (index, item) in list.iter().enumerate() {
        text.push_str(if index > 0 { ",\"" } else { "\"" });
        for c in item.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    write!(text, "\\u{:04x}", u32::from(c)).expect("a string grows as needed");
                }
                _ => text.push(c),
            }
        }
        text.push('"');
    }
    text.push(']');
    text
}
