//! crates.io. Spec: the Cargo book, "Index Format".

use semver::{Version, VersionReq};
use serde::Deserialize;
use url::Url;

use super::{Package, Release, ReleaseError, Releases};
use crate::integrity::Expect;

const INDEX: &str = "https://index.crates.io";
const DOWNLOADS: &str = "https://static.crates.io/crates";

/// One line of a crate's file in the index.
#[derive(Deserialize)]
struct Line {
    vers: Version,
    cksum: String,
    #[serde(default)]
    yanked: bool,
    pubtime: Option<String>,
}

impl Releases {
    /// The release of a crate that `requirement` selects: a whole version means just that one; of a range the newest that
    /// is not yanked counts.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub async fn krate(&self, name: &str, requirement: &str) -> Result<Release, ReleaseError> {
        let package = Package { noun: "crate", name };
        let path = index_path(name).ok_or_else(|| package.bad_name())?;
        let text = self.document(&package, &format!("{INDEX}/{path}")).await?;
        let text = String::from_utf8(text).map_err(|error| package.malformed(error))?;
        let lines: Vec<Line> = text
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| package.malformed(error)))
            .collect::<Result<_, _>>()?;
        let line = select(lines, &package, requirement)?;
        let url = format!("{DOWNLOADS}/{name}/{name}-{}.crate", line.vers);
        let sha256 = format!("sha256:{}", line.cksum).parse().map_err(|error| package.malformed(error))?;
        Ok(Release {
            version: line.vers.to_string(),
            archive: Url::parse(&url).map_err(|error| package.malformed(error))?,
            expect: Expect::sha256(sha256),
            published: package.time(line.pubtime.as_deref())?,
        })
    }
}

fn select(lines: Vec<Line>, package: &Package<'_>, requirement: &str) -> Result<Line, ReleaseError> {
    let mut newest: Vec<Version> = lines.iter().filter(|line| !line.yanked).map(|line| line.vers.clone()).collect();
    newest.sort();
    let newest = newest.iter().rev().take(5).map(ToString::to_string).collect();
    let none = || package.no_version(requirement, newest);
    if let Ok(exact) = Version::parse(requirement) {
        return lines.into_iter().find(|line| line.vers == exact).ok_or_else(none);
    }
    let Ok(range) = VersionReq::parse(requirement) else { return Err(none()) };
    let fitting = lines.into_iter().filter(|line| !line.yanked && range.matches(&line.vers));
    fitting.max_by(|a, b| a.vers.cmp(&b.vers)).ok_or_else(none)
}

/// Where a crate's file lies in the index.
fn index_path(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let lower = name.to_ascii_lowercase();
    match lower.len() {
        _ if !plain => None,
        0 => None,
        1 => Some(format!("1/{lower}")),
        2 => Some(format!("2/{lower}")),
        3 => Some(format!("3/{}/{lower}", &lower[..1])),
        _ => Some(format!("{}/{}/{lower}", &lower[..2], &lower[2..4])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_where_cargo_looks() {
        for (name, path) in [("a", "1/a"), ("ab", "2/ab"), ("abc", "3/a/abc"), ("ZeroClaw", "ze/ro/zeroclaw")] {
            assert_eq!(index_path(name).as_deref(), Some(path));
        }
        for bad in ["", "a/b", "a b", "é"] {
            assert_eq!(index_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_whole_version_is_exact_and_a_range_takes_the_newest() {
        let lines = || {
            [("0.8.5", false), ("0.8.7", false), ("0.8.8", true), ("0.9.0-rc.1", false)]
                .map(|(vers, yanked)| Line {
                    vers: vers.parse().expect("a version"),
                    cksum: String::new(),
                    yanked,
                    pubtime: None,
                })
                .into_iter()
                .collect::<Vec<_>>()
        };
        let package = Package { noun: "crate", name: "x" };
        let selected = |requirement: &str| select(lines(), &package, requirement).map(|line| line.vers.to_string());
        for (requirement, version) in [("0.8.5", "0.8.5"), ("^0.8", "0.8.7"), ("0.8.8", "0.8.8"), ("*", "0.8.7")] {
            assert_eq!(selected(requirement).ok().as_deref(), Some(version), "{requirement}");
        }
        match selected("1.0.0") {
            Err(ReleaseError::NoVersion { newest, .. }) => assert_eq!(newest, ["0.9.0-rc.1", "0.8.7", "0.8.5"]),
            other => panic!("{other:?}"),
        }
    }
}
