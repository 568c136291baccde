//! Builders behind a unix socket.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{Dial, DialError, Purpose, Stream};

/// A builder that listens on a unix socket of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix {
    /// The socket.
    pub path: PathBuf,
}

#[async_trait]
impl Dial for Unix {
    fn describe(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    async fn dial(&self, _: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        let stream = UnixStream::connect(&self.path).await.map_err(DialError::unreachable(&self.describe()))?;
        Ok(Box::new(stream))
    }
}
