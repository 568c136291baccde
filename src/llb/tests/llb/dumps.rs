//! How definitions look.

use llb::*;
use oci::{Digest, Platform};

fn sample() -> Definition {
    let graph = Graph::new(Platform::LINUX_AMD64);
    let base = graph.oci_layout("base/node", Digest::of("node"), Some("clawbuild")).with_name("base/node");
    let context = graph.local(LocalSource { exclude: vec!["target".to_owned()], ..LocalSource::new("context") });
    let tool = graph.http(HttpSource::new("https://registry.test/tool.tgz", Digest::of("tool")));
    let installed = graph.exec(
        Exec::on(&base, ["/bin/sh", "-c", "npm ci\necho \"done\""])
            .env("HOME", "/root")
            .cwd("/src")
            .user("1000:1000")
            .network(NetworkMode::None)
            .mount("/src", Bind::new(&context).read_only())
            .mount("/tool", Bind::new(&tool).selector("/tool.tgz").read_only())
            .mount("/out", Bind::scratch())
            .mount("/root/.npm", Cache::new("npm", CacheSharing::Locked))
            .mount("/tmp", Tmpfs::new().size(1 << 20))
            .mount("/run/secrets/token", Secret::new("token").optional())
            .with_name("[openclaw 1/2] npm ci"),
    );
    let out = installed.output("/out").expect("writable");
    let owner = Some(Owner { user: Some(Account::named("node")), group: Some(Account::Id(0)) });
    let image = graph.file(
        File::on(&base)
            .timestamp(Timestamp::from_seconds(1_700_000_000))
            .mkdir(MkdirAction { make_parents: true, owner: owner.clone(), ..MkdirAction::new("/app") })
            .copy_with(out, CopyAction { owner, mode: Some(0o755), ..CopyAction::new("/", "/app/") })
            .mkfile(MkfileAction::new("/etc/motd", "hi <there>\n"))
            .symlink(SymlinkAction::new("../app/cli", "/bin/cli"))
            .rm(RmAction { allow_not_found: true, ..RmAction::new("/var/cache") }),
    );
    let head = graph.merge(&base, [&graph.diff(&base, &image)]);
    graph.definition(&head).expect("valid")
}

#[test]
fn text() {
    insta::assert_snapshot!(sample().to_text());
}

#[test]
fn dot() {
    insta::assert_snapshot!(sample().to_dot());
}

#[test]
fn mermaid() {
    insta::assert_snapshot!(sample().to_mermaid());
}

#[test]
fn json() {
    let lines = sample().to_json();
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn every_line_of_text_is_one_vertex() {
    let definition = sample();
    assert_eq!(definition.to_text().lines().count(), definition.vertices().len() + 1);
}
