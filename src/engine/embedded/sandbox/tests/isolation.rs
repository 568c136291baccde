//! What a step is, sees and can do.

use std::collections::BTreeMap;
use std::fs;

use engine::embedded::sandbox::{Limits, Network, Variable};
use rustix::process::{Pid, Signal, kill_process};

use crate::Check;
use crate::fixture::{ALL, Bench, OWNS_ALL, ROOT, Who, eventually, processes_with};

pub(crate) const CHECKS: &[Check] = &[
    ("exit status and both outputs", ALL, exit_status_and_both_outputs),
    ("much output arrives whole", ALL, much_output_arrives_whole),
    ("death by signal", ALL, death_by_signal),
    ("environment as given", ALL, environment_as_given),
    ("process state", ALL, process_state),
    ("users by number", ALL, users_by_number),
    ("users by name", OWNS_ALL, users_by_name),
    ("no network", ALL, no_network),
    ("the host's network", ALL, host_network),
    ("proc and sys are closed", ALL, proc_and_sys_are_closed),
    ("devices", ALL, devices),
    ("no privileges", ALL, no_privileges),
    ("forbidden calls", ALL, forbidden_calls),
    ("made devices do not work", ROOT, made_devices_do_not_work),
    ("background processes end", ALL, background_processes_end),
    ("cancelled", ALL, cancelled),
    ("killed clawbuild leaves nothing", ALL, killed_clawbuild_leaves_nothing),
    ("killed helper leaves nothing", ALL, killed_helper_leaves_nothing),
    ("many at once", ALL, many_at_once),
    ("probing", ALL, probing),
    ("probing without user namespaces", ROOT, probing_without_user_namespaces),
    ("out of memory", ROOT, out_of_memory),
    ("too many processes", ROOT, too_many_processes),
];

fn exit_status_and_both_outputs(bench: &Bench, who: Who) {
    let ended = bench.script(who, "echo out; echo err >&2; exit 7").run();
    assert_eq!(ended.result["code"], 7);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

fn much_output_arrives_whole(bench: &Bench, who: Who) {
    let ended = bench.script(who, "yes 0123456789abcdef | head -n 300000").succeed();
    assert_eq!(ended.stdout.len(), 17 * 300_000);
    assert!(ended.stdout.lines().all(|line| line == "0123456789abcdef"));
}

fn death_by_signal(bench: &Bench, who: Who) {
    let mut job = bench.job(who, ["/helper", "crash"]);
    job.spec.mounts.push(crate::mounts::bind(&bench.helper(), "/helper", true));
    assert_eq!(job.run().result["code"], 128 + 11);
}

fn environment_as_given(bench: &Bench, who: Who) {
    let mut job = bench.job(who, ["env"]);
    job.spec.env =
        vec![Variable::new("B", "2 = two\nlines"), Variable::new("A", ""), Variable::new("PATH", "/nowhere:/bin")];
    assert_eq!(job.succeed().stdout, "B=2 = two\nlines\nA=\nPATH=/nowhere:/bin\nHOME=/root\n");
    let mut job = bench.job(who, ["env"]);
    job.spec.env = vec![Variable::new("HOME", "/elsewhere")];
    assert_eq!(job.succeed().stdout, "HOME=/elsewhere\n");
}

fn process_state(bench: &Bench, who: Who) {
    let script = "echo $$; umask; pwd; hostname; ls /proc/self/fd; ulimit -c; grep SigIgn /proc/self/status; \
                  grep SigBlk /proc/self/status; cat /dev/stdin; cat /proc/self/sessionid > /dev/null 2>&1 || true; ls -d /proc/[0-9]*";
    let mut job = bench.script(who, script);
    job.spec.cwd = "/made/for/it".to_owned();
    job.spec.hostname = "somewhere".to_owned();
    let ended = job.succeed();
    let expected =
        "1\n0022\n/made/for/it\nsomewhere\n0\n1\n2\n3\n0\nSigIgn:\t0000000000000000\nSigBlk:\t0000000000000000\n";
    assert!(ended.stdout.starts_with(expected), "{}", ended.stdout);
    let processes: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("/proc/")).collect();
    assert!(processes.len() <= 2, "other processes are visible: {processes:?}");
    assert!(ended.upper.join("made/for/it").is_dir(), "the working directory stays, as in BuildKit");
}

fn users_by_number(bench: &Bench, who: Who) {
    let mut job = bench.script(who, "id -u; id -g; touch /tmp/mine; stat -c %u:%g /tmp/mine; pwd; stat -c %u:%g .");
    job.spec.user = "1001:44".to_owned();
    job.spec.cwd = "/work".to_owned();
    assert_eq!(job.succeed().stdout, "1001\n44\n1001:44\n/work\n1001:44\n");
}

