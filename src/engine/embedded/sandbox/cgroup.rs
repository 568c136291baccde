//! Limits on a step's memory and processes, where this process may make control groups. Spec: Linux
//! `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst`.

use std::fs;
use std::path::{Path, PathBuf};

use super::spec::Limits;

const ROOT: &str = "/sys/fs/cgroup";

/// A step's control groups; removed when dropped, which must be after the step has ended.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes the groups these limits need. A limit that cannot be set here is no limit.
    pub(super) fn make(name: &str, limits: &Limits) -> Self {
        let wanted = [("memory", limits.memory), ("pids", limits.processes)];
        let wanted: Vec<(&str, u64)> = wanted.into_iter().filter_map(|(kind, limit)| Some((kind, limit?))).collect();
        if wanted.is_empty() {
            return Self::default();
        }
        let mut groups = Self::default();
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            groups.add_unified(name, &wanted);
        } else {
            for (kind, limit) in wanted {
                groups.add_separate(name, kind, limit);
            }
        }
        groups
    }

    /// The files to write a process's number into.
    pub(super) fn process_files(&self) -> Vec<PathBuf> {
        self.0.iter().map(|group| group.join("cgroup.procs")).collect()
    }

    /// Whether the kernel ended a process of the step for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let counted = |file: &str, group: &PathBuf| {
            let text = fs::read_to_string(group.join(file)).unwrap_or_default();
            text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
        };
        self.0.iter().any(|group| counted("memory.events", group) || counted("memory.oom_control", group))
    }

    fn add_unified(&mut self, name: &str, wanted: &[(&str, u64)]) {
        let parent = Path::new(ROOT).join("clawbuild");
        let group = parent.join(name);
        for (kind, _) in wanted {
            let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), format!("+{kind}"));
        }
        if fs::create_dir_all(&parent).is_err() {
            return;
        }
        for (kind, _) in wanted {
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{kind}"));
        }
        if fs::create_dir(&group).is_err() {
            return;
        }
        for (kind, limit) in wanted {
            let _ = fs::write(group.join(format!("{kind}.max")), limit.to_string());
        }
        self.0.push(group);
    }

    fn add_separate(&mut self, name: &str, kind: &str, limit: u64) {
        let group = Path::new(ROOT).join(kind).join("clawbuild").join(name);
        if fs::create_dir_all(&group).is_err() {
            return;
        }
        let file = if kind == "memory" { "memory.limit_in_bytes" } else { "pids.max" };
        let _ = fs::write(group.join(file), limit.to_string());
        self.0.push(group);
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            // A group can be busy for a moment after its last process has ended; an empty one left over is harmless.
            let _ = fs::remove_dir(group);
        }
    }
}
