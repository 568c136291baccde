use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use diag::{Reported, codes};
use oci::layer::tar::{Entry, Kind};
use proptest::prelude::*;

use super::*;
use crate::fixture::{Package, read_tar};

const EPOCH: i64 = 1_000_000;

/// A place for packages, and how to assemble them.
struct Bench {
    directory: tempfile::TempDir,
    options: BaseOptions,
}

type Layer = (Installed, Vec<u8>);

impl Bench {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), options: BaseOptions::default() }
    }

    fn slim() -> Self {
        Self { options: BaseOptions { filter: Filter::slim(), ..BaseOptions::default() }, ..Self::new() }
    }

    fn write(&self, packages: &[Package<'_>]) -> Vec<(LockedPackage, PathBuf)> {
        packages.iter().map(|package| package.write(self.directory.path())).collect()
    }

    fn run(
        &self,
        packages: &[(LockedPackage, PathBuf)],
        below: Option<&Installed>,
        threads: usize,
    ) -> Result<Layer, AssembleError> {
        let spool = tempfile::tempdir().unwrap();
        let assembly = Assembly {
            architecture: "amd64",
            packages,
            below,
            options: &self.options,
            epoch: EPOCH,
            spool: spool.path(),
            threads: NonZeroUsize::new(threads).unwrap(),
            progress: None,
        };
        let result = assemble(&assembly, Vec::new());
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "the spool is left empty");
        result
    }

    fn assemble(&self, packages: &[Package<'_>]) -> Result<Layer, AssembleError> {
        self.run(&self.write(packages), None, 2)
    }
}

fn fields(name: &str, more: &str) -> String {
    format!("Package: {name}\nVersion: 1\nArchitecture: amd64\n{more}Description: test\n")
}

/// A layer as `path kind content-or-target` lines, without dpkg's database and what is always there.
fn shape(layer: &[u8]) -> Vec<String> {
    let quiet = |path: &str| {
        path.starts_with("var") || path == "etc" || path.starts_with("etc/passwd") || path.starts_with("etc/group")
    };
    let shown =
        read_tar(layer).into_iter().filter(|(entry, _)| !quiet(&entry.display_path())).map(|(entry, content)| {
            let path = entry.display_path();
            match entry.kind {
                Kind::Directory => format!("{path}/"),
                Kind::File { .. } => format!("{path} {content}"),
                Kind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(&target)),
                Kind::HardLink { target } => format!("{path} = {}", String::from_utf8_lossy(&target)),
                other => format!("{path} {other:?}"),
            }
        });
    shown.collect()
}

fn text<'l>(layer: &'l BTreeMap<String, String>, path: &str) -> &'l str {
    layer.get(path).map_or("", String::as_str)
}

fn files(layer: &[u8]) -> BTreeMap<String, String> {
    read_tar(layer).into_iter().map(|(entry, content)| (entry.display_path(), content)).collect()
}

fn file(path: &str) -> Entry {
    Entry::file(path, 0).with_mtime(5)
}

#[test]
fn the_bytes_depend_on_the_packages_alone() {
    let bench = Bench::new();
    let names: Vec<String> = ["a", "base-files", "c", "d"].iter().map(|name| fields(name, "")).collect();
    let big = vec![b'x'; 300_000];
    let packages = [
        Package::new(
            &names[0],
            vec![(Entry::directory("usr").with_mode(0o700), b""), (file("usr/a-b"), b"1"), (file("usr/a/x"), &big)],
        ),
        Package::new(&names[1], vec![(Entry::directory("usr").with_mode(0o711).with_owner(1, 2).with_mtime(9), b"")]),
        Package::new(
            &names[2],
            vec![(file("usr/a/y").with_mode(0o4755).with_owner(0, 42).with_mtime(EPOCH * 2), b"3")],
        ),
        Package::new(&names[3], vec![(Entry::directory("usr"), b"")]),
    ];
    let mut written = bench.write(&packages);
    let (installed, layer) = bench.run(&written, None, 1).unwrap();
    for threads in [2, 5] {
        written.rotate_left(1);
        assert_eq!(bench.run(&written, None, threads).unwrap(), (installed.clone(), layer.clone()));
    }
    let entries = read_tar(&layer);
    let at = |path: &str| entries.iter().position(|(entry, _)| entry.path == path.as_bytes()).unwrap();
    assert!(
        at("usr") < at("usr/a") && at("usr/a") < at("usr/a/x") && at("usr/a/y") < at("usr/a-b"),
        "in the order of a walk"
    );
    let usr = &entries[at("usr")].0;
    assert_eq!((usr.mode, usr.uid, usr.gid, usr.mtime), (0o711, 1, 2, 9), "base-files says how shared directories are");
    let y = &entries[at("usr/a/y")].0;
    assert_eq!((y.mode, y.gid, y.mtime), (0o4755, 42, EPOCH), "setuid is kept, the future is not");
    assert_eq!(entries[at("usr/a")].0.mode, 0o755, "a directory nobody declares");
}

