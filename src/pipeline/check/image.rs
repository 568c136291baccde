//! Conventions of finished images, looked for in layers and config.

use std::collections::{BTreeMap, BTreeSet};

use diag::{Code, Diagnostic, codes};
use oci::{ContainerConfig, Platform};
use recipe::{HealthProbe, Recipe};

use super::elf::{Elf, machine_name, machine_of};
use super::layer::Facts;

/// Labels that say what an image is.
const LABELS: [&str; 5] = ["title", "description", "licenses", "version", "base.name"];
/// Where the dynamic loader looks besides. Spec: `ld.so(8)`.
pub(super) const LIBRARIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"];
/// Steps from link to link that are followed.
const MOST_LINKS: usize = 40;

/// A finished image, as it is looked at.
pub(super) struct Finished<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) platform: Platform,
    pub(super) config: &'a ContainerConfig,
    pub(super) facts: &'a Facts,
}

impl Finished<'_> {
    /// The libraries that programs need and that are not there.
    pub(super) fn missing_libraries(&self) -> BTreeSet<String> {
        let machine = machine_of(self.platform.architecture);
        let native = self.facts.programs.iter().filter(|(_, elf)| elf.machine == machine);
        native.flat_map(|(path, elf)| self.missing(path, elf)).cloned().collect()
    }

    /// Everything that is not as it should be. `packages` are those that bring missing libraries, by library.
    pub(super) fn issues(&self, packages: &BTreeMap<String, String>) -> Vec<Diagnostic> {
        let mut issues = self.programs(packages);
        issues.extend(self.files());
        issues.extend(self.config());
        issues
    }

    fn issue(&self, code: Code, message: String) -> Diagnostic {
        Diagnostic::new(code, format!("{} {}: {message}", self.recipe.name.value, self.platform))
    }

    /// Every program is for the platform, and has its loader and libraries.
    fn programs(&self, packages: &BTreeMap<String, String>) -> Vec<Diagnostic> {
        let machine = machine_of(self.platform.architecture);
        let mut issues = Vec::new();
        for (path, elf) in &self.facts.programs {
            if elf.machine != machine {
                let message = format!("`{path}` is for {}", machine_name(elf.machine));
                issues.push(
                    self.issue(codes::check::MACHINE, message)
                        .help("leave it out with `omit`, or build it for the platform"),
                );
                continue;
            }
            if let Some(interpreter) = &elf.interpreter
                && !self.exists(interpreter)
            {
                let message = format!("`{path}` needs the loader `{interpreter}`, which is not there");
                issues.push(self.issue(codes::check::LIBRARY, message).help("add the package that has it"));
            }
            for name in self.missing(path, elf) {
                let message = format!("`{path}` needs the library `{name}`, which is not there");
                let help = match packages.get(name) {
                    Some(package) => format!("add \"{package}\" to `[image] packages`"),
                    None => "add the Debian package that has it to `[image] packages`".to_owned(),
                };
                issues.push(self.issue(codes::check::LIBRARY, message).help(help));
            }
        }
        issues
    }

    /// The libraries one program needs and that are not there.
    fn missing<'a>(&self, path: &str, elf: &'a Elf) -> impl Iterator<Item = &'a String> {
        let triple = format!("{}-linux-gnu", self.platform.architecture.gnu());
        let origin = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let own = elf.search.iter().map(|place| place.replace("${ORIGIN}", origin).replace("$ORIGIN", origin));
        let usual = LIBRARIES.iter().flat_map(|place| [(*place).to_owned(), format!("{place}/{triple}")]);
        let places: Vec<String> = own.chain(usual).collect();
        elf.needed.iter().filter(move |name| {
            !name.contains('/') && !places.iter().any(|place| self.exists(&format!("{place}/{name}")))
        })
    }

    fn files(&self) -> Vec<Diagnostic> {
        let facts = self.facts;
        let temporary =
            |path: &&String| self.recipe.image.tmpfs.iter().any(|place| path.starts_with(place.value.as_str()));
        let mut issues = Vec::new();
        let mut each = |code: Code, paths: &mut dyn Iterator<Item = &String>, what: &str, help: &str| {
            issues.extend(paths.map(|path| self.issue(code, format!("`{path}` {what}")).help(help)));
        };
        each(
            codes::check::PRIVILEGED,
            &mut facts.privileged.iter(),
            "runs as its owner, whoever starts it",
            "images need no set-uid programs: take its mode bits away, or leave it out",
        );
        each(
            codes::check::WRITABLE,
            &mut facts.writable.iter().filter(|path| !temporary(path)),
            "can be written to by anybody",
            "give it a mode without write permission for others",
        );
        each(
            codes::check::CACHE,
            &mut facts.cached.iter(),
            "belongs to a package manager's cache",
            "remove it in the step that makes it, or mount a cache there",
        );
        each(
            codes::check::KEY,
            &mut facts.keys.iter(),
            "holds a private key",
            "leave it out: secrets are given to containers, in /run/secrets",
        );
        let user = &self.recipe.image.user;
        for volume in &self.recipe.image.volumes {
            let found = facts.directories.get(volume.value.as_str());
            if found.is_none_or(|(_, uid, _)| *uid != user.uid) {
                let owner = found.map_or("is not there".to_owned(), |(_, uid, _)| format!("belongs to user {uid}"));
                let message = format!("the volume `{}` {owner}", volume.value);
                issues.push(
                    self.issue(codes::check::VOLUME, message)
                        .label(&self.recipe.source, volume.span, "declared here")
                        .help(format!(
                            "it has to be a directory of user {}, or the runtime cannot write to it",
                            user.uid
                        )),
                );
            }
        }
        issues
    }

    fn config(&self) -> Vec<Diagnostic> {
        let mut issues = Vec::new();
        let mut wrong = |message: String| issues.push(self.issue(codes::check::CONFIG, message));
        let numbers: Vec<&str> = self.config.user.split(':').collect();
        match numbers.first().map(|uid| uid.parse::<u32>()) {
            Some(Ok(0)) => wrong("the config's user is root".to_owned()),
            Some(Ok(_)) if numbers.iter().all(|number| number.parse::<u32>().is_ok()) => {}
            _ => wrong(format!("the config's user `{}` is no number", self.config.user)),
        }
        if self.config.healthcheck.is_none() && !matches!(self.recipe.health.probe, HealthProbe::None) {
            wrong("the config has no health check".to_owned());
        }
        for label in LABELS {
            let label = format!("org.opencontainers.image.{label}");
            if self.config.labels.get(&label).is_none_or(String::is_empty) {
                wrong(format!("the label `{label}` is missing"));
            }
        }
        match self.config.entrypoint.first() {
            Some(program) if self.facts.files.get(&self.real(program)).is_some_and(|mode| mode & 0o111 != 0) => {}
            Some(program) => wrong(format!("the entrypoint `{program}` cannot be executed")),
            None => wrong("the config has no entrypoint".to_owned()),
        }
        issues
    }

    /// Whether there is a file, links followed.
    fn exists(&self, path: &str) -> bool {
        self.facts.files.contains_key(&self.real(path))
    }

    /// Where a path leads. One that goes round in circles leads nowhere.
    fn real(&self, path: &str) -> String {
        let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut real: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => {}
                ".." => _ = real.pop(),
                _ => {
                    let here = format!("/{}", real.iter().chain([&name]).cloned().collect::<Vec<_>>().join("/"));
                    match self.facts.links.get(&here) {
                        Some(target) if seen.len() < MOST_LINKS => {
                            seen.insert(seen.len());
                            if target.starts_with('/') {
                                real.clear();
                            }
                            left.extend(target.split('/').rev().map(str::to_owned));
                        }
                        _ => real.push(name),
                    }
                }
            }
        }
        format!("/{}", real.join("/"))
    }
}
