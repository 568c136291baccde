//! How a root filesystem is to be made.

use super::filter::Filter;

/// Everything about a root filesystem that packages do not say.
#[derive(Clone, Debug)]
pub struct BaseOptions {
    /// Files of packages that are left out.
    pub filter: Filter,
    /// Whether `/bin`, `/sbin` and `/lib*` are links into `/usr`, as Debian has it since 12.
    pub merged_usr: bool,
    /// Users added to those of the packages.
    pub users: Vec<User>,
    /// The time zone, such as `Europe/Berlin`; without it, UTC where tzdata is there.
    pub timezone: Option<String>,
    /// What of dpkg's database is written.
    pub database: Database,
}

impl Default for BaseOptions {
    /// All files of the packages, merged-usr, no users, UTC, a database to read.
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            merged_usr: true,
            users: Vec::new(),
            timezone: None,
            database: Database::default(),
        }
    }
}

/// What of dpkg's database is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// Nothing: scanners will not see any packages.
    Absent,
    /// What `dpkg -l`, `dpkg -L` and scanners read: status, file lists, checksums.
    #[default]
    Listing,
    /// Maintainer scripts and triggers too, so that dpkg and apt can go on from there.
    Full,
    /// As `Full`, with the packages of this layer marked as unpacked only: `dpkg --configure -a`, run in a sandbox,
    /// runs their scripts.
    Unconfigured,
}

/// A user to add, with a group of the same name and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The user's and the group's number.
    pub id: u32,
    /// The home directory, absolute. It is made, mode 0755 and the user's own.
    pub home: String,
    /// The login shell, absolute.
    pub shell: String,
}
