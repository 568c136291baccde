use super::*;
use crate::manifest::Manifest;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const DEFAULT: &str = "// the gateway\n{\n  gateway: { port: 18789, /* mode */ bind: 'lan' },\n}\n";

/// A directory with a default, and a manifest that renders it.
struct Scene {
    dir: PathBuf,
    overwrite: &'static str,
}

impl Scene {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("claw-init-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("default.json5"), DEFAULT).unwrap();
        Self { dir, overwrite: "always" }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("state/openclaw.json")
    }

    fn install(&self, given: &[(&str, &str)]) -> Result<String, String> {
        let dir = self.dir.display();
        let overwrite = self.overwrite;
        let manifest = format!(
            r#"{{
                "version": 1, "command": ["a"], "secrets_dir": "/no/such",
                "config": [{{
                    "default": "{dir}/default.json5", "path": "{dir}/state/openclaw.json", "format": "json5", "overwrite": "{overwrite}",
                    "overrides": [
                        {{ "env": "PORT", "key": ["gateway", "port"], "type": "integer" }},
                        {{ "env": "ORIGINS", "key": ["gateway", "controlUi", "allowedOrigins"], "type": "list" }},
                        {{ "env": "LIMIT", "key": ["limit"], "type": "integer", "secret": true }},
                        {{ "env": "DEEP", "key": ["gateway", "bind", "x"] }}
                    ]
                }}]
            }}"#
        );
        let manifest = Manifest::parse(&manifest).unwrap();
        let given = given.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let environment = Environment::of(given).gather(&manifest).map_err(|failure| failure.to_string())?;
        install(&manifest.config[0], &environment).map_err(|failure| failure.to_string())?;
        Ok(fs::read_to_string(self.path()).unwrap())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn without_overrides_the_copy_is_the_default() {
    let scene = Scene::new("plain");
    assert_eq!(scene.install(&[]).unwrap(), DEFAULT);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(scene.path()), mode(scene.dir.join("state"))), (0o600, 0o700));
}

#[test]
fn overrides_go_into_the_copy_and_the_default_stays() {
    let scene = Scene::new("overrides");
    let expected = "// the gateway\n{\n  gateway: { port: 8080, /* mode */ bind: 'lan', controlUi: { allowedOrigins: [\"a\", \"b\"] } },\n}\n";
    assert_eq!(scene.install(&[("PORT", "8080"), ("ORIGINS", "a,b")]).unwrap(), expected);
    assert_eq!(fs::read_to_string(scene.dir.join("default.json5")).unwrap(), DEFAULT);
    // Started again without them, nothing is left of them, and no temporary file either.
    assert_eq!(scene.install(&[]).unwrap(), DEFAULT);
    assert_eq!(fs::read_dir(scene.dir.join("state")).unwrap().count(), 1);
}

#[test]
fn bad_values_are_named_but_secret_ones_are_not_shown() {
    let scene = Scene::new("bad");
    assert_eq!(scene.install(&[("PORT", "80a\n")]).unwrap_err(), "PORT: expected a whole number, not `80a\\n`");
    let message = scene.install(&[("LIMIT", "hunter2")]).unwrap_err();
    assert_eq!(message, "LIMIT: expected a whole number; its value is secret and not shown");
    let file = scene.dir.join("port");
    fs::write(&file, "hunter2").unwrap();
    assert!(!scene.install(&[("PORT_FILE", file.to_str().unwrap())]).unwrap_err().contains("hunter2"));
    assert_eq!(
        scene.install(&[("DEEP", "1")]).unwrap_err(),
        "DEEP: `gateway.bind.x` cannot be set: `gateway.bind` is a plain value"
    );
    assert!(!scene.path().exists());
}

#[test]
fn what_happens_to_an_existing_file_is_the_manifests_choice() {
    let mut scene = Scene::new("existing");
    fs::create_dir(scene.dir.join("state")).unwrap();
    let edited = "{ gateway: { port: 1 }, mine: true }";
    for (overwrite, expected) in [
        ("if-missing", edited.to_owned()),
        ("merge", edited.replace("port: 1", "port: 2")),
        ("always", DEFAULT.replace("18789", "2")),
    ] {
        scene.overwrite = overwrite;
        fs::write(scene.path(), edited).unwrap();
        assert_eq!(scene.install(&[("PORT", "2")]).unwrap(), expected, "{overwrite}");
    }
}

#[test]
fn a_default_that_is_not_in_its_format_is_named() {
    let scene = Scene::new("syntax");
    fs::write(scene.dir.join("default.json5"), "{ a: }").unwrap();
    let message = scene.install(&[]).unwrap_err();
    assert!(message.ends_with("default.json5: line 1, column 6: a value begins otherwise"), "{message}");
    fs::remove_file(scene.dir.join("default.json5")).unwrap();
    assert!(scene.install(&[]).unwrap_err().contains("default.json5: "));
}

/// Others may read a file if the manifest says so, but not once a secret went into it.
#[test]
fn a_file_with_a_secret_is_its_owners_alone() {
    let scene = Scene::new("mode");
    let (dir, secrets) = (scene.dir.display(), scene.dir.join("secrets"));
    let install = |path: &str, overwrite: &str| {
        let manifest = format!(
            r#"{{"version": 1, "command": ["a"], "secrets_dir": "{}", "config": [{{
                "path": "{dir}/{path}", "format": "env", "mode": "0644", "overwrite": "{overwrite}",
                "overrides": [{{ "env": "TOKEN", "key": ["TOKEN"] }}] }}]}}"#,
            secrets.display()
        );
        let manifest = Manifest::parse(&manifest).unwrap();
        let environment = Environment::of([].into_iter()).gather(&manifest).unwrap();
        super::install(&manifest.config[0], &environment).unwrap();
        let mode = fs::metadata(scene.dir.join(path)).unwrap().permissions().mode() & 0o7777;
        (mode, fs::read_to_string(scene.dir.join(path)).unwrap())
    };
    assert_eq!(install("a", "always"), (0o644, String::new()));
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("token"), "hunter2\n").unwrap();
    assert_eq!(install("a", "always"), (0o600, "TOKEN=hunter2\n".to_owned()));
    assert_eq!(install("b", "merge"), (0o600, "TOKEN=hunter2\n".to_owned()));
    // The secret is not mounted any more. What keeps it keeps it from others.
    fs::remove_file(secrets.join("token")).unwrap();
    assert_eq!(install("b", "merge"), (0o600, "TOKEN=hunter2\n".to_owned()));
    assert_eq!(install("a", "always"), (0o644, String::new()));
}

/// A write that cannot finish leaves the file of before, whole.
#[test]
fn a_failed_write_changes_nothing() {
    let scene = Scene::new("atomic");
    scene.install(&[]).unwrap();
    // In the temporary file's place stands what cannot be removed as a file.
    fs::create_dir(temporary_beside(scene.path().to_str().unwrap())).unwrap();
    scene.install(&[("PORT", "1")]).unwrap_err();
    assert_eq!(fs::read_to_string(scene.path()).unwrap(), DEFAULT);
}
