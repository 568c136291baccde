//! Users and groups: base-passwd's, those of sysusers.d files, and those asked for.
//!
//! Spec: passwd(5), group(5), sysusers.d(5).

use std::collections::BTreeMap;

use super::error::AssembleError;
use super::options::User;
use super::path::TreePath;
use super::tree::{NodeKind, Ownership, Tree};

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

/// What every program may rely on, for sets without base-passwd: root, nobody, and the groups that Debian's own files
/// and devices belong to.
const FEW_USERS: &str = "\
root:*:0:0:root:/root:/bin/sh
nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const FEW_GROUPS: &str = "\
root:*:0:
tty:*:5:
mail:*:8:
shadow:*:42:
utmp:*:43:
staff:*:50:
nogroup:*:65534:
";

/// System users without a number of their own get one from here downwards.
const DYNAMIC_FROM: u32 = 999;

/// The two files, line by line.
struct Accounts {
    users: Vec<String>,
    groups: Vec<String>,
}

/// Writes `/etc/passwd` and `/etc/group` where this layer changes them, and makes home directories. Gives what later
/// layers need to know.
pub(super) fn set_up(
    tree: &mut Tree<'_>,
    users: &[User],
    texts: &mut BTreeMap<String, String>,
) -> Result<(), AssembleError> {
    let own = |name: &str| texts.get(name).map(String::as_str);
    let users_master = tree.read_text("usr/share/base-passwd/passwd.master")?;
    let groups_master = tree.read_text("usr/share/base-passwd/group.master")?;
    let mut accounts = Accounts {
        users: lines(users_master.as_deref().or(own(PASSWD)).unwrap_or(FEW_USERS)),
        groups: lines(groups_master.as_deref().or(own(GROUP)).unwrap_or(FEW_GROUPS)),
    };
    for text in sysusers(tree)? {
        text.lines().for_each(|line| accounts.add_system(line));
    }
    for user in users {
        accounts.add(user)?;
    }
    for (path, lines) in [(PASSWD, &accounts.users), (GROUP, &accounts.groups)] {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        if texts.get(path) != Some(&text) {
            tree.put_file(path, text.as_bytes(), Ownership::root(0o644));
            texts.insert(path.to_owned(), text);
        }
    }
    for user in users {
        tree.put_directory(&user.home, Ownership { mode: 0o755, uid: user.id, gid: user.id });
    }
    Ok(())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The sysusers.d files of this layer, in the order of their names.
fn sysusers(tree: &mut Tree<'_>) -> Result<Vec<String>, AssembleError> {
    let directory = TreePath::from("usr/lib/sysusers.d");
    let files = tree
        .below_directory(&directory)
        .filter(|(path, node)| matches!(node.kind, NodeKind::File(_)) && path.as_str().ends_with(".conf"));
    let files: Vec<String> = files.map(|(path, _)| path.as_str().to_owned()).collect();
    files.iter().filter_map(|path| tree.read_text(path).transpose()).collect()
}

impl Accounts {
    fn add(&mut self, user: &User) -> Result<(), AssembleError> {
        let refused = |reason: String| AssembleError::User { name: user.name.clone(), id: user.id, reason };
        let first = user.name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if !first || !user.name.bytes().all(allowed) || user.name.len() > 32 {
            return Err(refused("names are up to 32 small letters, digits, `-` and `_`, a letter first".to_owned()));
        }
        for (what, path) in [("home directory", &user.home), ("shell", &user.shell)] {
            if !path.starts_with('/') || path.contains([':', '\n']) {
                return Err(refused(format!("its {what} is not an absolute path")));
            }
        }
        let line = format!("{}:*:{}:{}::{}:{}", user.name, user.id, user.id, user.home, user.shell);
        if self.users.contains(&line) {
            return Ok(());
        }
        for (file, entries) in [("user", &self.users), ("group", &self.groups)] {
            let taken =
                entries.iter().find(|entry| field(entry, 0) == user.name || field(entry, 2).parse() == Ok(user.id));
            if let Some(taken) = taken {
                return Err(refused(format!("there is {file} `{}` ({}) already", field(taken, 0), field(taken, 2))));
            }
        }
        self.users.push(line);
        self.groups.push(format!("{}:*:{}:", user.name, user.id));
        Ok(())
    }

    /// One line of a sysusers.d file. Lines that ask for what cannot be had here are passed over, as
    /// systemd-sysusers passes over users that exist.
    fn add_system(&mut self, line: &str) {
        let words = words(line);
        let word = |at: usize| words.get(at).map(String::as_str).filter(|word| *word != "-");
        let (Some(kind), Some(name)) = (word(0), word(1)) else { return };
        match kind.trim_end_matches('!') {
            "u" if !has(&self.users, name) => {
                let (id, group) = match word(2).map(|id| id.split_once(':').unwrap_or((id, ""))) {
                    Some((id, group)) => (id.parse().ok(), Some(group).filter(|group| !group.is_empty())),
                    None => (None, None),
                };
                let Some(id) = id.or_else(|| self.free_id()) else { return };
                let gid = match group {
                    Some(group) => group.parse().ok().or_else(|| id_of(&self.groups, group)),
                    None => self.group(name, Some(id)),
                };
                let Some(gid) = gid else { return };
                let comment = word(3).unwrap_or_default().replace(':', " ");
                let (home, shell) = (word(4).unwrap_or("/"), word(5).unwrap_or("/usr/sbin/nologin"));
                self.users.push(format!("{name}:*:{id}:{gid}:{comment}:{home}:{shell}"));
            }
            "g" => {
                let id = word(2).and_then(|id| id.parse().ok());
                self.group(name, id);
            }
            "m" => {
                let Some(group) = word(2) else { return };
                self.group(group, None);
                let line = self.groups.iter_mut().find(|line| field(line, 0) == group);
                if let Some(line) = line.filter(|line| !field(line, 3).split(',').any(|member| member == name)) {
                    let comma = if line.ends_with(':') { "" } else { "," };
                    line.push_str(comma);
                    line.push_str(name);
                }
            }
            _ => {}
        }
    }

    /// The number of a group, which is made if there is none of that name.
    fn group(&mut self, name: &str, id: Option<u32>) -> Option<u32> {
        if let Some(id) = id_of(&self.groups, name) {
            return Some(id);
        }
        let taken = |id: u32| self.groups.iter().any(|line| field(line, 2).parse() == Ok(id));
        let id = id.filter(|id| !taken(*id)).or_else(|| self.free_id())?;
        self.groups.push(format!("{name}:*:{id}:"));
        Some(id)
    }

    fn free_id(&self) -> Option<u32> {
        let taken = |id: u32| self.users.iter().chain(&self.groups).any(|line| field(line, 2).parse() == Ok(id));
        (100..=DYNAMIC_FROM).rev().find(|id| !taken(*id))
    }
}

fn field(line: &str, at: usize) -> &str {
    line.split(':').nth(at).unwrap_or_default()
}

fn has(lines: &[String], name: &str) -> bool {
    lines.iter().any(|line| field(line, 0) == name)
}

fn id_of(lines: &[String], name: &str) -> Option<u32> {
    lines.iter().find(|line| field(line, 0) == name).and_then(|line| field(line, 2).parse().ok())
}

/// Splits a line into words; double quotes hold one together, `#` at the start makes a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    if rest.starts_with('#') {
        return words;
    }
    while !rest.is_empty() {
        let (word, next) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = next.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts { users: lines(FEW_USERS), groups: lines(FEW_GROUPS) }
    }

    fn user(name: &str, id: u32) -> User {
        User { name: name.to_owned(), id, home: format!("/home/{name}"), shell: "/bin/sh".to_owned() }
    }

    #[test]
    fn users_are_added_once_and_must_not_clash() {
        let mut accounts = accounts();
        accounts.add(&user("node", 1000)).unwrap();
        accounts.add(&user("node", 1000)).unwrap();
        assert_eq!(accounts.users.last().unwrap(), "node:*:1000:1000::/home/node:/bin/sh");
        assert_eq!(accounts.groups.iter().filter(|line| line.starts_with("node:")).count(), 1);
        for (name, id) in
            [("node", 1001), ("other", 1000), ("root", 5000), ("x", 0), ("mail", 77), ("Bad", 1), ("a:b", 2), ("", 3)]
        {
            assert!(accounts.add(&user(name, id)).is_err(), "{name} {id}");
        }
    }

    #[test]
    fn system_users_get_numbers_from_the_top() {
        let mut accounts = accounts();
        for line in [
            "# comment",
            "u messagebus - \"System Message Bus\" /nonexistent",
            "u fixed 42:65534 -",
            "g render 104",
            "g input -",
            "m messagebus input",
            "m messagebus input",
            "u! locked -",
            "r - 500-900",
            "u",
        ] {
            accounts.add_system(line);
        }
        assert_eq!(
            accounts.users[2..],
            [
                "messagebus:*:999:999:System Message Bus:/nonexistent:/usr/sbin/nologin",
                "fixed:*:42:65534::/:/usr/sbin/nologin",
                "locked:*:997:997::/:/usr/sbin/nologin",
            ]
        );
        assert_eq!(
            accounts.groups[7..],
            ["messagebus:*:999:", "render:*:104:", "input:*:998:messagebus", "locked:*:997:"]
        );
    }
}
