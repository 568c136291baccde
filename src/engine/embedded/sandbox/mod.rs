//! Running one command in namespaces of its own.
//!
//! ```text
//! clawbuild ── socket ── helper (same program, one thread, outside the namespaces)
//!     ▲                     └── process 1 of the step: mounts, pivots, drops privileges, becomes the command
//!     └── stdout, stderr ───────┘
//! ```
//! The helper reports how the command ended, and why it could not be run if it could not. Whoever of the three is killed,
//! nothing of the step is left: the kernel ends process 1 with the helper and everything with process 1, and the helper
//! ends process 1 when clawbuild's end of the socket closes.
//!
//! A command can also be run beside another, in the namespaces that one has ([`Sandbox::enter_blocking`]). Programs of
//! another architecture are run where the spec has an [`Emulator`].

mod account;
mod attach;
mod cgroup;
mod emulation;
mod enter;
mod error;
mod exec;
mod helper;
mod init;
mod message;
mod network;
mod privileges;
mod rootfs;
mod run;
mod seccomp;
mod spec;
mod stubs;

pub(crate) use account::Accounts;
pub use emulation::{Emulator, NoEmulator};
pub use error::{Refusal, SandboxError, SystemError};
pub use helper::helper_main_if_requested;
pub(crate) use network::add_address;
pub use run::{Cancel, ExitStatus, Process, Sandbox};
pub use spec::{DEFAULT_HOSTNAME, DEFAULT_PATH, Limits, Mount, MountSource, Network, Secret, Security, Spec, Variable};
