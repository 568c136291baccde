use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A directory of its own for one test, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("claw-init-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn gather(scratch: &Scratch, given: &[(&str, &str)]) -> Result<Environment, String> {
    let manifest = format!(
        r#"{{
            "version": 1, "command": ["a"], "secrets_dir": "{}", "env": {{ "TOKEN": "default", "OTHER": "default" }},
            "user": {{ "uid": 1000, "home": "{}" }},
            "config": [{{ "path": "/c", "format": "env", "overrides": [
                {{ "env": "TOKEN", "secret": true }}, {{ "env": "PORT", "key": ["port"], "type": "integer" }}
            ] }}]
        }}"#,
        scratch.0.join("secrets").display(),
        scratch.0.display(),
    );
    let given = given.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    Environment::of(given).gather(&Manifest::parse(&manifest).unwrap()).map_err(|failure| failure.to_string())
}

fn value(environment: &Environment, name: &str) -> Option<String> {
    environment.text(name).unwrap().map(str::to_owned)
}

#[test]
fn the_nearest_source_counts() {
    let scratch = Scratch::new("nearest");
    fs::create_dir(scratch.0.join("secrets")).unwrap();
    let environment = gather(&scratch, &[]).unwrap();
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("default"));
    assert!(!environment.is_from_file("TOKEN"));

    scratch.file("secrets/token", b"mounted\n");
    let environment = gather(&scratch, &[]).unwrap();
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("mounted"));
    assert!(environment.is_from_file("TOKEN"));

    let named = scratch.file("named", b"named\r\n");
    let named = named.to_str().unwrap();
    let environment = gather(&scratch, &[("TOKEN_FILE", named)]).unwrap();
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("named"));
    assert_eq!(value(&environment, "TOKEN_FILE"), None);

    let environment = gather(&scratch, &[("TOKEN_FILE", named), ("TOKEN", "given")]).unwrap();
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("given"));
    assert!(!environment.is_from_file("TOKEN"));

    // What compose files pass for a variable that is not set.
    let environment = gather(&scratch, &[("TOKEN", ""), ("OTHER", "")]).unwrap();
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("mounted"));
    assert_eq!(value(&environment, "OTHER").as_deref(), Some("default"));
}

#[test]
fn only_declared_variables_are_looked_for_in_files() {
    let scratch = Scratch::new("declared");
    fs::create_dir(scratch.0.join("secrets")).unwrap();
    scratch.file("secrets/ssl_cert", b"x");
    let environment = gather(&scratch, &[("SSL_CERT_FILE", "/no/such/file")]).unwrap();
    assert_eq!(value(&environment, "SSL_CERT_FILE").as_deref(), Some("/no/such/file"));
    assert_eq!(value(&environment, "SSL_CERT"), None);
}

#[test]
fn exactly_one_line_end_is_cut() {
    let scratch = Scratch::new("line-end");
    for (content, expected) in
        [("a\n\n", Some("a\n")), ("a", Some("a")), ("a\r\n", Some("a")), ("a\r", Some("a\r")), (" a ", Some(" a "))]
    {
        let path = scratch.0.join("x");
        fs::write(&path, content).unwrap();
        let environment = gather(&scratch, &[("TOKEN_FILE", path.to_str().unwrap())]).unwrap();
        assert_eq!(value(&environment, "TOKEN").as_deref(), expected, "{content:?}");
    }
}

#[test]
fn names_of_secrets_are_taken_in_any_case() {
    let scratch = Scratch::new("case");
    fs::create_dir(scratch.0.join("secrets")).unwrap();
    for name in ["Port", "port.", ".token"] {
        scratch.file(&format!("secrets/{name}"), name.as_bytes());
    }
    let environment = gather(&scratch, &[]).unwrap();
    assert_eq!(value(&environment, "PORT").as_deref(), Some("Port"));
    assert_eq!(value(&environment, "TOKEN").as_deref(), Some("default"));
}

#[test]
fn files_that_no_variable_can_hold_are_refused_by_name() {
    let scratch = Scratch::new("refused");
    let cases: [(&str, &[u8], &str); 2] =
        [("null", b"s3cret\0x", "holds a null character"), ("large", &[b'x'; 200 << 10], "larger than 128 KiB")];
    for (name, content, expected) in cases {
        let path = scratch.file(name, content);
        let message = gather(&scratch, &[("TOKEN_FILE", path.to_str().unwrap())]).unwrap_err();
        assert!(message.starts_with("TOKEN: ") && message.contains(expected), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
    let message = gather(&scratch, &[("TOKEN_FILE", "/no/such/file")]).unwrap_err();
    assert!(message.starts_with("TOKEN: /no/such/file: "), "{message}");
}

#[test]
fn home_is_the_users_unless_given() {
    let scratch = Scratch::new("home");
    let home = scratch.0.to_str().map(str::to_owned);
    assert_eq!(value(&gather(&scratch, &[]).unwrap(), "HOME"), home);
    for engines in ["/", "/root"] {
        assert_eq!(value(&gather(&scratch, &[("HOME", engines)]).unwrap(), "HOME"), home);
    }
    assert_eq!(value(&gather(&scratch, &[("HOME", "/given")]).unwrap(), "HOME").as_deref(), Some("/given"));
    fs::remove_dir(&scratch.0).unwrap();
    assert_eq!(value(&gather(&scratch, &[]).unwrap(), "HOME").as_deref(), Some("/tmp"));
    fs::create_dir(&scratch.0).unwrap();
}
