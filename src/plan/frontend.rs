//! The image that makes clawbuild a BuildKit frontend.

use std::collections::BTreeMap;

use oci::ContainerConfig;

use crate::bases::layout;
use crate::stage::{Stages, path};
use crate::{
    BaseImages, Context, Copy, CopyFrom, FileAction, ImagePlan, LockedBase, Origin, Plan, Stage, Step, StepKind,
};

/// The directory the program is taken from, as the engine is told, and the program's name in it.
pub const PROGRAM_CONTEXT: (&str, &str) = ("program", "clawbuild");
/// Where the program lies in the image.
const PROGRAM: &str = "/usr/bin/clawbuild";
/// The base under it.
pub const FRONTEND_BASE: &str = "debian";

impl Plan {
    /// Plans the image: the program on a base, and what a daemon wants to know before it runs a frontend.
    /// Spec: BuildKit `frontend/gateway/gateway.go`, labels.
    #[must_use]
    pub fn frontend(base: &LockedBase<'_>, images: &BaseImages, verb: &str, version: &str) -> Self {
        let origin = Origin { source: base.base.source.clone(), span: base.base.name.span };
        let epoch = base.epoch();
        let (context, file) = PROGRAM_CONTEXT;
        let context = Context { name: context.to_owned(), include: vec![file.to_owned()], exclude: Vec::new() };
        let copy = Copy {
            path: format!("/{file}"),
            mode: Some(0o755),
            timestamp: Some(epoch.0),
            ..Copy::new(CopyFrom::Context(context), path(PROGRAM))
        };
        let name = format!("clawbuild {version}");
        let step =
            Step { name: name.clone(), origin: origin.clone(), kind: StepKind::Files(vec![FileAction::Copy(copy)]) };
        let mut stages = Stages::default();
        let from = layout(images, &base.base.name.value, base.platform, origin);
        let result =
            stages.add(Stage { name: "frontend".to_owned(), platform: base.platform, epoch, from, steps: vec![step] });
        let mut history = base.history();
        history.push(name);
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let image = ImagePlan {
            config: ContainerConfig {
                env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
                entrypoint: vec![PROGRAM.to_owned(), verb.to_owned()],
                working_dir: "/".to_owned(),
                labels: BTreeMap::from([
                    label("org.opencontainers.image.title", "clawbuild"),
                    label("org.opencontainers.image.description", "BuildKit frontend for clawbuild's recipes"),
                    label("org.opencontainers.image.version", version),
                    label("org.opencontainers.image.base.name", &format!("base/{}", base.base.name.value)),
                    // All it needs comes through the daemon.
                    label("moby.buildkit.frontend.network.none", "true"),
                    label(
                        "moby.buildkit.frontend.caps",
                        "moby.buildkit.frontend.contexts,moby.buildkit.frontend.subrequests",
                    ),
                ]),
                ..ContainerConfig::default()
            },
            epoch,
            version: version.to_owned(),
            repository: None,
            naming: recipe::Naming::default(),
            history,
        };
        let target: recipe::Name = "clawbuild".parse().expect("a name");
        Self { target: target.into(), platform: base.platform, stages: stages.into_vec(), result, image }
    }
}
