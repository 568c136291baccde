//! A small project of three stages, built by the program as a user runs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use support::Capability::{Archive, Docker, IdRange, Network, Overlay, Root, Runc, Skopeo, Umoci, Userns};
use support::{Built, Capability, Cli, Identity, Output, Suite, ThreeStages, run, steps};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");

/// What every build here needs.
const BUILD: &[Capability] = &[Root, Overlay, Archive, Network];

fn main() -> ExitCode {
    Suite::new()
        .test("nothing changed, nothing runs", BUILD, nothing_changed_nothing_runs)
        .test("a touched file changes nothing", BUILD, a_touched_file_changes_nothing)
        .test("one changed file runs what depends on it", BUILD, one_changed_file_runs_what_depends_on_it)
        .test("changed inputs with the same outcome stop there", BUILD, changed_inputs_with_the_same_outcome_stop_there)
        .test("the same image elsewhere, later, by others", BUILD, the_same_image_elsewhere_later_by_others)
        .test(
            "the same image by an ordinary user",
            &[Root, Overlay, Archive, Network, Userns, IdRange],
            the_same_image_by_an_ordinary_user,
        )
        .test(
            "the same image by a user of one id",
            &[Root, Overlay, Archive, Network, Userns],
            the_same_image_by_a_user_of_one_id,
        )
        .test("a warm store needs no network", BUILD, a_warm_store_needs_no_network)
        .test("an empty store without network says what is missing", BUILD, an_empty_store_without_network)
        .test("a stale lock is refused when locked", BUILD, a_stale_lock_is_refused_when_locked)
        .test("a failed step points at the recipe", BUILD, a_failed_step_points_at_the_recipe)
        .test("every output holds the same image", &[Root, Overlay, Archive, Network, Skopeo, Umoci], every_output)
        .test("docker loads and runs it", &[Root, Overlay, Archive, Network, Docker], docker_loads_and_runs_it)
        .test("runc runs it", &[Root, Overlay, Archive, Network, Umoci, Runc], runc_runs_it)
        .test("two builds at once on one store", BUILD, two_builds_at_once_on_one_store)
        .test("killed at any moment, then built again", BUILD, killed_at_any_moment_then_built_again)
        .test("a full disk leaves the store whole", BUILD, a_full_disk_leaves_the_store_whole)
        .test("interrupted, it cleans up", BUILD, interrupted_it_cleans_up)
        .run()
}

/// The project in a directory of the test's own, with the store all tests share.
fn project() -> (Cli, ThreeStages) {
    warm();
    let cli = Cli::new(PROGRAM).with_shared_store();
    let project = ThreeStages::write(cli.directory());
    use_lock(&cli);
    (cli, project)
}

/// Builds the project once, so that tests running at the same time do not all download the same.
fn warm() -> &'static (Built, Vec<u8>) {
    static WARM: OnceLock<(Built, Vec<u8>)> = OnceLock::new();
    WARM.get_or_init(|| {
        let cli = Cli::new(PROGRAM).with_shared_store();
        ThreeStages::write(cli.directory());
        let built = build(&cli);
        let lock = fs::read(cli.directory().join("clawbuild.lock")).expect("the first build wrote the lock");
        (built, lock)
    })
}

/// Everyone builds what the first build locked: a mirror may move on while the tests run.
fn use_lock(cli: &Cli) {
    fs::write(cli.directory().join("clawbuild.lock"), &warm().1).expect("the working directory is writable");
}

/// A store of the test's own that holds every download and nothing made from them.
fn with_downloads_only(cli: Cli) -> Cli {
    let shared = Cli::new(PROGRAM).with_shared_store();
    let store = cli.scratch().join("store");
    fs::create_dir_all(store.join("blobs")).expect("the scratch directory is writable");
    run(
        "cp",
        ["-a", "--reflink=auto", "--"].iter().map(|word| word.to_string()).chain([
            shared.store().join("blobs/sha256").display().to_string(),
            store.join("blobs").display().to_string(),
        ]),
    );
    cli.with_store(&store)
}

#[track_caller]
fn build(cli: &Cli) -> Built {
    Built::of(cli.run(["./recipe.toml", "--json"]))
}