#[test]
fn paths_lead_through_links_of_other_packages() {
    let bench = Bench::new();
    let names = ["a", "b", "c"].map(|name| fields(name, ""));
    let layer = bench
        .assemble(&[
            Package::new(
                &names[0],
                vec![(Entry::directory("lib"), b""), (file("lib/one"), b"1"), (file("usr/lib/two"), b"2")],
            ),
            Package::new(
                &names[1],
                vec![
                    (Entry::directory("srv/data"), b""),
                    (file("srv/data/x"), b"3"),
                    (Entry::symlink("bin", "usr/bin"), b""),
                    (file("bin/sh"), b"4"),
                ],
            ),
            Package::new(
                &names[2],
                vec![(Entry::symlink("srv/data", "../opt/./data"), b""), (Entry::symlink("opt/data", "/../real"), b"")],
            ),
        ])
        .unwrap();
    let expected = [
        "bin -> usr/bin",
        "lib -> usr/lib",
        "opt/",
        "opt/data -> /../real",
        "real/",
        "real/x 3",
        "srv/",
        "srv/data -> ../opt/./data",
        "usr/",
        "usr/bin/",
        "usr/bin/sh 4",
        "usr/lib/",
        "usr/lib/one 1",
        "usr/lib/two 2",
    ];
    assert_eq!(shape(&layer.1), expected);
}

#[test]
fn circles_of_links_end() {
    let bench = Bench::new();
    let name = fields("a", "");
    let entries = vec![
        (Entry::symlink("x", "y"), &b""[..]),
        (Entry::symlink("y", "x"), b""),
        (file("x/in"), b"1"),
        (Entry::symlink("s", "."), b""),
        (file("s/s/s/t"), b"2"),
    ];
    let error = bench.assemble(&[Package::new(&name, entries)]).unwrap_err();
    assert_eq!(error.to_string(), "package `a:amd64 1` has something inside what is no directory at `/x/in`");
}

#[test]
fn one_path_belongs_to_one_package_unless_it_is_replaced() {
    let bench = Bench::new();
    let with = |more: [&str; 2], contents: [&'static [u8]; 2]| {
        let fields = [fields("a", more[0]), fields("b", more[1])];
        let entry = |at: usize| vec![(file("f"), contents[at])];
        bench.assemble(&[Package::new(&fields[0], entry(0)), Package::new(&fields[1], entry(1))])
    };
    let error = with(["", ""], [b"1", b"1"]).unwrap_err();
    assert_eq!(error.diagnostic().code, codes::debian::FILE_CONFLICT);
    assert_eq!(error.to_string(), "`/f` is in both `a` and `b:amd64 1`");
    assert_eq!(shape(&with(["", "Replaces: a (<< 2)\n"], [b"1", b"2"]).unwrap().1), ["f 2"]);
    assert_eq!(shape(&with(["Replaces: b\n", ""], [b"1", b"2"]).unwrap().1), ["f 1"]);
    assert!(with(["", "Replaces: a (<< 1)\n"], [b"1", b"2"]).is_err());
    assert_eq!(shape(&with(["Provides: v\n", "Replaces: v\n"], [b"1", b"2"]).unwrap().1), ["f 2"]);

    let shared = |contents: [&'static [u8]; 2]| {
        let fields = [fields("l", "Multi-Arch: same\n"), fields("l", "Multi-Arch: same\n").replace("amd64", "arm64")];
        let package = |at: usize| Package::new(&fields[at], vec![(file("f"), contents[at])]);
        bench.assemble(&[package(0), package(1)])
    };
    let (_, layer) = shared([b"1", b"1"]).unwrap();
    assert_eq!(shape(&layer), ["f 1"]);
    assert_eq!(text(&files(&layer), "var/lib/dpkg/arch"), "amd64\narm64\n");
    assert!(shared([b"1", b"2"]).is_err());
}

