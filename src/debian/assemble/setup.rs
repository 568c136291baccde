//! What maintainer scripts of the base system do that is nobody else's task here.

use std::collections::BTreeMap;

use super::error::AssembleError;
use super::options::{BaseOptions, Database};
use super::path::TreePath;
use super::tree::{NodeKind, Ownership, Tree};

/// glibc's order without the file asks the network before `/etc/hosts`.
const NSSWITCH: &str = "\
passwd:    files
group:     files
shadow:    files
hosts:     files dns
networks:  files
protocols: files
services:  files
";

/// Directories that base-files makes, with mode and group.
const DIRECTORIES: [(&str, u32, u32); 20] = [
    ("mnt", 0o755, 0),
    ("srv", 0o755, 0),
    ("opt", 0o755, 0),
    ("media", 0o755, 0),
    ("etc/opt", 0o755, 0),
    ("var/opt", 0o755, 0),
    ("var/mail", 0o2775, MAIL),
    ("run/lock", 0o1777, 0),
    ("usr/local", 0o755, 0),
    ("usr/local/share", 0o755, 0),
    ("usr/local/share/man", 0o755, 0),
    ("usr/local/bin", 0o755, 0),
    ("usr/local/games", 0o755, 0),
    ("usr/local/lib", 0o755, 0),
    ("usr/local/libexec", 0o755, 0),
    ("usr/local/include", 0o755, 0),
    ("usr/local/sbin", 0o755, 0),
    ("usr/local/src", 0o755, 0),
    ("usr/local/etc", 0o755, 0),
    ("home", 0o755, 0),
];
/// Groups by the numbers Debian has fixed for them.
const MAIL: u32 = 8;
const UTMP: u32 = 43;

/// Sets up what base-files, libc-bin, debianutils and tzdata set up in their postinst, where this layer has them.
pub(super) fn set_up(
    tree: &mut Tree<'_>,
    options: &BaseOptions,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), AssembleError> {
    if tree.has_file("usr/share/base-files/profile") {
        base_files(tree, options);
    }
    // libc-bin has it today, base-files had it before.
    for directory in ["libc-bin", "base-files"] {
        tree.copy_default(&format!("usr/share/{directory}/nsswitch.conf"), "etc/nsswitch.conf");
    }
    if has_libc(tree) && !tree.exists("etc/nsswitch.conf") {
        tree.put_file("etc/nsswitch.conf", NSSWITCH, Ownership::root(0o644));
    }
    shells(tree, texts)?;
    time_zone(tree, options);
    Ok(())
}

fn base_files(tree: &mut Tree<'_>, options: &BaseOptions) {
    for (path, mode, gid) in DIRECTORIES {
        tree.put_directory(path, Ownership { mode, uid: 0, gid });
    }
    for (from, to) in [
        ("dot.profile", "root/.profile"),
        ("dot.bashrc", "root/.bashrc"),
        ("profile", "etc/profile"),
        ("motd", "etc/motd"),
    ] {
        tree.copy_default(&format!("usr/share/base-files/{from}"), to);
    }
    if tree.exists("usr/share/info") {
        tree.copy_default("usr/share/base-files/info.dir", "usr/share/info/dir");
    }
    for (path, mode) in [("wtmp", 0o664), ("btmp", 0o660), ("lastlog", 0o664)] {
        let path = format!("var/log/{path}");
        if !tree.exists(&path) {
            tree.put_file(&path, "", Ownership { mode, uid: 0, gid: UTMP });
        }
    }
    for (path, target) in [
        ("var/run", "/run"),
        ("var/lock", "/run/lock"),
        ("var/spool/mail", "../mail"),
        ("etc/dpkg/origins/default", "debian"),
    ] {
        tree.put_link(path, target);
    }
    // base-files' own script, where it is still to run, would put the link into the directory the link leads to.
    if options.database != Database::Unconfigured {
        tree.put_link("usr/local/man", "share/man");
    }
}

/// Whether this layer brings glibc, which tells the loader where Debian keeps libraries.
fn has_libc(tree: &Tree<'_>) -> bool {
    tree.below_directory(&TreePath::from("etc/ld.so.conf.d")).next().is_some()
}

/// `/etc/shells` from what the shells' packages say of themselves, each with the path it really lies at.
fn shells(tree: &mut Tree<'_>, texts: &mut BTreeMap<String, String>) -> Result<(), AssembleError> {
    const SHELLS: &str = "etc/shells";
    let directory = TreePath::from("usr/share/debianutils/shells.d");
    let fragments = tree.below_directory(&directory).filter(|(_, node)| matches!(node.kind, NodeKind::File(_)));
    let mut sources: Vec<String> = fragments.map(|(path, _)| path.as_str().to_owned()).collect();
    sources.insert(0, "usr/share/debianutils/shells".to_owned());
    let before = texts.get(SHELLS).cloned().unwrap_or_default();
    let mut text = before.clone();
    for source in sources {
        for line in tree.read_text(&source)?.unwrap_or_default().lines() {
            let real = line.starts_with('/').then(|| tree.canonical(&line.into()).to_string());
            for line in [Some(line.to_owned()), real].into_iter().flatten() {
                if !text.lines().any(|known| known == line) {
                    text += &line;
                    text.push('\n');
                }
            }
        }
    }
    if text != before {
        tree.put_file(SHELLS, text.as_bytes(), Ownership::root(0o644));
        texts.insert(SHELLS.to_owned(), text);
    }
    Ok(())
}

fn time_zone(tree: &mut Tree<'_>, options: &BaseOptions) {
    let zone = options.timezone.as_deref().unwrap_or("Etc/UTC");
    let path = format!("/usr/share/zoneinfo/{zone}");
    if tree.has_file(&path) {
        tree.put_link("etc/localtime", &path);
        if options.timezone.is_some() {
            tree.put_file("etc/timezone", format!("{zone}\n"), Ownership::root(0o644));
        }
    }
}
