//! A receiver of files, as BuildKit is one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use engine::context::Filters;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::super::fixture::{Daemon, within};
use super::DIFF_COPY;
use super::packet::{Kind, Packet, Stat, mode};

/// What was sent: the list, and the contents that were asked for.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) stats: Vec<Stat>,
    pub(super) contents: BTreeMap<u32, Vec<u8>>,
}

/// A transfer under way.
pub(super) struct Transfer {
    requests: mpsc::UnboundedSender<Packet>,
    packets: tonic::Streaming<Packet>,
}

impl Transfer {
    pub(super) async fn begin(daemon: &Daemon, name: &str, filters: &Filters) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        let Filters { include, exclude, follow_paths } = filters;
        let name = vec![name.to_owned()];
        for (key, values) in [
            ("dir-name", &name),
            ("include-patterns", include),
            ("exclude-patterns", exclude),
            ("followpaths", follow_paths),
        ] {
            let is_escaped = values.iter().any(|value| !value.is_ascii());
            for value in values {
                let value = if is_escaped { escape(value) } else { value.clone() };
                request.metadata_mut().append(key, value.parse().expect("a header"));
            }
            if is_escaped {
                request.metadata_mut().insert(
                    format!("{key}-encoded").parse::<tonic::metadata::MetadataKey<_>>().expect("a key"),
                    MetadataValue::from_static("1"),
                );
            }
        }
        let packets = within(daemon.streaming(DIFF_COPY, request)).await?;
        Ok(Self { requests, packets })
    }

    pub(super) fn say(&self, packet: Packet) {
        self.requests.send(packet).expect("somebody listens");
    }

    pub(super) fn want(&self, id: u32) {
        self.say(Packet { kind: Kind::Request.into(), id, ..Packet::default() });
    }

    pub(super) async fn next(&mut self) -> Result<Option<Packet>, Status> {
        within(self.packets.message()).await
    }

    /// Asks for the contents that are wanted as soon as they are listed, as BuildKit does.
    pub(super) async fn run(mut self, is_wanted: impl Fn(&Stat) -> bool) -> Result<Received, Status> {
        let mut received = Received::default();
        let (mut is_listed, mut open) = (false, 0);
        loop {
            if is_listed && open == 0 {
                self.say(Packet { kind: Kind::Finish.into(), ..Packet::default() });
            }
            let packet = self.next().await?.ok_or_else(|| Status::internal("it ended early"))?;
            match packet.kind() {
                Kind::Stat => match packet.stat {
                    Some(stat) => {
                        let id = u32::try_from(received.stats.len()).expect("few files");
                        if stat.mode & (mode::DIRECTORY | mode::SYMLINK) == 0 && is_wanted(&stat) {
                            self.want(id);
                            received.contents.insert(id, Vec::new());
                            open += 1;
                        }
                        received.stats.push(stat);
                    }
                    None => is_listed = true,
                },
                Kind::Data => {
                    let content = received.contents.get_mut(&packet.id).expect("it was asked for");
                    content.extend_from_slice(&packet.data);
                    open -= usize::from(packet.data.is_empty());
                }
                Kind::Finish => {
                    assert_eq!(self.next().await?, None, "nothing follows");
                    return Ok(received);
                }
                Kind::Request | Kind::Error => panic!("a sender does not say {packet:?}"),
            }
        }
    }
}

fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    escaped.collect()
}

impl Received {
    pub(super) fn paths(&self) -> Vec<&str> {
        self.stats.iter().map(|stat| std::str::from_utf8(&stat.path).expect("text")).collect()
    }

    /// Writes the tree down, as the daemon does.
    pub(super) fn write_to(&self, into: &Path) {
        for (id, stat) in self.stats.iter().enumerate() {
            let path = into.join(OsStr::from_bytes(&stat.path));
            if stat.mode & mode::DIRECTORY != 0 {
                fs::create_dir(&path).expect("parents come first");
            } else if stat.mode & mode::SYMLINK != 0 {
                symlink(OsStr::from_bytes(&stat.target), &path).expect("links");
                continue;
            } else {
                let content = &self.contents[&u32::try_from(id).expect("few files")];
                assert_eq!(content.len() as i64, stat.size, "{}", path.display());
                fs::write(&path, content).expect("writes");
            }
            let special = [(mode::SETUID, 0o4000), (mode::SETGID, 0o2000), (mode::STICKY, 0o1000)];
            let special = special.into_iter().filter(|(bit, _)| stat.mode & bit != 0).map(|(_, bit)| bit).sum::<u32>();
            fs::set_permissions(&path, fs::Permissions::from_mode(stat.mode & 0o777 | special)).expect("sets");
        }
    }
}