#[test]
fn nothing_lies_in_a_file() {
    let bench = Bench::new();
    let names = [fields("a", ""), fields("b", "")];
    let packages =
        [Package::new(&names[0], vec![(file("d"), b"1")]), Package::new(&names[1], vec![(file("d/x"), b"2")])];
    assert!(matches!(bench.assemble(&packages), Err(AssembleError::Entry { .. })));
}

#[test]
fn a_file_does_not_take_a_directorys_place() {
    let bench = Bench::new();
    let names = [fields("a", ""), fields("b", "Replaces: a\n")];
    let packages = [
        Package::new(&names[0], vec![(Entry::directory("d"), b""), (file("d/x"), b"1")]),
        Package::new(&names[1], vec![(file("d"), b"2")]),
    ];
    assert!(matches!(bench.assemble(&packages), Err(AssembleError::FileConflict { .. })));
}

#[test]
fn what_is_filtered_leaves_no_empty_directories_and_no_broken_links() {
    let bench = Bench::slim();
    let name = fields("a", "");
    let entries = vec![
        (Entry::directory("usr/share/doc/a"), &b""[..]),
        (file("usr/share/doc/a/copyright"), b"free"),
        (file("usr/share/doc/a/README"), b"big"),
        (Entry::directory("usr/share/man/man1"), b""),
        (file("usr/share/man/man1/a.1"), b"page"),
        (Entry::hard_link("usr/share/a/page", "usr/share/man/man1/a.1"), b""),
        (Entry::hard_link("usr/share/a/page2", "usr/share/man/man1/a.1"), b""),
        (Entry::directory("usr/share/empty"), b""),
    ];
    let (_, layer) = bench.assemble(&[Package::new(&name, entries)]).unwrap();
    let expected = [
        "usr/",
        "usr/share/",
        "usr/share/a/",
        "usr/share/a/page page",
        "usr/share/a/page2 = usr/share/a/page",
        "usr/share/doc/",
        "usr/share/doc/a/",
        "usr/share/doc/a/copyright free",
        "usr/share/empty/",
    ];
    assert_eq!(shape(&layer), expected);
    assert!(text(&files(&layer), "var/lib/dpkg/info/a.list").contains("/usr/share/doc/a/README\n"), "as dpkg has it");
}

#[test]
fn packages_that_are_not_what_they_should_be_are_refused() {
    let bench = Bench::new();
    let name = fields("a", "");
    let code = |entries| bench.assemble(&[Package::new(&name, entries)]).unwrap_err().diagnostic().code;
    let device = Entry { kind: Kind::CharDevice(oci::layer::tar::Device { major: 1, minor: 3 }), ..file("dev/null") };
    assert_eq!(code(vec![(device, &b""[..])]), codes::debian::PACKAGE);
    assert_eq!(code(vec![(Entry { kind: Kind::Fifo, ..file("f") }, &b""[..])]), codes::debian::PACKAGE);
    assert_eq!(code(vec![(Entry::hard_link("f", "g"), &b""[..])]), codes::debian::PACKAGE);
    assert_eq!(
        code(vec![(file(std::str::from_utf8(b"x").unwrap()), &b""[..]), (Entry::file(b"\xff".to_vec(), 0), b"")]),
        codes::debian::PACKAGE
    );

    let mut written = bench.write(&[Package::new(&name, vec![(file("f"), b"1")])]);
    written[0].0.sha256 = oci::Digest::of(b"another");
    assert!(matches!(bench.run(&written, None, 1), Err(AssembleError::Digest { .. })));
    written[0].0.version = "2".to_owned();
    assert!(matches!(bench.run(&written, None, 1), Err(AssembleError::Identity { .. })));
    written[0].1 = bench.directory.path().join("missing.deb");
    assert_eq!(bench.run(&written, None, 1).unwrap_err().diagnostic().code, codes::debian::IO);
}

