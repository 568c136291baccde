//! LLB capabilities: what a daemon must know to execute an op as meant. Spec: BuildKit `solver/pb/caps.go`.

use std::fmt;

macro_rules! caps {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// One capability. Recorded per vertex, so that a daemon without it refuses instead of ignoring a field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cap {
            $($(#[$doc])* $name,)*
        }

        impl Cap {
            /// Every capability this crate can record.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The id on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// The capability with this id, if this crate knows it.
            #[must_use]
            pub fn from_id(id: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|cap| cap.as_str() == id)
            }
        }
    };
}

caps! {
    /// Images from registries.
    SourceImage = "source.image",
    /// Images from OCI layouts.
    SourceOciLayout = "source.ocilayout",
    /// Local directories.
    SourceLocal = "source.local",
    /// Local directories told apart per client.
    SourceLocalUnique = "source.local.unique",
    /// Local directories of a named session.
    SourceLocalSessionId = "source.local.sessionid",
    /// Include patterns.
    SourceLocalIncludePatterns = "source.local.includepatterns",
    /// Follow paths.
    SourceLocalFollowPaths = "source.local.followpaths",
    /// Exclude patterns.
    SourceLocalExcludePatterns = "source.local.excludepatterns",
    /// Named transfer caches.
    SourceLocalSharedKeyHint = "source.local.sharedkeyhint",
    /// Git commits.
    SourceGit = "source.git",
    /// Git with `.git` kept.
    SourceGitKeepDir = "source.git.keepgitdir",
    /// Git by full URL.
    SourceGitFullUrl = "source.git.fullurl",
    /// A directory of a git commit.
    SourceGitSubdir = "source.git.subdir",
    /// Files by HTTP.
    SourceHttp = "source.http",
    /// Files by HTTP with a digest.
    SourceHttpChecksum = "source.http.checksum",
    /// Files by HTTP with permission bits.
    SourceHttpPerm = "source.http.perm",
    /// Files by HTTP with an owner. The misspelling is BuildKit's.
    SourceHttpUidGid = "soruce.http.uidgid",
    /// Commands.
    ExecMetaBase = "exec.meta.base",
    /// Commands with a network mode.
    ExecMetaNetwork = "exec.meta.network",
    /// Bind mounts.
    ExecMountBind = "exec.mount.bind",
    /// Writable binds whose changes are discarded.
    ExecMountBindReadWriteNoOutput = "exec.mount.bind.readwrite-nooutput",
    /// Cache mounts.
    ExecMountCache = "exec.mount.cache",
    /// Cache mounts with a sharing mode.
    ExecMountCacheSharing = "exec.mount.cache.sharing",
    /// Mounts of a part of a tree.
    ExecMountSelector = "exec.mount.selector",
    /// Tmpfs mounts.
    ExecMountTmpfs = "exec.mount.tmpfs",
    /// Tmpfs mounts with a size.
    ExecMountTmpfsSize = "exec.mount.tmpfs.size",
    /// Secret mounts.
    ExecMountSecret = "exec.mount.secret",
    /// SSH agent mounts.
    ExecMountSsh = "exec.mount.ssh",
    /// File operations.
    FileBase = "file.base",
    /// Removing by pattern.
    FileRmWildcard = "file.rm.wildcard",
    /// Copying by patterns.
    FileCopyIncludeExcludePatterns = "file.copy.includeexcludepatterns",
    /// Copying over other file types.
    FileCopyAlwaysReplaceExistingDestPaths = "file.copy.alwaysreplaceexistingdestpaths",
    /// Symbolic links.
    FileSymlinkCreate = "file.symlink.create",
    /// Worker constraints on an op; every encoded op has the field.
    Constraints = "constraints",
    /// A platform on an op.
    Platform = "platform",
    /// Vertices that are never taken from the cache.
    MetaIgnoreCache = "meta.ignorecache",
    /// Descriptions.
    MetaDescription = "meta.description",
    /// Vertices kept out of exported caches.
    MetaExportCache = "meta.exportcache",
    /// Merge.
    MergeOp = "mergeop",
    /// Diff.
    DiffOp = "diffop",
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