fn build_with_progress(cli: &Cli) -> Output {
    cli.run(["./recipe.toml", "--progress", "json"]).success()
}

/// The names of steps that ran, those of `[…]` stages only.
fn ran(output: &Output) -> Vec<String> {
    let ran = steps(output).into_iter().filter(|(_, outcome)| outcome != "cached");
    ran.map(|(name, _)| name).filter(|name| name.starts_with("[three-stages")).collect()
}

fn nothing_changed_nothing_runs() {
    let (cli, _) = project();
    let first = build(&cli);
    let output = build_with_progress(&cli);
    assert_eq!(ran(&output), [""; 0], "{}", output.stderr);
    assert_eq!(build(&cli), first);
}

fn a_touched_file_changes_nothing() {
    let (cli, project) = project();
    build(&cli);
    project.change(17, "first");
    let output = build_with_progress(&cli);
    assert_eq!(ran(&output), [""; 0], "{}", output.stderr);
}

fn one_changed_file_runs_what_depends_on_it() {
    let (cli, project) = project();
    let first = build(&cli);
    project.change(17, &unique("changed"));
    let output = build_with_progress(&cli);
    let ran = ran(&output);
    assert!(ran.iter().any(|name| name.contains("cat /work")), "{ran:?}");
    assert!(ran.iter().any(|name| name.contains("sha256sum")), "{ran:?}");
    let second = build(&cli);
    assert_ne!(second.digest, first.digest);
    // The base's layers, and what does not come from the stages, are the same.
    assert_eq!(second.layers[0], first.layers[0]);
    // And back: everything is still known.
    project.change(17, "first");
    assert_eq!(build(&cli), first);
}

/// The content decides: a file that is read but changes no result stops the change there.
fn changed_inputs_with_the_same_outcome_stop_there() {
    let (cli, project) = project();
    let first = build(&cli);
    fs::write(project.source().join("notes.md"), unique("not read by any step")).expect("the source is writable");
    let output = build_with_progress(&cli);
    let ran = ran(&output);
    assert!(ran.iter().any(|name| name.contains("cat /work")), "{ran:?}");
    assert!(!ran.iter().any(|name| name.contains("sha256sum")), "what was copied is the same: {ran:?}");
    assert_eq!(build(&cli).layers, first.layers);
}

fn the_same_image_elsewhere_later_by_others() {
    let expected = &warm().0;
    let cli = with_downloads_only(Cli::new(PROGRAM))
        .with_variable("TZ", "Asia/Tokyo")
        .with_variable("LC_ALL", "tr_TR.UTF-8")
        .with_variable("USER", "somebody");
    let elsewhere = cli.scratch().join("a/much/deeper/place with spaces");
    fs::create_dir_all(&elsewhere).expect("the scratch directory is writable");
    let cli = cli.in_directory(&elsewhere);
    ThreeStages::write(&elsewhere);
    use_lock(&cli);
    run("find", [elsewhere.to_str().expect("UTF-8"), "-exec", "touch", "-d", "2031-07-01", "{}", ";"]);
    let output = cli.shell("umask 077; ulimit -n 512; clawbuild ./recipe.toml --json --jobs 1");
    assert_eq!(Built::of(output), *expected);
}

fn the_same_image_by_an_ordinary_user() {
    built_by(Identity::User { id: 23_456, subids: true });
}

fn the_same_image_by_a_user_of_one_id() {
    built_by(Identity::User { id: 23_457, subids: false });
}

fn built_by(identity: Identity) {
    let expected = &warm().0;
    let cli = with_downloads_only(Cli::new(PROGRAM));
    ThreeStages::write(cli.directory());
    use_lock(&cli);
    let cli = cli.as_identity(identity);
    assert_eq!(build(&cli), *expected);
    // What it left can be removed by the same user, and read again.
    assert_eq!(build(&cli), *expected);
}

fn a_warm_store_needs_no_network() {
    let (cli, _) = project();
    let first = build(&cli);
    let output = cli.shell("unshare --net clawbuild ./recipe.toml --json --offline --locked");
    assert_eq!(Built::of(output), first);
    let output = cli.shell("unshare --net clawbuild ./recipe.toml --json");
    assert_eq!(Built::of(output), first);
}

