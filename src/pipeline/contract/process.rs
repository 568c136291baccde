//! The processes of a container, as `/proc` of this machine shows them. Spec: `proc(5)`, `user_namespaces(7)`.

use std::fs;

use engine::embedded::container::process_namespace;
use engine::embedded::sandbox::Process;

use super::container::Ids;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its arguments, with spaces between them.
    pub(super) command: String,
    /// Real, effective, saved and filesystem ids, as its own namespace numbers them.
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
    /// The environment it was started with; none where it cannot be looked at.
    pub(super) environment: Vec<u8>,
}

impl Seen {
    /// Whether it runs as this user and nobody else.
    pub(super) fn is(&self, ids: Ids) -> bool {
        let all = |found: &[u32], wanted| !found.is_empty() && found.iter().all(|id| *id == wanted);
        all(&self.uids, ids.uid) && all(&self.gids, ids.gid)
    }

    /// The program's name, for messages.
    pub(super) fn name(&self) -> &str {
        self.command.split(' ').next().unwrap_or_default()
    }
}

/// All processes that are in one namespace with `first`, in no order. None at all where they cannot be looked at.
pub(super) fn beside(first: Process) -> Vec<Seen> {
    let Ok(namespace) = process_namespace(first) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let here = numbers.filter(|number| process_namespace(Process(*number)).is_ok_and(|other| other == namespace));
    // A process may end while it is looked at.
    here.filter_map(look).collect()
}

fn look(number: i32) -> Option<Seen> {
    let read = |name: &str| fs::read(format!("/proc/{number}/{name}")).ok();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let ids = |key: &str, map: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let inside = own_ids(number, map);
        line.split_whitespace().filter_map(|id| id.parse().ok()).map(inside).collect()
    };
    let command = String::from_utf8_lossy(&read("cmdline")?).trim_end_matches('\0').replace('\0', " ");
    // What has no arguments is on its way out.
    (!command.is_empty()).then(|| Seen {
        command,
        uids: ids("Uid:", "uid_map"),
        gids: ids("Gid:", "gid_map"),
        environment: read("environ").unwrap_or_default(),
    })
}

/// From ids as this process sees them to those a process sees itself.
fn own_ids(number: i32, map: &str) -> impl Fn(u32) -> u32 + use<> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let map = match namespace("self") == namespace(&number.to_string()) {
        // Then the map says what they are outside of both.
        true => String::new(),
        false => fs::read_to_string(format!("/proc/{number}/{map}")).unwrap_or_default(),
    };
    move |id| translate(&map, id)
}

/// Lines of a map are `inside outside count`.
fn translate(map: &str, id: u32) -> u32 {
    let ranges = map.lines().filter_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        <[u32; 3]>::try_from(numbers).ok()
    });
    let inside = |[inside, outside, count]: [u32; 3]| {
        id.checked_sub(outside).filter(|offset| *offset < count).and_then(|offset| inside.checked_add(offset))
    };
    ranges.filter_map(inside).next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_the_process_sees() {
        assert_eq!(translate("", 7), 7);
        assert_eq!(translate("      1000          0          1\n", 0), 1000);
        assert_eq!(translate("0 100000 65536\n", 101_000), 1000);
        assert_eq!(translate("0 100000 65536\n", 5), 5);
    }

    #[test]
    fn one_foreign_id_is_enough() {
        let seen = |uids: &[u32]| Seen {
            command: "/bin/x -y".to_owned(),
            uids: uids.to_vec(),
            gids: vec![1000; 4],
            environment: Vec::new(),
        };
        let ids = Ids { uid: 1000, gid: 1000 };
        assert!(seen(&[1000; 4]).is(ids));
        assert!(!seen(&[1000, 0, 1000, 1000]).is(ids));
        assert!(!seen(&[]).is(ids), "what cannot be seen does not count");
        assert_eq!(seen(&[]).name(), "/bin/x");
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).expect("numbers of processes are small");
        let found = beside(Process(own));
        assert!(found.iter().any(|seen| !seen.environment.is_empty() && seen.uids.len() == 4), "{found:?}");
    }
}
