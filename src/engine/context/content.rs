//! Reading the files of a context again, after the scan.

use std::fs::File;
use std::io::{Read as _, Sink, Write as _};

use oci::Hasher;
use rustix::io::Errno;

use super::Context;
use super::entry::{Entry, Kind};
use super::error::ContextError;
use super::hash;

/// The content of one file, as it was scanned.
#[derive(Debug)]
pub struct Content<'a> {
    context: &'a Context,
    entry: &'a Entry,
    file: File,
    /// Only where the file's stamp does not vouch for the content.
    hasher: Option<Hasher<Sink>>,
}

impl Context {
    /// Opens one of this context's files. Links are not followed on the way, so nothing outside the context can be
    /// reached even if it changed meanwhile.
    ///
    /// # Errors
    /// [`ContextError::Changed`] if it is no longer what it was when scanned, as far as that is known before reading;
    /// [`ContextError::Io`].
    pub fn open<'a>(&'a self, entry: &'a Entry) -> Result<Content<'a>, ContextError> {
        let file = File::from(hash::open(&self.directory, &entry.path).map_err(self.lost(entry))?);
        let stamp = hash::stamp(&file).map_err(self.lost(entry))?;
        let hasher = match entry.kind {
            Kind::File(_) if stamp == Some(entry.stamp) && entry.stamp.is_settled(self.scanned_at) => None,
            Kind::File(Some(_)) if stamp.is_some() => Some(Hasher::new(std::io::sink())),
            Kind::File(_) | Kind::Directory | Kind::Symlink(_) => {
                return Err(ContextError::Changed { path: self.source_path(entry) });
            }
        };
        Ok(Content { context: self, entry, file, hasher })
    }

    pub(super) fn source_path(&self, entry: &Entry) -> std::path::PathBuf {
        self.root.join(entry.path())
    }

    /// For failures to open what was there a moment ago.
    pub(super) fn lost(&self, entry: &Entry) -> impl FnOnce(Errno) -> ContextError + use<> {
        let path = self.source_path(entry);
        move |errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ContextError::Changed { path },
            errno => ContextError::io("open", path)(errno),
        }
    }
}

impl Content<'_> {
    /// Reads some of it into `chunk`, and gives the number of bytes. 0 says that this is the end and that all of it
    /// was what was scanned.
    ///
    /// # Errors
    /// [`ContextError::Changed`] at the end if it was not, [`ContextError::Io`].
    pub fn read(&mut self, chunk: &mut [u8]) -> Result<usize, ContextError> {
        let length = loop {
            match self.file.read(chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => {
                    break result.map_err(|source| {
                        let path = self.context.source_path(self.entry);
                        ContextError::Io { action: "read", path, source }
                    })?;
                }
            }
        };
        if length == 0 {
            return if self.is_faithful()? {
                Ok(0)
            } else {
                Err(ContextError::Changed { path: self.context.source_path(self.entry) })
            };
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.write_all(&chunk[..length]).expect("writing to a sink cannot fail");
        }
        Ok(length)
    }

    fn is_faithful(&self) -> Result<bool, ContextError> {
        match &self.hasher {
            Some(hasher) => Ok(self.entry.kind == Kind::File(Some(hasher.clone().finish().0))),
            None => {
                let stamp = hash::stamp(&self.file).map_err(self.context.lost(self.entry))?;
                Ok(stamp == Some(self.entry.stamp))
            }
        }
    }
}