fn an_empty_store_without_network() {
    warm();
    let cli = Cli::new(PROGRAM);
    ThreeStages::write(cli.directory());
    use_lock(&cli);
    let offline = cli.shell("unshare --net clawbuild ./recipe.toml --offline").exits(4);
    assert!(offline.stderr.contains("error[lock/offline]"), "{}", offline.stderr);
    let cut_off = cli.shell("unshare --net clawbuild ./recipe.toml").exits(75);
    assert!(cut_off.stderr.contains("error["), "{}", cut_off.stderr);
}

fn a_stale_lock_is_refused_when_locked() {
    let (cli, project) = project();
    build(&cli);
    let recipe = fs::read_to_string(project.recipe()).expect("it was written");
    let recipe = recipe.replace("base = \"debian\"\n", "base = \"debian\"\npackages = [\"hostname\"]\n");
    fs::write(project.recipe(), recipe).expect("the working directory is writable");
    let before = fs::read(cli.directory().join("clawbuild.lock")).expect("there is a lock");
    let output = cli.run(["./recipe.toml", "--locked"]).exits(4);
    assert!(output.stderr.contains("error[lock/stale]"), "{}", output.stderr);
    assert_eq!(fs::read(cli.directory().join("clawbuild.lock")).expect("there is a lock"), before);
}

fn a_failed_step_points_at_the_recipe() {
    let (cli, project) = project();
    let recipe = fs::read_to_string(project.recipe()).expect("it was written");
    let failing = "echo one; echo two >&2; exit 3";
    fs::write(project.recipe(), recipe.replace("cat /work/*/*.txt >/all.txt", failing)).expect("it can be written");
    let output = cli.run(["./recipe.toml"]).exits(1);
    let line = recipe.lines().position(|line| line.contains("cat /work")).expect("the recipe has the step") + 1;
    assert!(output.stderr.contains("error[engine/step-failed]"), "{}", output.stderr);
    assert!(output.stderr.contains(&format!("recipe.toml:{line}:")), "{}", output.stderr);
    assert!(output.stderr.contains("  | one\n") && output.stderr.contains("  | two\n"), "{}", output.stderr);
}

fn every_output() {
    let (cli, _) = project();
    let path = |name: &str| cli.directory().join(name);
    let text = |name: &str| path(name).display().to_string();
    let outputs =
        ["oci,dest=layout", "oci,dest=layout.tar", "docker,dest=docker.tar", "local,dest=files", "tar,dest=files.tar"];
    let outputs = outputs.iter().flat_map(|output| ["--output".to_owned(), format!("type={output}")]);
    let words = ["./recipe.toml".to_owned(), "--json".to_owned()].into_iter().chain(outputs);
    let built = Built::of(cli.run(words));

    for transport in [format!("oci:{}", text("layout")), format!("oci-archive:{}", text("layout.tar"))] {
        let raw = run("skopeo", ["inspect", "--raw", &transport]);
        let digest = run("sh", ["-c", &format!("printf %s {} | sha256sum", quote(&raw.stdout))]);
        assert_eq!(
            format!("sha256:{}", digest.text().split(' ').next().unwrap_or_default()),
            built.digest,
            "{transport}"
        );
    }
    let config = run("skopeo", ["inspect", "--config", &format!("oci:{}", text("layout"))]).json();
    assert_eq!(config["config"]["User"], "1000:1000");
    let ids: Vec<&str> =
        config["rootfs"]["diff_ids"].as_array().expect("diff IDs").iter().filter_map(|id| id.as_str()).collect();
    assert_eq!(ids, built.diff_ids);
    let docker_ids = run("skopeo", ["inspect", "--config", &format!("docker-archive:{}", text("docker.tar"))]).json();
    assert_eq!(docker_ids["rootfs"]["diff_ids"], config["rootfs"]["diff_ids"]);

    // The files: as umoci unpacks the layers, as we wrote them to a directory, and as a tar.
    let unpack = format!("{}:{}", text("layout"), tag(&built));
    run("umoci", ["unpack", "--image", &unpack, &text("bundle")]);
    let unpacked = listing(&path("bundle/rootfs"));
    assert_same("files", &without_owners(&listing(&path("files"))), &without_owners(&unpacked));
    fs::create_dir(path("untarred")).expect("the working directory is writable");
    run("tar", ["--numeric-owner", "-xpf", &text("files.tar"), "-C", &text("untarred")]);
    assert_same("files.tar", &listing(&path("untarred")), &unpacked);
    let sum = fs::read_to_string(path("files/srv/sum.txt")).expect("the image holds the sum");
    let all = run("sha256sum", [path("files/srv/all.txt")]);
    assert_eq!(sum.split(' ').next(), all.text().split(' ').next());
}