fn users_by_name(bench: &Bench, who: Who) {
    let mut job = bench.script(who, "id -u; id -G; echo $HOME; if touch /etc/x; then echo written; fi 2>/dev/null");
    job.spec.user = "app".to_owned();
    assert_eq!(job.succeed().stdout, "1001\n1002 29\n/home/app\n");
}

fn no_network(bench: &Bench, who: Who) {
    let ended = bench
        .script(who, "cat /proc/net/dev; cat /proc/net/if_inet6; cat /proc/net/route; cat /etc/resolv.conf")
        .succeed();
    let interfaces: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(interfaces, ["lo"], "{}", ended.stdout);
    assert!(
        ended.stdout.contains("00000000000000000000000000000001"),
        "loopback is up and has an address: {}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("nameserver"));
    let ended = bench.script(who, "cat /sys/class/net/lo/flags; ls /sys/class/net").run();
    // An ordinary user's step may see the host's /sys.
    if who == Who::Root {
        assert_eq!(ended.stdout, "0x9\nlo\n");
    }
}

fn host_network(bench: &Bench, who: Who) {
    let mut job = bench.script(who, "cat /proc/net/dev; cat /etc/resolv.conf; cat /etc/hosts");
    job.spec.network = Network::Host;
    job.spec.extra_hosts = vec![("db".to_owned(), std::net::IpAddr::from([10, 0, 0, 7]))];
    let ended = job.succeed();
    let interfaces = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
    };
    let own = fs::read_to_string("/proc/net/dev").expect("this machine's network");
    for interface in interfaces(&own) {
        assert!(interfaces(&ended.stdout).contains(&interface), "{interface} in {}", ended.stdout);
    }
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert!(ended.stdout.contains(&resolver));
    assert!(
        ended.stdout.ends_with(
            "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\n"
        )
    );
}

fn proc_and_sys_are_closed(bench: &Bench, who: Who) {
    let script = "
        for file in /proc/kcore /proc/keys /proc/timer_list; do
            if test -e $file; then test -z \"$(cat $file)\" || echo open $file; fi
        done
        for directory in /proc/acpi /proc/scsi /sys/firmware; do
            if test -e $directory; then test -z \"$(ls $directory)\" || echo open $directory; fi
        done
        for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/ksm/run /proc/sys/vm/drop_caches; do
            if test -e $file && (echo 0 > $file) 2> /dev/null; then echo written $file; fi
        done
        echo done";
    assert_eq!(bench.script(who, script).succeed().stdout, "done\n");
}

fn devices(bench: &Bench, who: Who) {
    let script = "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | ls -l /dev/fd/0 > /dev/null; head -c 8 /dev/urandom > /dev/null; \
                  touch /dev/shm/x; test -c /dev/ptmx; if (echo x > /dev/full) 2> /dev/null; then exit 1; fi";
    let ended = bench.script(who, script).succeed();
    let names: Vec<&str> = ended.stdout.lines().collect();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(names, expected);
}

fn no_privileges(bench: &Bench, who: Who) {
    let ended = bench.script(who, "cat /proc/self/status").succeed();
    let status: BTreeMap<&str, &str> = ended.stdout.lines().filter_map(|line| line.split_once(":\t")).collect();
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
    // audit_write, setfcap: what Docker gives.
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(status[set], "00000000a80425fb", "{set}");
    }
    assert_eq!((status["CapInh"], status["CapAmb"]), ("0000000000000000", "0000000000000000"));
    assert_eq!((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"));
    let mut job = bench.script(who, "grep -E 'Cap(Eff|Prm|Amb|Inh)' /proc/self/status");
    job.spec.user = "1001:1001".to_owned();
    let ended = job.succeed();
    assert!(ended.stdout.lines().all(|line| line.ends_with("\t0000000000000000")), "{}", ended.stdout);
    let script = "mkdir /m; if mount -t tmpfs x /m 2>/dev/null; then echo mounted; fi; \
                  if unshare -r true 2>/dev/null; then echo unshared; fi; \
                  if umount /proc 2>/dev/null; then echo unmounted; fi; \
                  if hostname other 2>/dev/null; then echo renamed; fi";
    assert_eq!(bench.script(who, script).run().stdout, "");
}

fn forbidden_calls(bench: &Bench, who: Who) {
    let mut job = bench.job(who, ["/helper", "forbidden-calls"]);
    job.spec.mounts.push(crate::mounts::bind(&bench.helper(), "/helper", true));
    let ended = job.succeed();
    for line in ended.stdout.lines() {
        let expected = match line.split_once(' ').expect("name and number") {
            ("clone3", _) => libc::ENOSYS,
            ("getpid", _) => 0,
            _ => libc::EPERM,
        };
        assert!(line.ends_with(&format!(" {expected}")), "{line}");
    }
    assert_eq!(ended.stdout.lines().count(), 9);
}

fn made_devices_do_not_work(bench: &Bench, who: Who) {
    let script = "mknod /tmp/zero c 1 5; mknod /dev/shm/zero c 1 5; mknod /dev/again c 1 5; \
                  for file in /tmp/zero /dev/shm/zero /dev/again; do \
                  if head -c 1 $file > /dev/null 2>&1; then echo read $file; fi; done";
    assert_eq!(bench.script(who, script).run().stdout, "");
}

fn background_processes_end(bench: &Bench, who: Who) {
    let marker = format!("31536{}", marker(who, 1));
    let script = format!("sleep {marker} & (sleep {marker} &) ; echo started");
    assert_eq!(bench.script(who, &script).succeed().stdout, "started\n");
    assert!(eventually(|| processes_with(&marker).is_empty()));
}

fn cancelled(bench: &Bench, who: Who) {
    let marker = format!("31537{}", marker(who, 2));
    let mut job = bench.script(who, &format!("trap '' TERM INT; sleep {marker} & sleep {marker}"));
    job.cancel_after = Some(100);
    assert_eq!(job.run().result, "cancelled");
    assert!(processes_with(&marker).is_empty());
}

fn killed_clawbuild_leaves_nothing(bench: &Bench, who: Who) {
    let marker = format!("31538{}", marker(who, 3));
    // The command drops its tie to the parent by changing its user, as many entry points do.
    let job = bench.script(who, &format!("(sleep {marker} &); sleep {marker}"));
    let mut child = job.start(None);
    assert!(eventually(|| processes_with(&format!("sleep\0{marker}")).len() == 2), "both have started");
    // The shell around the stand-in executes it, so this is the stand-in itself.
    kill_process(Pid::from_child(&child), Signal::KILL).expect("it is ours");
    child.wait().expect("it ends");
    assert!(eventually(|| processes_with(&marker).is_empty()), "left over: {:?}", processes_with(&marker));
    let directory = job.directory.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&directory), "mounts are left");
}

