//! Against Debian's archive: signed releases, real indexes, real packages, a root filesystem that runs.
//!
//! Where the archive cannot be reached the checks are reported as ignored, with the reason, and fail if
//! `CLAWBUILD_TEST_REQUIRE` names `archive`. `CLAWBUILD_TEST_ARCHIVE` names another mirror.
#![expect(clippy::unwrap_used, reason = "this is a test with a harness of its own")]

use std::fs::{self, File};
use std::io::BufReader;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use debian::assemble::{Filter, User};
use debian::resolve::{Baseline, Request, Suite, resolve};
use debian::{Assembly, BaseOptions, Installed, Keyring, LockedPackage, PackageIndex, Release, assemble};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use oci::Digest;
use oci::layer::compress::{Compression, Decompressor, LayerWriter};
use oci::layer::tar::{Kind, Limits, TarReader};

const WANTED: [&str; 12] = [
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "grep",
    "libc-bin",
    "netbase",
    "openssl",
    "sed",
    "tzdata",
];
const EXCLUDED: [&str; 4] = ["debconf", "dpkg", "init-system-helpers", "perl-base"];
const SUITES: [(&str, &str); 3] =
    [("debian", "trixie"), ("debian", "trixie-updates"), ("debian-security", "trixie-security")];

/// One thing that must hold.
type Check = (&'static str, fn(&Archive));

fn main() {
    let arguments = Arguments::from_args();
    let checks: [Check; 4] = [
        ("releases_are_signed_by_the_keys_in_base", releases_are_signed_by_the_keys_in_base),
        ("a_base_runs_and_scanners_see_its_packages", a_base_runs_and_scanners_see_its_packages),
        ("a_layer_on_top_fits_and_runs", a_layer_on_top_fits_and_runs),
        ("another_architecture_is_assembled_here", another_architecture_is_assembled_here),
    ];
    let trials = checks.map(|(name, check)| {
        Trial::ignorable_test(name, move || match archive() {
            Ok(archive) => {
                check(archive);
                Ok(Completion::Completed)
            }
            Err(reason) if is_required("archive") => Err(Failed::from(format!("required, but {reason}"))),
            Err(reason) => Ok(Completion::ignored_with(reason)),
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn is_required(name: &str) -> bool {
    std::env::var("CLAWBUILD_TEST_REQUIRE").unwrap_or_default().split(',').any(|required| required == name)
}

/// The archive, reached once, with what was fetched from it.
struct Archive {
    mirror: String,
    cache: PathBuf,
    releases: Vec<Release>,
}

fn archive() -> Result<&'static Archive, &'static String> {
    static ARCHIVE: OnceLock<Result<Archive, String>> = OnceLock::new();
    ARCHIVE.get_or_init(Archive::reach).as_ref()
}

impl Archive {
    fn reach() -> Result<Self, String> {
        let mirror = std::env::var("CLAWBUILD_TEST_ARCHIVE").unwrap_or_else(|_| "http://deb.debian.org".to_owned());
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive");
        fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
        let mut archive = Self { mirror, cache, releases: Vec::new() };
        for (root, suite) in SUITES {
            let file = archive.cache.join(format!("{suite}.InRelease"));
            archive.download(&format!("{root}/dists/{suite}/InRelease"), &file, None)?;
            let text = fs::read(file).map_err(|error| error.to_string())?;
            // Everything below stands on these; that they verify is a check of its own.
            archive
                .releases
                .push(Release::verify(&text, &keyring(), None).map_err(|error| format!("{suite}: {error}"))?);
        }
        Ok(archive)
    }

    fn download(&self, path: &str, to: &Path, sha256: Option<Digest>) -> Result<(), String> {
        let mut command = Command::new("/usr/lib/apt/apt-helper");
        command.args(["-oAcquire::Retries=2", "download-file"]).arg(format!("{}/{path}", self.mirror)).arg(to);
        command.args(sha256.map(|digest| format!("SHA256:{}", digest.hex())));
        match command.output() {
            Err(error) => Err(format!("apt-helper does not run: {error}")),
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("{path}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// A file known by its digest, from the cache or the archive.
    fn fetch(&self, path: &str, sha256: Digest) -> PathBuf {
        let file = self.cache.join(sha256.hex());
        let is_whole =
            |file: &Path| File::open(file).is_ok_and(|mut file| Digest::of_reader(&mut file).unwrap().0 == sha256);
        if !is_whole(&file) {
            // Tests run at the same time and want the same files.
            let own = self.cache.join(format!("{}.{:?}", sha256.hex(), std::thread::current().id()));
            self.download(path, &own, Some(sha256)).unwrap();
            assert!(is_whole(&own), "{path}");
            std::fs::rename(&own, &file).unwrap();
        }
        file
    }

    /// The suites' indexes, read once for each architecture.
    fn suites(&self, architecture: &str) -> &'static [Suite] {
        static AMD64: OnceLock<Vec<Suite>> = OnceLock::new();
        static ARM64: OnceLock<Vec<Suite>> = OnceLock::new();
        let read = |((root, suite), release): (&(&str, &str), &Release)| {
            let index = release.packages("main", architecture).unwrap();
            let file = self.fetch(&format!("{root}/dists/{suite}/{}", index.path), index.sha256);
            let packages = PackageIndex::read(BufReader::new(File::open(file).unwrap()), index.compression).unwrap();
            Suite { name: (*suite).to_owned(), priority: 500, indexes: vec![packages] }
        };
        let cell = if architecture == "arm64" { &ARM64 } else { &AMD64 };
        cell.get_or_init(|| SUITES.iter().zip(&self.releases).map(read).collect())
    }

    fn resolve(&self, architecture: &str, wanted: &[&str], below: &[LockedPackage]) -> Vec<(LockedPackage, PathBuf)> {
        let request = Request {
            architecture,
            wanted: wanted.iter().map(|name| name.parse().unwrap()).collect(),
            baseline: Baseline::Nothing,
            exclude: EXCLUDED.map(str::to_owned).into(),
            below,
        };
        let fetch = |package: LockedPackage| {
            let (root, _) = SUITES.iter().find(|(_, suite)| *suite == package.suite).unwrap();
            let file = self.fetch(&format!("{root}/{}", package.filename), package.sha256);
            (package, file)
        };
        resolve(self.suites(architecture), &request).unwrap().into_iter().map(fetch).collect()
    }

    fn epoch(&self) -> i64 {
        self.releases.iter().map(|release| release.date).max().unwrap()
    }
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::default();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../base/keys")).unwrap() {
        let path = file.unwrap().path();
        keyring.add(&path.display().to_string(), &fs::read(&path).unwrap()).unwrap();
    }
    keyring
}

/// A layer's tar, compressed, and its record.
fn layer(
    archive: &Archive,
    architecture: &str,
    packages: &[(LockedPackage, PathBuf)],
    below: Option<&Installed>,
    threads: usize,
) -> (Installed, Vec<u8>) {
    let threads = NonZeroUsize::new(threads).unwrap();
    let user = User { name: "claw".to_owned(), id: 10_001, home: "/home/claw".to_owned(), shell: "/bin/sh".to_owned() };
    let options = BaseOptions { filter: Filter::slim(), users: vec![user], ..BaseOptions::default() };
    let spool = tempfile::tempdir().unwrap();
    let assembly = Assembly {
        architecture,
        packages,
        below,
        options: &options,
        epoch: archive.epoch(),
        spool: spool.path(),
        threads,
        progress: None,
    };
    let writer = LayerWriter::new(Vec::new(), Compression::Gzip, threads);
    let (installed, writer) = assemble(&assembly, writer).unwrap();
    (installed, writer.finish().unwrap().1)
}

/// Unpacks layers with the system's tar.
fn unpack(layers: &[&[u8]]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for layer in layers {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), layer).unwrap();
        let tar = Command::new("tar")
            .args(["--numeric-owner", "-xpzf"])
            .arg(file.path())
            .arg("-C")
            .arg(root.path())
            .output()
            .unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    }
    root
}

/// Runs a script inside a root filesystem; nothing where this process may not change its root.
fn run_inside(root: &Path, script: &str) -> Option<String> {
    if Command::new("chroot").args(["/", "/bin/true"]).output().is_ok_and(|it| it.status.success()) {
        let output = Command::new("chroot")
            .arg(root)
            .args(["/bin/sh", "-euc", script])
            .env_clear()
            .env("PATH", "/usr/bin:/usr/sbin")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    assert!(!is_required("root"), "required, but chroot is refused");
    None
}

fn releases_are_signed_by_the_keys_in_base(archive: &Archive) {
    for (release, (_, suite)) in archive.releases.iter().zip(SUITES) {
        assert_eq!(release.codename, suite);
        assert!(release.signers.iter().all(|signer| signer.owner.contains("Debian")), "{:?}", release.signers);
        let text = fs::read_to_string(archive.cache.join(format!("{suite}.InRelease"))).unwrap();
        let changed = text.replacen("Codename: ", "Codename: x", 1);
        assert!(Release::verify(changed.as_bytes(), &keyring(), None).is_err());
        assert!(Release::verify(text.as_bytes(), &Keyring::default(), None).is_err());
    }
}

fn a_base_runs_and_scanners_see_its_packages(archive: &Archive) {
    let mut packages = archive.resolve("amd64", &WANTED, &[]);
    let (installed, bytes) = layer(archive, "amd64", &packages, None, 2);
    packages.reverse();
    assert_eq!(layer(archive, "amd64", &packages, None, 1), (installed.clone(), bytes.clone()), "the same again");

    let root = unpack(&[&bytes]);
    let database = root.path().join("var/lib/dpkg");
    let list = Command::new("dpkg-query")
        .arg(format!("--admindir={}", database.display()))
        .args(["-W", "-f", "${db:Status-Abbrev}${Package}=${Version}\n"])
        .output()
        .unwrap();
    let mut expected: Vec<String> =
        installed.locked().map(|package| format!("ii {}={}", package.name, package.version)).collect();
    expected.sort();
    let list = String::from_utf8(list.stdout).unwrap();
    let mut listed: Vec<&str> = list.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, expected);

    let Some(said) = run_inside(
        root.path(),
        "
        id -un 10001
        for file in /usr/share/ca-certificates/mozilla/ISRG_*.crt; do
            openssl verify -no-CAfile -no-CAstore -CApath /etc/ssl/certs $file
            openssl verify -no-CApath -no-CAstore -CAfile /etc/ssl/certs/ca-certificates.crt $file
        done
        date -d @0 +%Z
        ldconfig -p | sed -n 's/.* => //p' > /tmp/ours
        ldconfig -C /tmp/theirs.cache
        ldconfig -p -C /tmp/theirs.cache | sed -n 's/.* => //p' | sort > /tmp/theirs
        sort /tmp/ours | comm -3 - /tmp/theirs
        stat -c '%U %G %a %N' /home/claw /var/mail /bin/sh /etc/localtime
    ",
    ) else {
        return;
    };
    let lines: Vec<&str> = said.lines().filter(|line| !line.ends_with(": OK")).collect();
    assert_eq!(
        lines,
        [
            "claw",
            "UTC",
            "claw claw 755 '/home/claw'",
            "root mail 2775 '/var/mail'",
            "root root 777 '/bin/sh' -> 'dash'",
            "root root 777 '/etc/localtime' -> '/usr/share/zoneinfo/Etc/UTC'",
        ]
    );
    assert!(said.matches(": OK").count() >= 4, "{said}");
}

fn a_layer_on_top_fits_and_runs(archive: &Archive) {
    let base = archive.resolve("amd64", &WANTED, &[]);
    let (installed, lower) = layer(archive, "amd64", &base, None, 2);
    let below: Vec<LockedPackage> = installed.locked().cloned().collect();
    let packages = archive.resolve("amd64", &["mawk", "jq", "libc6"], &below);
    assert!(packages.iter().all(|(package, _)| package.name != "libc6"), "it is below");
    let (both, upper) = layer(archive, "amd64", &packages, Some(&installed), 2);
    assert_eq!(both.packages.len(), base.len() + packages.len());
    let root = unpack(&[&lower, &upper]);
    if let Some(said) =
        run_inside(root.path(), "echo '{\"a\": [1, 2]}' | jq -c .a; ldconfig -p | grep -c libjq; readlink /bin/sh")
    {
        assert_eq!(said, "[1,2]\n1\ndash\n");
    }
}

fn another_architecture_is_assembled_here(archive: &Archive) {
    let packages = archive.resolve("arm64", &WANTED, &[]);
    let (_, bytes) = layer(archive, "arm64", &packages, None, 2);
    let mut reader = TarReader::new(Decompressor::new(&bytes[..]).unwrap(), Limits::default());
    let (mut programs, mut cache) = (0, Vec::new());
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        if content.starts_with(b"\x7fELF") && matches!(entry.kind, Kind::File { .. }) {
            assert_eq!(content[18..20], [183, 0], "{} is for AArch64", entry.display_path());
            programs += 1;
        }
        if entry.path == b"etc/ld.so.cache" {
            cache = content;
        }
    }
    assert!(programs > 100);
    let listed = String::from_utf8_lossy(&cache);
    assert!(listed.contains("/lib/aarch64-linux-gnu/libc.so.6\0"), "{listed}");
}