#[test]
fn users_groups_and_homes() {
    let mut bench = Bench::new();
    bench.options.users.push(User {
        name: "node".to_owned(),
        id: 1000,
        home: "/home/node".to_owned(),
        shell: "/bin/sh".to_owned(),
    });
    let name = fields("base-passwd", "");
    let entries = vec![
        (file("usr/share/base-passwd/passwd.master"), &b"root:*:0:0:root:/root:/bin/bash\n"[..]),
        (file("usr/share/base-passwd/group.master"), b"root:*:0:\n"),
    ];
    let (installed, layer) = bench.assemble(&[Package::new(&name, entries)]).unwrap();
    let files_ = files(&layer);
    assert_eq!(text(&files_, "etc/passwd"), "root:*:0:0:root:/root:/bin/bash\nnode:*:1000:1000::/home/node:/bin/sh\n");
    assert_eq!(text(&files_, "etc/group"), "root:*:0:\nnode:*:1000:\n");
    let home = read_tar(&layer).into_iter().find(|(entry, _)| entry.path == b"home/node").unwrap().0;
    assert_eq!((home.uid, home.gid, home.mode), (1000, 1000, 0o755));

    // The same user again in a layer above changes nothing; another one keeps those below.
    let (_, above) = bench.run(&[], Some(&installed), 1).unwrap();
    assert!(!files(&above).contains_key("etc/passwd"));
    bench.options.users[0] = User { name: "claw".to_owned(), id: 1001, ..bench.options.users[0].clone() };
    let (_, above) = bench.run(&[], Some(&installed), 1).unwrap();
    assert!(
        text(&files(&above), "etc/passwd")
            .ends_with("node:*:1000:1000::/home/node:/bin/sh\nclaw:*:1001:1001::/home/node:/bin/sh\n")
    );
    bench.options.users[0].id = 1000;
    assert_eq!(bench.run(&[], Some(&installed), 1).unwrap_err().diagnostic().code, codes::debian::USER);
}

