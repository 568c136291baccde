//! Plans of profiles and agents.

use diag::{Reported, Source};
use oci::Platform;
use recipe::{Name, Recipe, Tier};

use super::tests::{plan_tier, project};
use crate::{CopyFrom, FileAction, From, Plan, Requests, StepKind, describe};

const TIERS: &str = r#"
schema = 1
[runtime]
name = "sample"
summary = "A program"
license = "MIT"
[source]
path = "."
[build]
language = "custom"
[stages.app]
from = "debian"
steps = [{ write = "/app", text = "app" }]
[image]
base = "debian"
packages = ["curl"]
user = { name = "app", uid = 1000 }
command = ["/usr/local/bin/sample"]
volumes = ["/home/app/.sample"]
env = { A = "runtime" }
[health]
http = { port = 80, path = "/healthz" }
[config]
file = "sample.json5"
path = "/home/app/.sample/sample.json"
format = "json5"
[config.members]
list = "agents.list"
id = "id"
default = "default"
workspace = "workspace"
model = "model"
allow = "tools.allow"
deny = "tools.deny"
[profiles.tools]
summary = "With tools"
packages = ["jq"]
env = { A = "tools" }
[profiles.more]
summary = "With more tools"
from = "tools"
packages = ["tree"]
args = ["--more"]
volumes = ["/srv/more"]
[agents.team]
summary = "Two agents in one process"
profile = "more"
files = [{ from = "team", to = "/home/app/.sample/workspace" }]
copy = [{ from = "app", path = "/app", to = "/usr/local/bin/app" }]
settings = { gateway = { port = 7, hosts = ["a", "b"] } }
[[agents.team.members]]
id = "main"
default = true
workspace = "/home/app/.sample/workspace"
tools = { deny = ["write", "edit"] }
[[agents.team.members]]
id = "developer"
model = "vendor/model"
tools = { allow = ["*"] }
settings = { subagents = { allowAgents = ["main"] } }
[agents.pair]
summary = "With a companion"
after = ["setup"]
health = { http = { port = 81, path = "/health" } }
[agents.pair.processes.setup]
command = ["/usr/local/bin/setup"]
restart = "never"
ready = "completed"
[agents.pair.processes.companion]
command = ["/usr/local/bin/companion"]
env = { GATEWAY = "ws://127.0.0.1" }
restart = "always"
after = ["sample"]
[agents.plain]
summary = "As it is"
"#;

fn recipe() -> Recipe {
    Recipe::parse(&Source::new("recipe.toml", TIERS)).expect("the recipe is right")
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn plan(tier: &Tier) -> Plan {
    plan_tier(&recipe(), tier, Platform::LINUX_AMD64).expect("plans")
}

fn team() -> Tier {
    Tier::Agent(name("team"))
}

#[test]
fn the_plan_of_an_agent_on_two_profiles() {
    insta::assert_snapshot!(describe(&plan(&team())));
}

#[test]
fn the_config_of_an_agent_on_two_profiles() {
    insta::assert_json_snapshot!(plan(&team()).image.config);
}

#[test]
fn the_configuration_and_manifest_of_an_agent() {
    let plan = plan(&team());
    let StepKind::Files(actions) = &plan.stage(plan.result).steps.last().expect("steps").kind else {
        panic!("the last step writes files")
    };
    let written = actions.iter().filter_map(|action| match action {
        FileAction::Write { path, data, .. } => Some(format!("{path}\n{}", String::from_utf8_lossy(data))),
        _ => None,
    });
    insta::assert_snapshot!(written.collect::<Vec<_>>().join("\n"));
    let owner = actions.iter().find_map(|action| match action {
        FileAction::Copy(copy) if matches!(copy.from, CopyFrom::Context(_)) => Some(copy.owner),
        _ => None,
    });
    assert_eq!(owner, Some((1000, 1000)), "what lies in a volume is the user's");
}

#[test]
fn the_manifest_of_several_processes() {
    let plan = plan(&Tier::Agent(name("pair")));
    let StepKind::Files(actions) = &plan.stage(plan.result).steps[0].kind else { panic!("the step writes files") };
    let [FileAction::Write { data, .. }] = actions.as_slice() else { panic!("only the manifest changes: {actions:?}") };
    insta::assert_snapshot!(String::from_utf8_lossy(data));
}

/// Images share what they have in common: the stages below are the same.
#[test]
fn tiers_stand_on_the_very_stages_below() {
    let runtime = plan(&Tier::Runtime);
    for tier in [Tier::Profile(name("tools")), Tier::Profile(name("more")), team(), Tier::Agent(name("plain"))] {
        let plan = plan(&tier);
        let lowered = plan.lower().definition;
        let stage = plan.stage(plan.stage_named("sample").expect("the runtime's stage"));
        assert_eq!(stage, runtime.stage(runtime.result), "{}", plan.target);
        let below = runtime.lower().definition;
        let shared = |vertex: &llb::Vertex| lowered.vertices().iter().any(|other| other.digest() == vertex.digest());
        // All but the last, which only says which vertex is the result.
        assert!(below.vertices().iter().all(shared), "{}", plan.target);
        assert!(plan.image.history.starts_with(&runtime.image.history));
    }
    let agent = plan(&Tier::Agent(name("plain")));
    assert!(matches!(agent.stage(agent.result).from, From::Stage(_)));
    assert!(agent.stage(agent.result).steps.is_empty(), "an agent that changes no file adds no layer");
}

#[test]
fn packages_of_a_profile_lie_on_those_below() {
    let requests = Requests::of(&recipe(), &project()).expect("requests");
    let own = requests.debian.iter().filter(|request| request.platform == Platform::LINUX_AMD64);
    let below: Vec<(&str, Option<&str>)> = own
        .map(|request| (request.owner.as_str(), request.below.as_deref()))
        .filter(|(owner, _)| owner.starts_with("sample"))
        .collect();
    let expected =
        [("sample", Some("base/debian")), ("sample:tools", Some("sample")), ("sample:more", Some("sample:tools"))];
    assert_eq!(below, expected);
}

#[test]
fn an_agent_in_a_file_of_its_own_is_as_one_in_the_recipe() {
    let start = TIERS.find("[agents.plain]").expect("it is there");
    let mut split = Recipe::parse(&Source::new("recipe.toml", &TIERS[..start])).expect("the recipe is right");
    split
        .add_agent("plain", &Source::new("agents/plain.toml", "schema = 1\nsummary = \"As it is\"\n"))
        .expect("the agent is right");
    let tier = Tier::Agent(name("plain"));
    let plan_of = |recipe: &Recipe| plan_tier(recipe, &tier, Platform::LINUX_AMD64).expect("plans");
    let (one, other) = (plan_of(&split), plan_of(&recipe()));
    assert_eq!((one.lower_digest(), one.image), (other.lower_digest(), other.image));
}

#[test]
fn a_setting_without_a_place_points_at_the_agent() {
    let text = TIERS.replace("port = 7,", "port = { number = 7 },");
    let recipe = Recipe::parse(&Source::new("recipe.toml", text)).expect("the recipe is right");
    let error = plan_tier(&recipe, &team(), Platform::LINUX_AMD64).expect_err("a number is no table").diagnostic();
    insta::assert_debug_snapshot!((error.message, error.labels[0].text.clone(), error.causes));
}

impl Plan {
    fn lower_digest(&self) -> oci::Digest {
        self.lower().definition.digest()
    }
}
