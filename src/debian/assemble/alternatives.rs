//! Names that several programs can stand behind: what update-alternatives does in automatic mode.
//!
//! Packages declare themselves as candidates by calling `update-alternatives --install` in their postinst. The calls
//! are read out of the script, which is not run; only words without any shell expansion are taken.
//! Spec: update-alternatives(1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::Database;
use super::tree::{Ownership, Tree};

/// The candidates for one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// The path that programs use.
    link: String,
    /// Paths that follow along, by name: manual pages mostly.
    slaves: BTreeMap<String, String>,
    /// By the path of the program.
    candidates: BTreeMap<String, Candidate>,
}

/// A program that can stand behind a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Candidate {
    priority: i32,
    /// What stands behind the names that follow along.
    slaves: BTreeMap<String, String>,
}

const DIRECTORY: &str = "/etc/alternatives";

/// Takes up the declarations of this layer's packages and sets the links of every name they touch.
pub(super) fn set_up<'s>(
    tree: &mut Tree<'_>,
    scripts: impl IntoIterator<Item = &'s [u8]>,
    groups: &mut BTreeMap<String, Group>,
    database: Database,
) {
    let mut touched = Vec::new();
    for script in scripts {
        for call in calls(&String::from_utf8_lossy(script)) {
            if let Some(name) = install(&call, groups) {
                touched.push(name);
            }
        }
    }
    touched.sort();
    touched.dedup();
    for name in touched {
        if let Some(group) = groups.get(&name) {
            link(tree, &name, group, database);
        }
    }
}

fn link(tree: &mut Tree<'_>, name: &str, group: &Group, database: Database) {
    // Programs the filter left out, or that a package declares without having them, cannot stand behind anything.
    let mut present = group.candidates.iter().filter(|(path, _)| tree.exists(path)).collect::<Vec<_>>();
    // The highest priority; of equal ones, the first by path.
    present.sort_by_key(|(path, candidate)| (std::cmp::Reverse(candidate.priority), *path));
    let Some((best, candidate)) = present.first() else { return };
    let set = |tree: &mut Tree<'_>, name: &str, link: &str, target: &str| {
        tree.put_link(&format!("{DIRECTORY}/{name}"), target);
        tree.put_link(link, &format!("{DIRECTORY}/{name}"));
    };
    set(tree, name, &group.link, best);
    for (slave, link) in &group.slaves {
        if let Some(target) = candidate.slaves.get(slave).filter(|target| tree.exists(target)) {
            set(tree, slave, link, target);
        }
    }
    if database >= Database::Full {
        let path = format!("var/lib/dpkg/alternatives/{name}");
        tree.put_file(&path, group.administrative_file(), Ownership::root(0o644));
    }
}

impl Group {
    /// The file update-alternatives keeps about a name.
    fn administrative_file(&self) -> String {
        let mut text = format!("auto\n{}\n", self.link);
        for (name, link) in &self.slaves {
            text += &format!("{name}\n{link}\n");
        }
        text.push('\n');
        for (path, candidate) in &self.candidates {
            text += &format!("{path}\n{}\n", candidate.priority);
            for name in self.slaves.keys() {
                text += candidate.slaves.get(name).map_or("", String::as_str);
                text.push('\n');
            }
        }
        text.push('\n');
        text
    }
}

/// Takes up one call: `--install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]…`. Gives the name.
fn install(call: &[String], groups: &mut BTreeMap<String, Group>) -> Option<String> {
    let at = call.iter().position(|word| word == "--install")?;
    let [link, name, path, priority, rest @ ..] = &call[at + 1..] else { return None };
    let priority = priority.parse().ok()?;
    let is_path = |text: &String| text.starts_with('/') && !text.split('/').any(|part| part == "..");
    let is_name = |text: &String| !text.is_empty() && !text.starts_with('.') && !text.contains('/');
    if !is_path(link) || !is_path(path) || !is_name(name) {
        return None;
    }
    let group = groups.entry(name.clone()).or_default();
    group.link.clone_from(link);
    let mut candidate = Candidate { priority, slaves: BTreeMap::new() };
    let mut rest = rest;
    while let [option, link, name, path, next @ ..] = rest {
        if option == "--slave" && is_path(link) && is_path(path) && is_name(name) {
            group.slaves.insert(name.clone(), link.clone());
            candidate.slaves.insert(name.clone(), path.clone());
            rest = next;
        } else {
            rest = &rest[1..];
        }
    }
    group.candidates.insert(path.clone(), candidate);
    Some(name.clone())
}

/// The calls of update-alternatives in a shell script, as words. A word that the shell would expand ends its call,
/// as do the operators between commands.
fn calls(script: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for line in script.replace("\\\n", " ").lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("update-alternatives") {
            rest = after;
            if !after.starts_with([' ', '\t']) {
                continue;
            }
            let mut words = Vec::new();
            for word in after.split_ascii_whitespace() {
                let (word, ended) = match word.strip_suffix(';') {
                    Some(word) => (word, true),
                    None => (word, false),
                };
                let plain = word.trim_matches(['"', '\'']);
                if plain.is_empty()
                    || plain
                        .contains(['$', '`', '|', '&', ';', '<', '>', '(', ')', '{', '}', '*', '?', '\\', '"', '\''])
                {
                    break;
                }
                words.push(plain.to_owned());
                if ended {
                    break;
                }
            }
            calls.push(words);
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_from_scripts() {
        let script = "
# update-alternatives --install /usr/bin/no no /no 1
if [ \"$1\" = configure ]; then
    update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\
        --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz \\
        --slave /usr/bin/nawk nawk /usr/bin/mawk || true
fi
update-alternatives --install /usr/bin/x x /usr/bin/$flavour 10
update-alternatives --install ../x y /usr/bin/y 10
update-alternatives --remove z /usr/bin/z; update-alternatives --install '/usr/bin/z' z \"/usr/bin/z2\" -3;
";
        let mut groups = BTreeMap::new();
        let names: Vec<String> = calls(script).iter().filter_map(|call| install(call, &mut groups)).collect();
        assert_eq!(names, ["awk", "z"]);
        assert_eq!(groups["z"].candidates["/usr/bin/z2"].priority, -3);
        let expected = "auto\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/man1/awk.1.gz\nnawk\n/usr/bin/nawk\n\n/usr/bin/mawk\n5\n/usr/share/man/man1/mawk.1.gz\n/usr/bin/mawk\n\n";
        assert_eq!(groups["awk"].administrative_file(), expected);
    }
}