fn killed_helper_leaves_nothing(bench: &Bench, who: Who) {
    let marker = format!("31539{}", marker(who, 4));
    let job = bench.script(who, &format!("(sleep {marker} &); sleep {marker}"));
    let mut child = job.start(None);
    assert!(eventually(|| processes_with(&format!("sleep\0{marker}")).len() == 2), "both have started");
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok()) == Some(child.id())
    };
    let helper = processes_with("clawbuild-sandbox").into_iter().find(is_child).expect("a helper");
    let helper = Pid::from_raw(helper.cast_signed()).expect("a process");
    kill_process(helper, Signal::KILL).expect("it is ours");
    assert!(child.wait().expect("it ends").success());
    let result = fs::read_to_string(job.directory.join("result")).expect("a result");
    assert!(result.contains("HelperDied"), "{result}");
    assert!(eventually(|| processes_with(&marker).is_empty()), "left over: {:?}", processes_with(&marker));
}

fn many_at_once(bench: &Bench, who: Who) {
    let mut job = bench.script(who, "head -c 100000 /dev/zero; exit 0");
    job.parallel = Some(16);
    let ended = job.succeed();
    assert_eq!(ended.stdout.len(), 100_000);
}

fn probing(bench: &Bench, who: Who) {
    let found = bench.tool(who, "probe", &serde_json::Value::Null);
    match who {
        Who::Root => assert_eq!(found, "Probe { identity: Root, limitations: [] }"),
        Who::Range => assert_eq!(found, "Probe { identity: RootlessRange, limitations: [] }"),
        Who::Single => assert!(found.starts_with("Probe { identity: RootlessSingle, limitations: [No"), "{found}"),
    }
}

fn probing_without_user_namespaces(bench: &Bench, _: Who) {
    // The setting belongs to the namespace it is made in, and root without capabilities is an ordinary user.
    let script =
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all $0 probe";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(bench.helper())
        .output()
        .expect("unshare");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        found, "engine/no-namespaces: user namespaces are switched off on this machine (user.max_user_namespaces is 0)",
        "{output:?}"
    );
}

fn out_of_memory(bench: &Bench, who: Who) {
    let mut job = bench.job(
        who,
        [
            "sh",
            "-c",
            "head -c 200000000 /dev/zero | dd bs=150000000 count=1 iflag=fullblock of=/dev/null 2>/dev/null; exit 0",
        ],
    );
    job.spec.limits = Limits { memory: Some(32 << 20), processes: None };
    let ended = job.run();
    assert_eq!(ended.result["out_of_memory"], true, "{ended:?}");
}

fn too_many_processes(bench: &Bench, who: Who) {
    let mut job = bench.job(who, ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all"]);
    job.spec.limits = Limits { memory: None, processes: Some(4) };
    let ended = job.run();
    assert_ne!(ended.result["code"], 0);
    assert_eq!(ended.stdout, "");
}

fn marker(who: Who, test: u32) -> u32 {
    (std::process::id() % 10_000) * 100 + test * 10 + who as u32
}