/// Type, mode, owner, time, link target and path of everything below a directory, and the size of files.
fn listing(directory: &Path) -> BTreeSet<String> {
    let format = "%y %m %U:%G %Ts %l %P %s\n";
    let all = run("find", [directory.to_str().expect("UTF-8"), "-mindepth", "1", "-printf", format]);
    // The size of a directory is the filesystem's own affair.
    let without_size = |line: &str| line.rsplit_once(' ').map(|(rest, _)| rest.to_owned()).unwrap_or_default();
    all.stdout.lines().map(|line| if line.starts_with('d') { without_size(line) } else { line.to_owned() }).collect()
}

/// The same for a directory that belongs to whoever asked for it: no owners, and no bits that go with them.
fn without_owners(listing: &BTreeSet<String>) -> BTreeSet<String> {
    let line = |line: &String| {
        let [kind, mode, _, rest] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        format!("{kind} {} {rest}", &mode[mode.len().saturating_sub(3)..])
    };
    listing.iter().map(line).collect()
}

#[track_caller]
fn assert_same(what: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) {
    let only = |one: &BTreeSet<String>, other| one.difference(other).take(20).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(ours == theirs, "{what} holds\n  {}\nand not\n  {}", only(ours, theirs), only(theirs, ours));
}

fn tag(built: &Built) -> String {
    let reference = built.references.first().expect("an image has a name");
    reference.rsplit_once(':').expect("the name has a tag").1.to_owned()
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn docker_loads_and_runs_it() {
    let (cli, _) = project();
    let archive = cli.directory().join("docker.tar");
    let built = Built::of(cli.run(["./recipe.toml", "--json", "--output", "type=docker,dest=docker.tar"]));
    let docker = support::Docker::new();
    docker.run(["load", "--input", archive.to_str().expect("UTF-8")]);
    let reference = built.references.first().expect("an image has a name");
    let inspected = docker.run(["image", "inspect", "--format", "{{.Id}}", reference]);
    assert_eq!(inspected.text(), built.config);
    let command = ["run", "--rm", "--network", "none", "--read-only", reference, "/bin/sh", "-c"];
    let output = docker.run(command.into_iter().chain(["id -u; cat /proc/1/comm; wc -l </srv/all.txt"]));
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines, ["1000", "claw-init", "8000"], "{}", output.stderr);
}

fn runc_runs_it() {
    let (cli, _) = project();
    let built = Built::of(cli.run(["./recipe.toml", "--json", "--output", "type=oci,dest=layout"]));
    let bundle = cli.directory().join("bundle").display().to_string();
    let image = format!("{}:{}", cli.directory().join("layout").display(), tag(&built));
    run("umoci", ["unpack", "--image", &image, &bundle]);
    let config = format!("{bundle}/config.json");
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&config).expect("umoci wrote it")).expect("it is JSON");
    json["root"]["readonly"] = true.into();
    json["process"]["terminal"] = false.into();
    let entry = json["process"]["args"][0].clone();
    json["process"]["args"] = serde_json::json!([entry, "/bin/sh", "-c", "id -u; wc -l </srv/all.txt"]);
    fs::write(&config, json.to_string()).expect("the bundle is writable");
    let root = cli.scratch().join("runc").display().to_string();
    let id = unique("clawbuild-test").replace(' ', "-");
    let output = run("runc", ["--root", &root, "run", "--bundle", &bundle, &id]);
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), ["1000", "8000"], "{}", output.stderr);
}

