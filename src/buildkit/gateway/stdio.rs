//! The standard streams as the way to the daemon that runs this process.

use std::io;
use std::os::fd::AsFd;

use async_trait::async_trait;
use tokio::io::join;
use tokio::net::unix::pipe;

use crate::transport::{Dial, DialError, Purpose, Stream};

/// The daemon at the other end of the standard streams, which are pipes. There is one connection, made once.
#[derive(Clone, Copy, Debug)]
pub struct Stdio;

const NAME: &str = "the standard streams";

#[async_trait]
impl Dial for Stdio {
    fn describe(&self) -> String {
        NAME.to_owned()
    }

    async fn dial(&self, _: Purpose<'_>) -> Result<Box<dyn Stream>, DialError> {
        let input = own(&io::stdin()).and_then(pipe::Receiver::from_owned_fd).map_err(DialError::unreachable(NAME))?;
        let output = own(&io::stdout()).and_then(pipe::Sender::from_owned_fd).map_err(DialError::unreachable(NAME))?;
        Ok(Box::new(join(input, output)))
    }
}

fn own(stream: &impl AsFd) -> io::Result<std::os::fd::OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
