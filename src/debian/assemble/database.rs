//! dpkg's database: what is installed, and what belongs to it.
//!
//! Spec: dpkg(1) §FILES; deb-control(5); deb-triggers(5).

use std::collections::BTreeMap;

use super::installed::InstalledPackage;
use super::options::Database;
use super::tree::{Ownership, Tree};
use super::unpack::Unpacked;
use crate::control::Paragraph;

const ROOT: &str = "var/lib/dpkg";
/// Fields in the order dpkg writes them. Others follow as the package has them.
const FIELDS: [&str; 22] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
];
const LAST_FIELDS: [&str; 3] = ["Enhances", "Conffiles", "Description"];

/// A package's paragraph in the status file.
pub(super) fn status_paragraph(package: &Unpacked, database: Database) -> String {
    let state = match database {
        Database::Absent | Database::Listing | Database::Full => "installed",
        Database::Unconfigured => "unpacked",
    };
    let status = format!("install ok {state}");
    let conffiles: String = package.conffiles.iter().map(|(path, md5)| format!("\n {path} {md5}")).collect();
    let fields = &package.control.fields;
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        let space = if value.starts_with('\n') { "" } else { " " };
        text += &format!("{name}:{space}{value}\n");
    };
    for name in FIELDS.iter().chain(&LAST_FIELDS) {
        match *name {
            "Status" => put(name, &status),
            "Conffiles" if !conffiles.is_empty() => put(name, &conffiles),
            name => {
                if let Some(value) = fields.get(name) {
                    put(name, value);
                }
            }
        }
    }
    let known = |name: &str| FIELDS.iter().chain(&LAST_FIELDS).any(|known| known.eq_ignore_ascii_case(name));
    for (name, value) in fields.fields().filter(|(name, _)| !known(name)) {
        put(name, value);
    }
    text
}

/// Writes the database: status of `all` packages, everything else of this layer's.
pub(super) fn set_up(
    tree: &mut Tree<'_>,
    packages: &[Unpacked],
    all: &[InstalledPackage],
    architecture: &str,
    database: Database,
    texts: &mut BTreeMap<String, String>,
) {
    if database == Database::Absent {
        return;
    }
    let mut put = |name: &str, content: &[u8], mode: u32| {
        tree.put_file(&format!("{ROOT}/{name}"), content, Ownership::root(mode));
    };
    let mut sorted: Vec<&InstalledPackage> = all.iter().collect();
    sorted.sort_by(|a, b| a.package.cmp(&b.package));
    let status: String = sorted.iter().flat_map(|package| [package.status.as_str(), "\n"]).collect();
    put("status", status.as_bytes(), 0o644);
    put("info/format", b"1\n", 0o644);
    let mut architectures: Vec<&str> = all.iter().map(|installed| installed.package.architecture.as_str()).collect();
    architectures.sort_unstable();
    architectures.dedup();
    architectures.retain(|other| *other != architecture && *other != "all");
    if !architectures.is_empty() {
        let lines: String = [architecture].iter().chain(&architectures).flat_map(|name| [*name, "\n"]).collect();
        put("arch", lines.as_bytes(), 0o644);
    }
    for package in packages {
        let name = info_name(&package.control.fields);
        let listing: String = package
            .listing
            .iter()
            .map(|path| match path.is_root() {
                true => "/.\n".to_owned(),
                false => format!("{path}\n"),
            })
            .collect();
        put(&format!("info/{name}.list"), listing.as_bytes(), 0o644);
        for (file, content) in &package.control.files {
            let script = matches!(file.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config");
            if matches!(file.as_str(), "md5sums" | "conffiles") || database >= Database::Full {
                put(&format!("info/{name}.{file}"), content, if script { 0o755 } else { 0o644 });
            }
        }
    }
    if database >= Database::Full {
        put("arch-native", format!("{architecture}\n").as_bytes(), 0o644);
        for (file, text) in triggers(packages, texts) {
            put(&format!("triggers/{file}"), text.as_bytes(), 0o644);
            texts.insert(format!("{ROOT}/triggers/{file}"), text);
        }
        for directory in ["alternatives", "parts", "updates"] {
            tree.put_directory(&format!("{ROOT}/{directory}"), Ownership::root(0o755));
        }
    }
}

/// What a package's files in the database are called.
fn info_name(fields: &Paragraph) -> String {
    let field = |name| fields.get(name).unwrap_or_default();
    match field("Multi-Arch") {
        "same" => format!("{}:{}", field("Package"), field("Architecture")),
        _ => field("Package").to_owned(),
    }
}

/// dpkg's files of triggers: `File` lists paths and who is interested in them, every other file is named after a
/// trigger and lists who is interested in it.
fn triggers(packages: &[Unpacked], below: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in ["File", "Unincorp"] {
        files.insert(name.to_owned(), Vec::new());
    }
    for (path, text) in below {
        if let Some(name) = path.strip_prefix(ROOT).and_then(|path| path.strip_prefix("/triggers/")) {
            files.insert(name.to_owned(), text.lines().map(str::to_owned).collect());
        }
    }
    for package in packages {
        let Some(text) = package.control.files.get("triggers") else { continue };
        let name = info_name(&package.control.fields);
        for line in String::from_utf8_lossy(text).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let who = match directive {
                "interest" | "interest-await" => name.clone(),
                "interest-noawait" => format!("{name}/noawait"),
                _ => continue,
            };
            if trigger.starts_with('/') {
                files.entry("File".to_owned()).or_default().push(format!("{trigger} {who}"));
            } else if !trigger.contains('/') && !trigger.starts_with('.') {
                files.entry(trigger.to_owned()).or_default().push(who);
            }
        }
    }
    let text = |mut lines: Vec<String>| -> String {
        lines.sort();
        lines.dedup();
        lines.iter().flat_map(|line| [line, "\n"]).collect()
    };
    files.into_iter().map(|(name, lines)| (name, text(lines))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::Control;

    fn package(control: &str, files: &[(&str, &str)]) -> Unpacked {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        Unpacked { control: Control { fields: Paragraph::parse(control).unwrap(), files }, ..Unpacked::default() }
    }

    #[test]
    fn paragraphs_have_the_order_of_dpkg() {
        let mut package = package(
            "Package: a\nVersion: 1\nHomepage: h\nDescription: d\n more\nArchitecture: all\nDepends: b\nMulti-Arch: same\n",
            &[],
        );
        package.conffiles.insert("etc/a".into(), "00".to_owned());
        let text = status_paragraph(&package, Database::Listing);
        let expected = "Package: a\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: same\nVersion: 1\nDepends: b\nConffiles:\n /etc/a 00\nDescription: d\n more\nHomepage: h\n";
        assert_eq!(text, expected);
        assert!(status_paragraph(&package, Database::Unconfigured).contains("Status: install ok unpacked\n"));
        assert_eq!(info_name(&package.control.fields), "a:all");
    }

    #[test]
    fn triggers_are_collected_over_layers() {
        let below = BTreeMap::from([("var/lib/dpkg/triggers/ldconfig".to_owned(), "old\n".to_owned())]);
        let package = package(
            "Package: a\nArchitecture: all\n",
            &[("triggers", "# x\ninterest-noawait /usr/x\ninterest ldconfig\nactivate y\ninterest ../z\n")],
        );
        let triggers = triggers(&[package], &below);
        assert_eq!(triggers["File"], "/usr/x a/noawait\n");
        assert_eq!(triggers["ldconfig"], "a\nold\n");
        assert_eq!(triggers["Unincorp"], "");
        assert_eq!(triggers.len(), 3);
    }
}