#[test]
fn a_second_layer_knows_the_first() {
    let bench = Bench::new();
    let names =
        [fields("a", "Provides: v\n"), fields("b", "Depends: a\n"), fields("c", ""), fields("d", "Replaces: v\n")];
    let below = bench.write(&[Package::new(
        &names[0],
        vec![
            (Entry::directory("usr").with_mode(0o750).with_owner(3, 4).with_mtime(7), b""),
            (file("usr/f"), b"1"),
            (Entry::symlink("data", "usr/data"), b""),
        ],
    )]);
    let (installed, _) = bench.run(&below, None, 1).unwrap();
    let installed: Installed = serde_json::from_str(&serde_json::to_string(&installed).unwrap()).unwrap();

    let above = bench.write(&[Package::new(
        &names[1],
        vec![(Entry::directory("usr"), b""), (Entry::directory("data"), b""), (file("data/x"), b"2")],
    )]);
    let (both, layer) = bench.run(&above, Some(&installed), 1).unwrap();
    assert_eq!(shape(&layer), ["usr/", "usr/data/", "usr/data/x 2"]);
    let usr = read_tar(&layer).into_iter().find(|(entry, _)| entry.path == b"usr").unwrap().0;
    assert_eq!((usr.mode, usr.uid, usr.gid, usr.mtime), (0o750, 3, 4, 7), "directories below are repeated as they are");
    let files_ = files(&layer);
    let status = text(&files_, "var/lib/dpkg/status");
    assert!(status.contains("Package: a\n") && status.contains("Package: b\n"), "{status}");
    assert!(!files_.contains_key("var/lib/dpkg/info/a.list") && files_.contains_key("var/lib/dpkg/info/b.list"));
    assert_eq!(both.locked().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let again = bench.run(&below, Some(&installed), 1).unwrap_err();
    assert_eq!(again.diagnostic().code, codes::debian::BELOW);
    let clash = bench.write(&[Package::new(&names[2], vec![(file("usr/f"), b"3")])]);
    assert_eq!(
        bench.run(&clash, Some(&installed), 1).unwrap_err().to_string(),
        "`/usr/f` is in both `a` and `c:amd64 1`"
    );
    let replacing = bench.write(&[Package::new(&names[3], vec![(file("usr/f"), b"4")])]);
    assert_eq!(shape(&bench.run(&replacing, Some(&installed), 1).unwrap().1), ["usr/", "usr/f 4"]);
}

#[test]
fn what_scripts_would_have_done_is_done() {
    let mut bench = Bench::slim();
    bench.options.database = Database::Full;
    let names = ["base-files", "mawk", "tzdata", "ca-certificates", "bash", "libc6"].map(|name| fields(name, ""));
    let postinst = [(
        "postinst",
        "#!/bin/sh\nupdate-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz\n",
    )];
    let (_, layer) = bench
        .assemble(&[
            Package::new(
                &names[0],
                vec![
                    (file("usr/share/base-files/profile"), b"profile"),
                    (Entry::directory("var/run"), b""),
                    (Entry::directory("var/lock"), b""),
                ],
            ),
            Package::new(&names[1], vec![(file("usr/bin/mawk"), b""), (file("usr/share/man/man1/mawk.1.gz"), b"")])
                .with_control(&postinst),
            Package::new(&names[2], vec![(file("usr/share/zoneinfo/Etc/UTC"), b"TZif")]),
            Package::new(
                &names[3],
                vec![
                    (file("usr/share/ca-certificates/m/B.crt"), b"b"),
                    (file("usr/share/ca-certificates/m/A x.crt"), b"a\n"),
                ],
            ),
            Package::new(
                &names[4],
                vec![
                    (file("usr/share/debianutils/shells"), b"# shells\n/bin/sh\n"),
                    (file("usr/share/debianutils/shells.d/bash"), b"/bin/bash\n"),
                    (Entry::symlink("bin", "usr/bin"), b""),
                    (file("usr/bin/bash"), b""),
                ],
            ),
            Package::new(&names[5], vec![(file("etc/ld.so.conf.d/x.conf"), b"/lib\n")]),
        ])
        .unwrap();
    let found = files(&layer);
    let link = |path: &str| match read_tar(&layer)
        .into_iter()
        .find(|(entry, _)| entry.path == path.as_bytes())
        .map(|(entry, _)| entry.kind)
    {
        Some(Kind::Symlink { target }) => String::from_utf8(target).unwrap(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(
        (link("usr/bin/awk"), link("etc/alternatives/awk")),
        ("/etc/alternatives/awk".to_owned(), "/usr/bin/mawk".to_owned())
    );
    assert!(!found.contains_key("etc/alternatives/awk.1.gz"), "its page was left out");
    assert_eq!(link("etc/localtime"), "/usr/share/zoneinfo/Etc/UTC");
    assert_eq!(text(&found, "etc/ssl/certs/ca-certificates.crt"), "a\nb\n");
    assert_eq!(link("etc/ssl/certs/A_x.pem"), "/usr/share/ca-certificates/m/A x.crt");
    assert!(text(&found, "etc/ca-certificates.conf").ends_with("m/A x.crt\nm/B.crt\n"));
    assert_eq!(text(&found, "etc/shells"), "# shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n");
    assert_eq!((link("var/run"), text(&found, "etc/profile")), ("/run".to_owned(), "profile"));
    assert!(text(&found, "etc/nsswitch.conf").contains("hosts:     files dns\n"));
    assert_eq!(text(&found, "var/lib/dpkg/info/mawk.postinst"), postinst[0].1);
    assert!(found.contains_key("var/lib/dpkg/alternatives/awk"));

    // Caches take layers for equal while this stands: whoever changes the bytes changes both lines.
    assert_eq!(IDENTITY, "debian assembler 2");
    assert_eq!(oci::Digest::of(&layer).hex(), "ddb3d4f7d8376b79f8c4d6cea624891304ed88ec80c00c8aa647d59a8ae33821");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever packages hold, assembling ends, and a layer is in order and closed under parents.
    #[test]
    fn layers_are_always_well_formed(entries in prop::collection::vec(("[ab](/[ab.]{1,2}){0,3}", 0..4u8, "(/|[.][.]/)?[ab](/[ab])?"), 0..12)) {
        let bench = Bench::slim();
        let name = fields("p", "");
        let normal = |path: &str| !path.split('/').any(|part| matches!(part, "." | ".."));
        let entries = entries.iter().filter(|(path, _, _)| normal(path)).map(|(path, kind, target)| {
            let target = target.as_str();
            let entry = match kind {
                0 => Entry::directory(path.as_str()),
                1 => Entry::symlink(path.as_str(), target),
                2 if normal(target) && !target.starts_with('/') => Entry::hard_link(path.as_str(), target),
                _ => file(path),
            };
            (entry, &b"content"[..])
        });
        if let Ok((_, layer)) = bench.assemble(&[Package::new(&name, entries.collect())]) {
            let entries = read_tar(&layer);
            let order: Vec<path::TreePath> = entries.iter().map(|(entry, _)| entry.display_path().as_str().into()).collect();
            prop_assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
            for path in &order {
                let parent = path.parent();
                let is_directory = |(at, (entry, _)): (&path::TreePath, &(Entry, String))| *at == parent && entry.kind == Kind::Directory;
                prop_assert!(parent.is_root() || order.iter().zip(&entries).any(is_directory), "{path} in {order:?}");
            }
        }
    }
}
