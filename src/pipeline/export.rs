//! Where images go besides the store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use diag::{Diagnostic, Reported, codes};
use engine::FilesOutput;

use super::layout::{Export, docker_form};
use super::{ImageName, Product, Session, SolveOptions, docker};
use crate::cli::Failure;

/// What becomes of an image, `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputSpec {
    /// An OCI layout: a directory, or a tar archive where the name ends in `.tar`.
    Oci {
        /// Where.
        destination: PathBuf,
    },
    /// An archive that `docker load` and OCI tools read alike.
    DockerArchive {
        /// Where.
        destination: PathBuf,
    },
    /// Docker's own image store.
    DockerLoad,
    /// The image's files, in a directory.
    Local {
        /// Where.
        destination: PathBuf,
    },
    /// The image's files, in a tar archive.
    Tar {
        /// Where.
        destination: PathBuf,
    },
}

/// A text that is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputSpecError {
    /// A part is not `name=value`.
    #[error("`{0}` is not `type=TYPE[,dest=PATH]`")]
    Form(String),
    /// The type is not known.
    #[error("`{0}` is not a type of output")]
    Type(String),
    /// The type needs a destination.
    #[error("`type={0}` needs a destination")]
    NoDestination(&'static str),
}

impl Reported for OutputSpecError {
    fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(codes::cli::USAGE, self.to_string());
        match self {
            Self::Form(_) | Self::Type(_) => {
                diagnostic.help("types are oci, docker, local and tar: `-o type=oci,dest=DIR`")
            }
            Self::NoDestination(kind) => diagnostic.help(format!("write `-o type={kind},dest=PATH`")),
        }
    }
}

impl FromStr for OutputSpec {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        let (mut kind, mut destination) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest" | "destination", value)) if !value.is_empty() => destination = Some(PathBuf::from(value)),
                _ => return Err(OutputSpecError::Form(text.to_owned())),
            }
        }
        let needed = |kind| destination.clone().ok_or(OutputSpecError::NoDestination(kind));
        match kind {
            Some("oci") => Ok(Self::Oci { destination: needed("oci")? }),
            Some("docker") => Ok(match destination {
                Some(destination) => Self::DockerArchive { destination },
                None => Self::DockerLoad,
            }),
            Some("local") => Ok(Self::Local { destination: needed("local")? }),
            Some("tar") => Ok(Self::Tar { destination: needed("tar")? }),
            Some(other) => Err(OutputSpecError::Type(other.to_owned())),
            None => Err(OutputSpecError::Form(text.to_owned())),
        }
    }
}

/// Where an image went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// An OCI layout or archive.
    Oci(PathBuf),
    /// An archive for `docker load`.
    DockerArchive(PathBuf),
    /// Docker has it, under this name.
    Docker(String),
    /// Files.
    Files(PathBuf),
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(path) if is_archive(path) => write!(f, "{} (OCI archive)", path.display()),
            Self::Oci(path) => write!(f, "{} (OCI layout)", path.display()),
            Self::DockerArchive(path) => write!(f, "{} (docker load)", path.display()),
            Self::Docker(name) => write!(f, "Docker, as {name}"),
            Self::Files(path) => write!(f, "{}", path.display()),
        }
    }
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Writes an image where it is wanted. What is there already is left as it is.
///
/// # Errors
/// The destination cannot be written, or Docker refuses.
pub async fn export(
    session: &Session,
    product: &Product,
    name: &ImageName,
    output: &OutputSpec,
    options: &SolveOptions,
) -> Result<Exported, Failure> {
    let image = Export::new(session, product.root(), name);
    match output {
        OutputSpec::Oci { destination } if is_archive(destination) => {
            image.to_archive(docker_form(), destination)?;
            Ok(Exported::Oci(destination.clone()))
        }
        OutputSpec::Oci { destination } => {
            image.to_directory(destination)?;
            Ok(Exported::Oci(destination.clone()))
        }
        OutputSpec::DockerArchive { destination } => {
            image.to_archive(docker_form(), destination)?;
            Ok(Exported::DockerArchive(destination.clone()))
        }
        OutputSpec::DockerLoad => {
            docker::load(session, product, name).await?;
            Ok(Exported::Docker(name.shown().familiar()))
        }
        OutputSpec::Local { destination } => {
            for built in product.images() {
                // As `docker buildx` has it: a directory for each platform where there are several.
                let directory = match product.images() {
                    [_] => destination.clone(),
                    _ => destination.join(built.plan.platform.to_string().replace('/', "_")),
                };
                built.work.files(session, FilesOutput::Directory(directory), options).await?;
            }
            Ok(Exported::Files(destination.clone()))
        }
        OutputSpec::Tar { destination } => match product.images() {
            [built] => {
                built.work.files(session, FilesOutput::Tar(destination.clone()), options).await?;
                Ok(Exported::Files(destination.clone()))
            }
            _ => Err(Diagnostic::new(codes::cli::USAGE, "a tar archive of files holds one platform's")
                .help("build one platform, or write a directory with `type=local`: it gets one for each platform")
                .into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_users_write() {
        let path = PathBuf::from("out");
        assert_eq!("type=oci,dest=out".parse(), Ok(OutputSpec::Oci { destination: path.clone() }));
        assert_eq!("type=docker".parse(), Ok(OutputSpec::DockerLoad));
        assert_eq!("dest=out,type=local".parse(), Ok(OutputSpec::Local { destination: path }));
        assert_eq!("type=tar".parse::<OutputSpec>(), Err(OutputSpecError::NoDestination("tar")));
        assert_eq!("type=zip".parse::<OutputSpec>(), Err(OutputSpecError::Type("zip".into())));
        assert_eq!("out".parse::<OutputSpec>(), Err(OutputSpecError::Form("out".into())));
    }
}