fn two_builds_at_once_on_one_store() {
    let expected = warm().0.clone();
    let store = with_downloads_only(Cli::new(PROGRAM));
    let builds: Vec<_> = (0..3)
        .map(|_| {
            let cli = Cli::new(PROGRAM).with_store(store.store());
            ThreeStages::write(cli.directory());
            use_lock(&cli);
            thread::spawn(move || build(&cli))
        })
        .collect();
    for one in builds {
        assert_eq!(one.join().expect("the build succeeds"), expected);
    }
}

fn killed_at_any_moment_then_built_again() {
    let expected = warm().0.clone();
    let cli = with_downloads_only(Cli::new(PROGRAM));
    ThreeStages::write(cli.directory());
    use_lock(&cli);
    let began = Instant::now();
    let spawn = || {
        let mut command = cli.command(Path::new(PROGRAM));
        command.arg("./recipe.toml").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    };
    let rounds = if soak() { 60 } else { 8 };
    for round in 1..=rounds {
        let mut child = spawn();
        // Spread over a run's length, and over the shorter runs that follow as more is cached.
        thread::sleep(Duration::from_millis(40 * round * round % 4_000 + 5));
        child.kill().expect("it is our own child");
        child.wait().expect("it is our own child");
    }
    assert_eq!(build(&cli), expected, "after {rounds} kills in {:?}", began.elapsed());
    let left: Vec<_> = fs::read_dir(cli.store().join("tmp")).expect("a store has it").flatten().collect();
    assert!(left.is_empty(), "what the killed left was not swept: {left:?}");
}

fn a_full_disk_leaves_the_store_whole() {
    let expected = warm().0.clone();
    let cli = with_downloads_only(Cli::new(PROGRAM));
    ThreeStages::write(cli.directory());
    use_lock(&cli);
    let blobs = run("du", ["-sm", cli.store().to_str().expect("UTF-8")]);
    let megabytes: u64 =
        blobs.text().split('\t').next().and_then(|text| text.parse().ok()).expect("du prints a number");
    // Room for the downloads, then for ever more of what is made of them, until it fits.
    let script = format!(
        "store=$PWD/small; mkdir $store; mount -t tmpfs -o size={small}m tmpfs $store
         trap 'umount $store' EXIT
         cp -a $CLAWBUILD_STORE/. $store/
         export CLAWBUILD_STORE=$store
         status=0; clawbuild ./recipe.toml || status=$?
         [ $status = 1 ] || {{ echo \"the full disk gave status $status\"; exit 9; }}
         df --output=avail $store
         mount -o remount,size={large}m $store
         clawbuild ./recipe.toml --json",
        small = megabytes + 40,
        large = megabytes + 8_000,
    );
    let output = cli.run_in_mount_namespace(&script).success();
    assert!(
        ["store/full", "oci/disk-full"].iter().any(|code| output.stderr.contains(&format!("error[{code}]"))),
        "{}",
        output.stderr
    );
    assert!(output.stdout.contains(&expected.digest), "{}", output.stdout);
}

fn interrupted_it_cleans_up() {
    let (cli, project) = project();
    let recipe = fs::read_to_string(project.recipe()).expect("it was written");
    let slow = unique("sleep 600; echo");
    fs::write(project.recipe(), recipe.replace("cat /work/*/*.txt >/all.txt", &slow)).expect("it can be written");
    let log = cli.scratch().join("log");
    let stderr = fs::File::create(&log).expect("the scratch directory is writable");
    let mut command: Command = cli.command(Path::new(PROGRAM));
    command.args(["./recipe.toml"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&log).unwrap_or_default().contains("sleep 600") {
        assert!(Instant::now() < deadline, "the step never began");
        thread::sleep(Duration::from_millis(20));
    }
    let asked = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is our own child");
    let status = child.wait().expect("it is our own child");
    assert_eq!(status.code(), Some(130), "{}", fs::read_to_string(&log).unwrap_or_default());
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    let sleeping = Output::of(Command::new("pgrep").args(["-f", &slow]));
    assert_eq!(sleeping.text(), "", "the step's command outlived the build");
}

fn unique(word: &str) -> String {
    let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    format!("{word} {}", since.as_nanos())
}

fn soak() -> bool {
    std::env::var_os("CLAWBUILD_TEST_SOAK").is_some()
}
