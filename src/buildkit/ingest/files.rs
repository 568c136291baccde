//! The files of a result.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use engine::FilesOutput;
use engine::export::{self, ExportError};
use engine::meter::{Meter, Metered};
use tokio_util::sync::CancellationToken;

use super::ExportTask;
use crate::session::StreamSink;

/// Takes an archive of the result and writes its files where they go.
#[derive(Debug)]
pub struct FilesSink {
    output: FilesOutput,
    epoch: Option<i64>,
    task: Arc<ExportTask>,
    cancel: CancellationToken,
    result: Mutex<Option<Result<(), ExportError>>>,
}

impl FilesSink {
    /// Writes to `output`, no time later than `epoch`; tells `task` how far it is.
    pub fn new(output: FilesOutput, epoch: Option<i64>, task: Arc<ExportTask>, cancel: CancellationToken) -> Self {
        Self { output, epoch, task, cancel, result: Mutex::default() }
    }

    /// What came of it; `None` where nothing was sent.
    pub fn take_result(&self) -> Option<Result<(), ExportError>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl StreamSink for FilesSink {
    fn receive(&self, _: &BTreeMap<String, String>, content: &mut dyn Read) -> io::Result<()> {
        self.task.begin();
        let meter = Meter::new(self.task.progress(), self.task.id(), "files", None);
        let mut source = BufReader::with_capacity(1 << 17, Metered::new(content, meter, &self.cancel));
        let written = export::files(&self.output, self.epoch, &mut source);
        let answer = match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
        answer?;
        // Whether all of it came is known at its end only.
        io::copy(&mut source, &mut io::sink()).map(drop)
    }
}
