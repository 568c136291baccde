//! Podman, with nothing of the machine's own around it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Storage and settings of a test's own. Needs [`crate::Capability::Podman`].
#[derive(Clone, Debug)]
pub struct Podman {
    directory: PathBuf,
}

impl Podman {
    /// Writes the settings into `directory`, which must be there. Containers are run by runc, in cgroups that nobody
    /// else manages.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn new(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        // Where even root may not raise limits, podman's own defaults are too high.
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"{}\"\ntmp_dir = \"{}\"\n",
            crate::tool("runc").display(),
            path("tmp")
        );
        fs::write(path("containers.conf"), settings).unwrap();
        let storage = "[storage]\ndriver = \"vfs\"\n";
        let storage = format!("{storage}graphroot = \"{}\"\nrunroot = \"{}\"\n", path("storage"), path("run"));
        fs::write(path("storage.conf"), storage).unwrap();
        for name in ["usr", "etc", "tmp", "proc", "sys", "dev", "run", "var/lib/buildkit", "tools"] {
            fs::create_dir_all(directory.join("rootfs").join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), directory.join("rootfs").join(name)).unwrap();
        }
        Self { directory: directory.to_owned() }
    }

    /// What tells podman of them, whoever runs it.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        let path = |name: &str| self.directory.join(name);
        [("CONTAINERS_CONF", path("containers.conf")), ("CONTAINERS_STORAGE_CONF", path("storage.conf"))]
    }

    /// Its program.
    pub fn command(&self) -> Command {
        let mut command = Command::new(crate::tool("podman"));
        command.envs(self.variables());
        command
    }

    /// A root for containers that have the machine's `/usr` mounted.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }
}
