//! User and group id maps, and the ranges of subordinate ids an account may use. Spec: `user_namespaces(7)`, `subuid(5)`.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use rustix::process::{Gid, Pid, Uid};

/// The first id above the range a container expects: `nobody` is 65534, and 65535 is reserved.
const FULL_RANGE: u64 = 65_536;

/// A stretch of ids that belong to one account on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) count: u64,
}

/// Both maps of a namespace: its 0 is the user, 1 and up are the subordinate ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    uid: Uid,
    gid: Gid,
    uids: Vec<Range>,
    gids: Vec<Range>,
}

impl Maps {
    /// The maps this account is entitled to, where they are wide enough to hold every id an image uses.
    pub(super) fn subordinate(uid: Uid, gid: Gid) -> Option<Self> {
        let name = account_name(uid);
        let read = |path| ranges(&fs::read_to_string(path).ok()?, name.as_deref(), uid);
        let maps = Self { uid, gid, uids: read("/etc/subuid")?, gids: read("/etc/subgid")? };
        let wide = |ranges: &[Range]| ranges.iter().map(|range| range.count).sum::<u64>() + 1 >= FULL_RANGE;
        (wide(&maps.uids) && wide(&maps.gids)).then_some(maps)
    }

    /// Writes both maps of `process` with the set-uid programs of the host. Runs outside the new namespace.
    pub(super) fn write(&self, process: Pid) -> io::Result<()> {
        run("newuidmap", process, self.uid.as_raw(), &self.uids)?;
        run("newgidmap", process, self.gid.as_raw(), &self.gids)
    }
}

/// Whether the programs that write wide maps are installed.
pub(super) fn programs_installed() -> bool {
    ["newuidmap", "newgidmap"].iter().all(|program| {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

fn run(program: &'static str, process: Pid, own: u32, ranges: &[Range]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.arg(process.as_raw_nonzero().to_string()).args(["0".to_owned(), own.to_string(), "1".to_owned()]);
    let mut inside = 1;
    for range in ranges {
        command.args([inside.to_string(), range.start.to_string(), range.count.to_string()]);
        inside += range.count;
    }
    if command.status()?.success() { Ok(()) } else { Err(io::Error::other(format!("{program} refused"))) }
}

/// Writes maps that hold nothing but the user, which needs no help from outside. A map that is there already stays: it
/// can be written only once.
pub(super) fn write_single(uid: Uid, gid: Gid) -> io::Result<()> {
    let empty = |path| fs::read_to_string(path).map(|text| text.is_empty());
    if empty("/proc/self/uid_map")? {
        fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
    }
    if empty("/proc/self/gid_map")? {
        // Without this the kernel refuses a gid map from an ordinary user: dropping a group could grant access.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    Ok(())
}

/// How many ids a map file (`/proc/self/uid_map`) maps.
pub(super) fn mapped(text: &str) -> u64 {
    text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// Whether so many ids are enough for every owner an image has.
pub(super) const fn is_full(mapped: u64) -> bool {
    mapped >= FULL_RANGE
}

/// Whether a map is the one of the first namespace, in which every id is itself.
pub(super) const fn is_initial(mapped: u64) -> bool {
    mapped == u32::MAX as u64
}

fn ranges(text: &str, name: Option<&str>, uid: Uid) -> Option<Vec<Range>> {
    let number = uid.as_raw().to_string();
    let found: Vec<Range> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let account = fields.next()?;
            let start = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            (Some(account) == name || account == number).then_some(Range { start, count })
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

fn account_name(uid: Uid) -> Option<String> {
    let number = uid.as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ranges_by_name_and_by_number() {
        let text = "alice:100000:65536\n# note\nbob:165536:65536\n1000:300000:10\nbroken:1\n";
        let uid = Uid::from_raw(1000);
        let found = ranges(text, Some("alice"), uid);
        assert_eq!(found, Some(vec![Range { start: 100_000, count: 65_536 }, Range { start: 300_000, count: 10 }]));
        assert_eq!(ranges(text, Some("carol"), Uid::from_raw(7)), None);
    }

    #[test]
    fn tells_maps_apart() {
        assert!(is_initial(mapped("         0          0 4294967295\n")));
        assert_eq!(mapped("0 1000 1\n1 100000 65536\n"), 65_537);
        assert!(is_full(mapped("0 1000 1\n1 100000 65536\n")));
        assert!(!is_full(mapped("0 1000 1\n")));
    }
}
