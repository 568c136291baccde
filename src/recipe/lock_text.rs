//! The lock's canonical text: equal locks are equal bytes, and a change shows as the lines it touches.

use std::fmt::{self, Write as _};

use crate::{LOCK_VERSION, Lock};

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by clawbuild. Commit it; `clawbuild lock --update` refreshes it.")?;
        writeln!(f, "version = {LOCK_VERSION}")?;
        for entry in self.releases.values() {
            writeln!(f, "\n[[release]]")?;
            writeln!(f, "registry = \"{}\"", entry.registry.as_str())?;
            writeln!(f, "package = {}", quoted(&entry.package))?;
            writeln!(f, "requirement = {}", quoted(&entry.requirement))?;
            if let Some(architecture) = entry.architecture {
                writeln!(f, "architecture = \"{architecture}\"")?;
            }
            writeln!(f, "version = {}", quoted(&entry.version))?;
            writeln!(f, "published = {}", entry.published)?;
            writeln!(f, "url = {}", quoted(&entry.url))?;
            if let Some(integrity) = &entry.integrity {
                writeln!(f, "integrity = {}", quoted(integrity))?;
            }
            writeln!(f, "sha256 = \"{}\"", entry.sha256)?;
            writeln!(f, "size = {}", entry.size)?;
        }
        for entry in self.git.values() {
            writeln!(f, "\n[[git]]")?;
            writeln!(f, "url = {}", quoted(&entry.url))?;
            writeln!(f, "reference = {}", quoted(&entry.reference))?;
            writeln!(f, "commit = {}", quoted(&entry.commit))?;
            writeln!(f, "tree = {}", quoted(&entry.tree))?;
            writeln!(f, "committed = {}", entry.committed)?;
        }
        for entry in self.debian.values() {
            writeln!(f, "\n[[debian]]")?;
            writeln!(f, "owner = {}", quoted(&entry.owner))?;
            writeln!(f, "platform = \"{}\"", entry.platform)?;
            writeln!(f, "archive = {}", quoted(&entry.archive))?;
            writeln!(f, "suites = {}", list(&entry.suites))?;
            writeln!(f, "components = {}", list(&entry.components))?;
            writeln!(f, "wanted = {}", list(&entry.wanted))?;
            writeln!(f, "exclude = {}", list(&entry.exclude))?;
            if let Some(below) = &entry.below {
                writeln!(f, "below = {}", quoted(below))?;
            }
            writeln!(f, "epoch = {}", entry.epoch)?;
            writeln!(f, "packages = [")?;
            for package in &entry.packages {
                writeln!(
                    f,
                    "  {{ name = {}, version = {}, architecture = {}, sha256 = \"{}\", size = {}, url = {} }},",
                    quoted(&package.name),
                    quoted(&package.version),
                    quoted(&package.architecture),
                    package.sha256,
                    package.size,
                    quoted(&package.url),
                )?;
            }
            writeln!(f, "]")?;
        }
        for entry in self.dependencies.values() {
            writeln!(f, "\n[[dependencies]]")?;
            writeln!(f, "target = {}", quoted(&entry.target))?;
            writeln!(f, "manager = {}", quoted(&entry.manager))?;
            writeln!(f, "root = {}", quoted(&entry.root))?;
            writeln!(f, "file = {}", quoted(&entry.file))?;
            writeln!(f, "sha256 = \"{}\"", entry.sha256)?;
        }
        for entry in self.published.values() {
            writeln!(f, "\n[[published]]")?;
            writeln!(f, "owner = {}", quoted(&entry.owner))?;
            writeln!(f, "platform = \"{}\"", entry.platform)?;
            writeln!(f, "reference = {}", quoted(&entry.reference.to_string()))?;
            writeln!(f, "inputs = \"{}\"", entry.inputs)?;
        }
        Ok(())
    }
}

/// A TOML basic string. Spec: TOML 1.0 §String.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                write!(out, "\\u{:04X}", u32::from(c)).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use diag::Source;
    use oci::{Digest, Platform};

    use crate::{Lock, LockedDebian, LockedDependencies, LockedPackage, LockedRelease, PublishedImage};

    fn lock() -> Lock {
        let mut lock = Lock::default();
        lock.put_release(LockedRelease {
            registry: crate::Registry::Npm,
            architecture: None,
            package: "@scope/odd\"name\\".into(),
            requirement: ">=1 <2".into(),
            version: "1.2.3".into(),
            published: 1_700_000_000,
            url: "https://example.invalid/x.tgz".into(),
            integrity: Some("sha512-AA==".into()),
            sha256: Digest::of(b"npm"),
            size: 7,
        });
        lock.put_debian(LockedDebian {
            owner: "base/debian".into(),
            platform: Platform::LINUX_ARM64,
            archive: "https://deb.example.invalid/debian".into(),
            suites: vec!["trixie".into()],
            components: vec!["main".into()],
            wanted: vec!["libc6".into()],
            exclude: vec![],
            below: Some("base/static".into()),
            epoch: 5,
            packages: vec![LockedPackage {
                name: "libc6".into(),
                version: "2.41-12".into(),
                architecture: "arm64".into(),
                sha256: Digest::of(b"deb"),
                size: 9,
                url: "https://deb.example.invalid/debian/pool/libc6.deb".into(),
            }],
        });
        lock.put_dependencies(LockedDependencies {
            target: "openclaw".into(),
            manager: "pnpm 12.21.0".into(),
            root: "openclaw 2026.9.6".into(),
            file: "pnpm-lock.yaml".into(),
            sha256: Digest::of(b"lock"),
        });
        let reference = format!("127.0.0.1:5000/base/debian@{}", Digest::of(b"manifest"));
        lock.put_published(PublishedImage {
            owner: "base/debian".into(),
            platform: Platform::LINUX_ARM64,
            reference: reference.parse().expect("a reference"),
            inputs: Digest::of(b"inputs"),
        });
        lock
    }

    #[test]
    fn reads_what_it_writes() {
        let text = lock().to_string();
        let read = Lock::parse(&Source::new("clawbuild.lock", text.clone())).expect("parses");
        assert_eq!(read, lock());
        assert_eq!(read.to_string(), text);
    }

    #[test]
    fn published_images_go_with_their_owners() {
        let mut lock = lock();
        lock.retain_published(|owner| owner == "base/debian");
        assert!(lock.published("base/debian", Platform::LINUX_ARM64).is_some());
        assert!(lock.published("base/debian", Platform::LINUX_AMD64).is_none());
        lock.retain_published(|owner| owner == "base/node");
        assert!(lock.published("base/debian", Platform::LINUX_ARM64).is_none());
    }

    #[test]
    fn a_published_image_without_a_digest_is_refused() {
        let text = lock().to_string().replace(&format!("@{}", Digest::of(b"manifest")), ":latest");
        let error = Lock::parse(&Source::new("clawbuild.lock", text)).expect_err("a tag can move");
        assert!(matches!(error, crate::LockError::Syntax { message, .. } if message.contains("names no digest")));
    }
}
