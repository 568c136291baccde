//! Users and groups of a root filesystem. Spec: `passwd(5)`, `group(5)`; lookups as runc and BuildKit make them.

use std::io;
use std::path::Path;

use super::error::Refusal;
use crate::embedded::mount::Root;

/// BuildKit's limit for these files.
const LONGEST: u64 = 10 << 20;

/// An entry of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserEntry {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// An entry of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) name: String,
    pub(crate) gid: u32,
    members: Vec<String>,
}

/// Both files. One that is not there is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) users: Vec<UserEntry>,
    pub(crate) groups: Vec<GroupEntry>,
}

/// Who a step runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, the main one first.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl Accounts {
    /// Reads a root filesystem's accounts.
    pub(crate) fn read(root: Root<'_>) -> io::Result<Self> {
        let text = |path: &str| -> io::Result<String> {
            let content = root.read(Path::new(path), LONGEST)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&content).into_owned())
        };
        Ok(Self::parse(&text("/etc/passwd")?, &text("/etc/group")?))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let fields = |line: &str| -> Vec<String> { line.trim().split(':').map(str::to_owned).collect() };
        let users = passwd.lines().filter_map(|line| match fields(line).as_slice() {
            [name, _, uid, gid, _, home, ..] => Some(UserEntry {
                name: name.clone(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.clone(),
            }),
            _ => None,
        });
        let groups = group.lines().filter_map(|line| match fields(line).as_slice() {
            [name, _, gid, rest @ ..] => {
                let members = rest.first().map(|members| members.split(',').map(str::to_owned).collect());
                Some(GroupEntry { name: name.clone(), gid: gid.parse().ok()?, members: members.unwrap_or_default() })
            }
            _ => None,
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// Who `user` or `user:group` is. Numbers need no entry; names do.
    pub(super) fn person(&self, text: &str) -> Result<Person, Refusal> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let number: Option<u32> = user.parse().ok();
        let entry = match number {
            Some(uid) => self.users.iter().find(|entry| entry.uid == uid),
            None => self.users.iter().find(|entry| entry.name == user),
        };
        // `root` is understood without an entry, as 0 is.
        let uid = match (entry, number) {
            (Some(entry), _) => entry.uid,
            (None, Some(uid)) => uid,
            (None, None) if user == "root" => 0,
            (None, None) => return Err(Refusal::UnknownUser(user.to_owned())),
        };
        let (gid, others) = match group {
            Some(group) => (self.group(group)?, Vec::new()),
            None => (entry.map_or(0, |entry| entry.gid), self.memberships(entry)),
        };
        let mut groups = vec![gid];
        groups.extend(others.into_iter().filter(|other| *other != gid));
        Ok(Person { uid, gid, groups, home: self.home(uid) })
    }

    fn group(&self, text: &str) -> Result<u32, Refusal> {
        if let Ok(gid) = text.parse() {
            return Ok(gid);
        }
        match self.groups.iter().find(|entry| entry.name == text) {
            Some(entry) => Ok(entry.gid),
            None if text == "root" => Ok(0),
            None => Err(Refusal::UnknownGroup(text.to_owned())),
        }
    }

    fn memberships(&self, entry: Option<&UserEntry>) -> Vec<u32> {
        let Some(entry) = entry else { return Vec::new() };
        self.groups.iter().filter(|group| group.members.contains(&entry.name)).map(|group| group.gid).collect()
    }

    fn home(&self, uid: u32) -> String {
        let entry = self.users.iter().find(|entry| entry.uid == uid && !entry.home.is_empty());
        entry.map_or_else(|| "/".to_owned(), |entry| entry.home.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002::/home/app:/bin/sh\nbroken\n",
            "root:x:0:\napp:x:1002:\naudio:x:29:app,other\nvideo:x:44:other\nempty:x:50\n",
        )
    }

    fn person(uid: u32, gid: u32, groups: &[u32], home: &str) -> Person {
        Person { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn finds_people_as_runc_does() {
        let accounts = accounts();
        let find = |text| accounts.person(text);
        assert_eq!(find(""), Ok(person(0, 0, &[0], "/root")));
        assert_eq!(find("app"), Ok(person(1001, 1002, &[1002, 29], "/home/app")));
        assert_eq!(find("1001"), Ok(person(1001, 1002, &[1002, 29], "/home/app")));
        assert_eq!(find("app:video"), Ok(person(1001, 44, &[44], "/home/app")));
        assert_eq!(find("7:8"), Ok(person(7, 8, &[8], "/")));
        assert_eq!(find("7"), Ok(person(7, 0, &[0], "/")));
        assert_eq!(find("root:root"), Ok(person(0, 0, &[0], "/root")));
        assert_eq!(find("nobody"), Err(Refusal::UnknownUser("nobody".to_owned())));
        assert_eq!(find("app:none"), Err(Refusal::UnknownGroup("none".to_owned())));
    }

    #[test]
    fn knows_root_without_files() {
        assert_eq!(Accounts::default().person("root"), Ok(person(0, 0, &[0], "/")));
        assert_eq!(Accounts::default().person("root:root"), Ok(person(0, 0, &[0], "/")));
    }
}
