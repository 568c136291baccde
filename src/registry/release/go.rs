//! The Go module proxy. Spec: Go Modules Reference, §GOPROXY protocol.

use serde::Deserialize;
use url::Url;

use super::{Package, Release, ReleaseError, Releases};
use crate::integrity::Expect;

const PROXY: &str = "https://proxy.golang.org";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    version: String,
    time: Option<String>,
}

impl Releases {
    /// The release of a Go module: a version, or `latest`. The proxy says no checksum of the archive.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub async fn go(&self, module: &str, version: &str) -> Result<Release, ReleaseError> {
        let package = Package { noun: "Go module", name: module };
        let path = escaped(module).ok_or_else(|| package.bad_name())?;
        let url = match version {
            "latest" => format!("{PROXY}/{path}/@latest"),
            version => {
                let version = escaped(version).ok_or_else(|| package.no_version(version, Vec::new()))?;
                format!("{PROXY}/{path}/@v/{version}.info")
            }
        };
        let text = match self.document(&package, &url).await {
            Err(ReleaseError::NotFound { .. }) if version != "latest" => {
                return Err(package.no_version(version, Vec::new()));
            }
            other => other?,
        };
        let info: Info = serde_json::from_slice(&text).map_err(|error| package.malformed(error))?;
        let exact = escaped(&info.version).ok_or_else(|| package.malformed("its version is no version"))?;
        let archive = format!("{PROXY}/{path}/@v/{exact}.zip");
        Ok(Release {
            archive: Url::parse(&archive).map_err(|error| package.malformed(error))?,
            expect: Expect::ANYTHING,
            published: package.time(info.time.as_deref())?,
            version: info.version,
        })
    }
}

/// A module path or version as it stands in URLs: capitals are written `!` and the small letter.
fn escaped(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/+".contains(c);
    if text.is_empty() || !text.chars().all(plain) || text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return None;
    }
    Some(text.chars().fold(String::new(), |mut out, c| {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
        out
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_are_escaped_and_odd_paths_refused() {
        assert_eq!(escaped("github.com/BurntSushi/toml").as_deref(), Some("github.com/!burnt!sushi/toml"));
        for bad in ["", "a//b", "../a", "a?b", "a b"] {
            assert_eq!(escaped(bad), None, "{bad}");
        }
    }
}
