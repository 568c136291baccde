//! Firmware for Espressif's chips, built by ESP-IDF's own `idf.py`. The image is its files: the parts of the flash, all of
//! them in one, and `flash.json`, which says where each goes.

use recipe::EspIdf;

use super::{Command, OUT, Workshop, variables};
use crate::source::SourceTree;
use crate::stage::{Stages, path};
use crate::{Copy, CopyFrom, FileAction, From, Stage, StageId};

/// What a source directory holds that is no source, or was made from it on another machine.
const EXCLUDE: &[&str] = &["/build", "/managed_components", ".git"];
/// Where the source is built; the paths of source files are in the firmware.
const PROJECT: &str = "/project";
/// Where Espressif's image has ESP-IDF and its tools. Spec: ESP-IDF's `tools/docker/Dockerfile`.
const IDF_PATH: &str = "/opt/esp/idf";
const IDF_TOOLS_PATH: &str = "/opt/esp";

/// Secrets in a header end up in the firmware, where everybody can read them.
const REFUSE: &str = r#"
for file; do
  if [ -e "$file" ]; then
    echo "the source holds \`$file\`, and what is in it would end up in the firmware: take it out, and configure the device" >&2
    exit 1
  fi
done"#;

/// `set-target` makes the configuration anew from the defaults, among them one that keeps times and paths out.
const CONFIGURE: &str = r#"
. "$IDF_PATH/export.sh" >/dev/null
echo CONFIG_APP_REPRODUCIBLE_BUILD=y >/tmp/reproducible
defaults=
for file in sdkconfig.defaults "sdkconfig.defaults.$CHIP"; do
  if [ -f "$file" ]; then defaults=$file; break; fi
done
cp /tmp/reproducible sdkconfig.clawbuild
idf.py "-DSDKCONFIG_DEFAULTS=$defaults${defaults:+;}sdkconfig.clawbuild" "-DPROJECT_VER=$VERSION" set-target "$CHIP""#;

const BUILD: &str = r#"
. "$IDF_PATH/export.sh" >/dev/null
idf.py build"#;

const COLLECT: &str = r#"
. "$IDF_PATH/export.sh" >/dev/null
python3 -c "$PROGRAM" "$CHIP" "$NAME" "$VERSION" "$PARTITIONS""#;

/// Checks the parts against the partition table, and joins them.
const PROGRAM: &str = include_str!("esp_idf.py");

/// The stage whose tree is the firmware's files.
pub(crate) fn plan(shop: &Workshop<'_>, stages: &mut Stages, idf: &EspIdf) -> StageId {
    let locked = shop.locked;
    let source = SourceTree::of(stages, locked, shop.ground, shop.build, EXCLUDE);
    let environment = || {
        variables([
            ("IDF_PATH", IDF_PATH),
            ("IDF_TOOLS_PATH", IDF_TOOLS_PATH),
            ("IDF_CCACHE_ENABLE", "0"),
            ("IDF_COMPONENT_CHECK_NEW_VERSION", "0"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("CHIP", &idf.chip.value),
            ("NAME", locked.recipe.name.value.as_str()),
            ("VERSION", &locked.version()),
            ("PARTITIONS", &idf.partitions.value),
        ])
    };
    let step = |name: &str, script: &str, network: bool, more: Vec<String>| {
        let mut env = environment();
        if script == COLLECT {
            env.insert("PROGRAM".to_owned(), PROGRAM.to_owned());
        }
        let shell = ["/bin/bash", "-euc", script.trim_start(), "bash"].map(str::to_owned);
        let args = shell.into_iter().chain(more).collect();
        shop.command(name, Command { args, env, workdir: path(PROJECT), network, mounts: Vec::new() })
    };
    let refused = idf.refuse.iter().map(|file| file.value.clone()).collect();
    let steps = vec![
        shop.files("source", vec![source.copy(PROJECT)]),
        step("no secrets", REFUSE, false, refused),
        step("idf.py set-target", CONFIGURE, idf.components, Vec::new()),
        step("idf.py build", BUILD, false, Vec::new()),
        step("flash image", COLLECT, false, Vec::new()),
    ];
    let built = stages.add(shop.stage("build", shop.toolchain(), steps));
    let files =
        FileAction::Copy(Copy { path: OUT.to_owned(), into: true, ..Copy::new(CopyFrom::Stage(built), path("/")) });
    stages.add(Stage {
        name: locked.recipe.name.value.to_string(),
        platform: shop.target,
        epoch: locked.epoch(),
        from: From::Scratch,
        steps: vec![shop.files("firmware", vec![files])],
    })
}
