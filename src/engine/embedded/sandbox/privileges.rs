//! Giving up what a step is not to have.

use std::fs;
use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::account::Person;
use super::error::Refusal;
use super::seccomp::Filters;
use super::spec::Security;
use crate::userns::Identity;

/// What root in a container may, by containerd's default.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Open files a step may have: enough for any build, and not so many that programs which close them all take long.
const OPEN_FILES: u64 = 65_536;

/// Limits that would otherwise differ from machine to machine.
pub(super) fn limit_resources() -> Result<(), Refusal> {
    let files = rustix::process::getrlimit(Resource::Nofile);
    let current = files.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    let set =
        |resource, limit| rustix::process::setrlimit(resource, limit).map_err(Refusal::setup("set a resource limit"));
    set(Resource::Nofile, Rlimit { current: Some(current), maximum: files.maximum })?;
    // A crash is not to leave a core file in the layer.
    let core = rustix::process::getrlimit(Resource::Core);
    set(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum })
}

/// Becomes the person and drops every privilege a step does not have. After it the process can hardly do anything but
/// execute the program.
pub(super) fn drop(person: &Person, identity: Identity, security: Security) -> Result<(), Refusal> {
    match security {
        Security::Insecure => become_person(person, identity),
        Security::Sandbox => {
            let filters = Filters::compile()?;
            limit_bounding_set()?;
            become_person(person, identity)?;
            let allowed = if person.uid == 0 { CAPABILITIES } else { CapabilitySet::empty() };
            limit_capabilities(allowed).map_err(Refusal::setup("drop capabilities"))?;
            rustix::thread::set_no_new_privs(true).map_err(Refusal::setup("forbid new privileges"))?;
            filters.load()
        }
    }
}

/// Capabilities outside the bounding set cannot come back by executing anything.
fn limit_bounding_set() -> Result<(), Refusal> {
    for capability in CapabilitySet::all().difference(CAPABILITIES) {
        // An error means that the kernel does not know so high a number.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(Refusal::setup("limit capabilities"))?;
        }
    }
    Ok(())
}

fn limit_capabilities(allowed: CapabilitySet) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let permitted = rustix::thread::capabilities(None)?.permitted.intersection(allowed);
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn become_person(person: &Person, identity: Identity) -> Result<(), Refusal> {
    if !identity.owns_all() {
        return appear_as(person);
    }
    let groups: Vec<Gid> = person.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(person.uid), Gid::from_raw(person.gid));
    rustix::thread::set_thread_groups(&groups).map_err(Refusal::setup("set the groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(Refusal::setup(format!("become group {}", person.gid)))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Refusal::setup(format!("become user {}", person.uid)))
}

/// Where there is but one id, the step can only be that one. In a namespace of its own, that one can go by the number
/// the step asks for, and so can all the files.
fn appear_as(person: &Person) -> Result<(), Refusal> {
    let appearance = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if appearance == (person.uid, person.gid) {
        return Ok(());
    }
    unshare_as(person.uid, person.gid, UnshareFlags::NEWUSER)
        .map_err(Refusal::setup(format!("appear as user {}", person.uid)))
}

/// Makes namespaces, among them one of users, in which the one id there is, root's, goes by these numbers.
pub(super) fn unshare_as(uid: u32, gid: u32, namespaces: UnshareFlags) -> io::Result<()> {
    #[expect(unsafe_code, reason = "unshare(2) can give threads different descriptor tables")]
    // SAFETY: no caller unshares the descriptor table.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }?;
    fs::write("/proc/self/uid_map", format!("{uid} 0 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} 0 1"))
}
