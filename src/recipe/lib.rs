//! Recipes, bases and the lock: text to typed values that know where they were written.
//!
//! Parsing stops at the first mistake and tells it with its place; nothing here reads files, the network, the clock
//! or the environment. A [`Recipe`] is valid syntax; [`Lock`] pins every outside input a recipe or base asks for.

mod base;
mod contract;
mod error;
mod language;
mod lock;
mod lock_text;
mod name;
mod parse_base;
mod parse_build;
mod parse_image;
mod parse_process;
mod parse_recipe;
mod parse_source;
mod parse_tier;
mod reader;
mod recipe;
mod request;
mod source;
mod tier;

pub use base::{Base, BaseParent, DebianSet, PlacedFile, RegistryArchive, Tool, Unpack};
pub use contract::{Contract, ContractPoint};
pub use error::{RecipeError, Result};
pub use language::{Build, EspIdf, Go, Language, Node, Optimize, Place as PlacedSource, Rust, SourceCopy, Zig};
pub use lock::{
    LOCK_VERSION, Lock, LockError, LockedCommit, LockedDebian, LockedDependencies, LockedPackage, LockedRelease,
    PublishedImage, Stale,
};
pub use name::{BadName, ContainerPath, Name, Requirement};
pub use recipe::{
    Config, ConfigFormat, Health, HealthProbe, Image, ImageCopy, Override, OverrideType, Recipe, ShippedFile, Stage,
    StageFrom, StageStep, StepKind, User,
};
pub use request::{DebianRequest, GitRequest, Place, Registry, ReleaseRequest};
pub use source::{GitReference, SourceSpec};
pub use tier::{
    Additions, Agent, Member, MemberKeys, Naming, Process, Profile, Ready, Restart, Roster, Setting, TargetName, Tier,
};
