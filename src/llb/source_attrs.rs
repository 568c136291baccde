//! Source ops on the wire: an identifier with a scheme and string attributes. Spec: BuildKit `solver/pb/attr.go`.

use std::collections::BTreeMap;

use crate::source::{GitSource, HttpSource, LocalSource, OciLayoutSource, SourceOp};

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
                    set(key, json::encode(list));
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

/// JSON lists of strings, the form pattern attributes have.
mod json {
    use std::fmt::Write as _;

    /// The bytes Go's `json.Marshal` gives for a `[]string`: `<`, `>`, `&` and the two line separators escaped too.
    pub(super) fn encode(list: &[String]) -> String {
        let mut text = String::from("[");
        for (index, item) in list.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push('"');
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
}
