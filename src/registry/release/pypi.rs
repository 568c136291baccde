//! The Python package index. Spec: Warehouse's JSON API; wheel names are PyPA's binary distribution format.

use std::collections::BTreeMap;

use oci::Architecture;
use serde::Deserialize;
use url::Url;

use super::{Package, Release, ReleaseError, Releases};
use crate::integrity::Expect;

/// Where the index keeps files.
const FILES: &str = "https://files.pythonhosted.org/packages";

#[derive(Deserialize)]
struct Project {
    releases: BTreeMap<String, Vec<File>>,
}

#[derive(Clone, Deserialize)]
struct File {
    filename: String,
    url: String,
    size: u64,
    digests: Digests,
    #[serde(default)]
    yanked: bool,
    upload_time_iso_8601: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Digests {
    sha256: String,
    blake2b_256: Option<String>,
}

impl File {
    /// Where it lies. Caching proxies answer with URLs that are relative to themselves; the index's own follow from the
    /// file's digest.
    fn location(&self, document: &Url) -> Result<Url, url::ParseError> {
        match (Url::parse(&self.url), self.digests.blake2b_256.as_deref()) {
            (Err(url::ParseError::RelativeUrlWithoutBase), Some(sum)) if sum.len() == 64 && sum.is_ascii() => {
                Url::parse(&format!("{FILES}/{}/{}/{}/{}", &sum[..2], &sum[2..4], &sum[4..], self.filename))
            }
            (Err(url::ParseError::RelativeUrlWithoutBase), _) => document.join(&self.url),
            (absolute, _) => absolute,
        }
    }
}

impl Releases {
    /// The wheel of a version of a Python package for Linux with the GNU C library on an architecture; its source archive
    /// where it has no wheels at all.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub async fn wheel(&self, name: &str, version: &str, architecture: Architecture) -> Result<Release, ReleaseError> {
        let package = Package { noun: "Python package", name };
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) || name.is_empty() {
            return Err(package.bad_name());
        }
        let document = format!("https://pypi.org/pypi/{name}/json");
        let text = self.document(&package, &document).await?;
        let mut project: Project = serde_json::from_slice(&text).map_err(|error| package.malformed(error))?;
        let Some(files) = project.releases.remove(version) else {
            let mut newest: Vec<(Option<String>, String)> = project
                .releases
                .into_iter()
                .map(|(version, files)| (files.into_iter().next().and_then(|file| file.upload_time_iso_8601), version))
                .collect();
            newest.sort();
            let newest = newest.into_iter().rev().take(5).map(|(_, version)| version).collect();
            return Err(package.no_version(version, newest));
        };
        let file = select(files, architecture).ok_or_else(|| ReleaseError::NoWheel {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_string(),
        })?;
        let sha256 = format!("sha256:{}", file.digests.sha256).parse().map_err(|error| package.malformed(error))?;
        Ok(Release {
            version: version.to_owned(),
            archive: Url::parse(&document)
                .and_then(|document| file.location(&document))
                .map_err(|error| package.malformed(error))?,
            expect: Expect::sha256(sha256).with_size(file.size),
            published: package.time(file.upload_time_iso_8601.as_deref())?,
        })
    }
}

/// The wheel that fits: one for the architecture before one for any. Without any wheel it is the source archive, which
/// of pure Python is as good.
fn select(files: Vec<File>, architecture: Architecture) -> Option<File> {
    let tag =
        |file: &File| file.filename.strip_suffix(".whl").and_then(|name| name.rsplit('-').next()).map(str::to_owned);
    let ending = format!("_{}", architecture.gnu());
    let native = |tag: &str| tag.split('.').any(|tag| tag.starts_with("manylinux") && tag.ends_with(&ending));
    let mut files: Vec<File> = files.into_iter().filter(|file| !file.yanked).collect();
    if !files.iter().any(|file| file.filename.ends_with(".whl")) {
        let sdist = files.iter().position(|file| file.filename.ends_with(".tar.gz"))?;
        return Some(files.swap_remove(sdist));
    }
    let mut fitting: Vec<(bool, File)> = files
        .into_iter()
        .filter_map(|file| {
            let tag = tag(&file)?;
            if native(&tag) { Some((false, file)) } else { (tag == "any").then_some((true, file)) }
        })
        .collect();
    fitting.sort_by(|a, b| (a.0, &a.1.filename).cmp(&(b.0, &b.1.filename)));
    fitting.into_iter().next().map(|(_, file)| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(filename: &str, yanked: bool) -> File {
        let digests = Digests { sha256: String::new(), blake2b_256: None };
        File { filename: filename.to_owned(), url: String::new(), size: 1, digests, yanked, upload_time_iso_8601: None }
    }

    #[test]
    fn the_wheel_for_the_architecture_is_taken() {
        let files = || {
            vec![
                file("ziglang-0.15.2-py3-none-any.whl", false),
                file("ziglang-0.15.2-py3-none-macosx_12_0_arm64.whl", false),
                file(
                    "ziglang-0.15.2-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
                    false,
                ),
                file("ziglang-0.15.2-py3-none-manylinux_2_17_aarch64.whl", true),
                file("ziglang-0.15.2.tar.gz", false),
            ]
        };
        let name = |architecture| select(files(), architecture).expect("one fits").filename;
        assert!(name(Architecture::Amd64).contains("x86_64"));
        // The one for Arm was withdrawn.
        assert!(name(Architecture::Arm64).ends_with("any.whl"));
        assert!(select(files()[1..4].to_vec(), Architecture::Arm64).is_none());
        let only_source = select(files()[4..].to_vec(), Architecture::Arm64).expect("it fits everywhere");
        assert_eq!(only_source.filename, "ziglang-0.15.2.tar.gz");
    }

    #[test]
    fn relative_urls_are_those_of_the_index() {
        let document = Url::parse("https://pypi.org/pypi/sample/json").expect("url");
        let mut file = file("sample-1-py3-none-any.whl", false);
        let location = |file: &File| file.location(&document).expect("url").to_string();
        file.url = "../../files/sample.whl".to_owned();
        assert_eq!(location(&file), "https://pypi.org/files/sample.whl");
        file.digests.blake2b_256 = Some(format!("ab12{}", "0".repeat(60)));
        assert_eq!(location(&file), format!("{FILES}/ab/12/{}/sample-1-py3-none-any.whl", "0".repeat(60)));
        file.url = "https://files.example.org/sample.whl".to_owned();
        assert_eq!(location(&file), "https://files.example.org/sample.whl");
    }
}
