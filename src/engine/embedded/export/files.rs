//! The files of a result, outside of the store.

use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use oci::layer::Snapshot;
use oci::layer::diff::write_tree;
use oci::layer::tar::TarWriter;

use crate::FilesOutput;
use crate::embedded::chain::Chain;
use crate::embedded::solver::Solve;
use crate::embedded::unpack;
use crate::export::{self, ExportError};

/// Writes the tree where the output says.
pub(crate) async fn files(solve: &Arc<Solve>, chain: &Chain, output: &FilesOutput) -> Result<(), ExportError> {
    let tree = unpack::snapshots(solve, chain.parts()).await?;
    let (output, epoch) = (output.clone(), solve.request.source_date_epoch);
    solve
        .blocking(move || match &output {
            FilesOutput::Tar(path) => archive(&tree, epoch, path),
            FilesOutput::Directory(path) => directory(&tree, epoch, path),
        })
        .await
}

fn archive(tree: &[Snapshot], epoch: Option<i64>, path: &Path) -> Result<(), ExportError> {
    export::archive(path, |tar| write_tree(tree, epoch, tar).map(drop).map_err(ExportError::Layer))
}

fn directory(tree: &[Snapshot], epoch: Option<i64>, root: &Path) -> Result<(), ExportError> {
    std::thread::scope(|scope| {
        let (reader, writer) = io::pipe().map_err(ExportError::io("make a pipe for", root))?;
        let writing = scope.spawn(move || {
            let mut tar = TarWriter::new(BufWriter::with_capacity(1 << 16, writer));
            write_tree(tree, epoch, &mut tar)?;
            tar.finish().map(drop)?;
            Ok(())
        });
        let written = export::directory(root, epoch, reader);
        match writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // When the files cannot be written the pipe breaks, which is not what happened first.
            Err(error) if written.is_ok() => Err(ExportError::Layer(error)),
            Ok(()) | Err(_) => written,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn files_replace_what_was_there_and_keep_the_rest() {
        let temp = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::at(temp.path().join("s"));
        fs::create_dir_all(snapshot.fs().join("bin/closed")).unwrap();
        fs::write(snapshot.fs().join("bin/tool"), "new").unwrap();
        fs::set_permissions(snapshot.fs().join("bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(snapshot.fs().join("bin/tool"), snapshot.fs().join("tool")).unwrap();
        symlink("tool", snapshot.fs().join("link")).unwrap();
        fs::set_permissions(snapshot.fs().join("bin/closed"), fs::Permissions::from_mode(0o555)).unwrap();

        let root = temp.path().join("out");
        fs::create_dir_all(root.join("link/in/the/way")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/tool"), "old").unwrap();
        fs::write(root.join("bin/other"), "kept").unwrap();
        directory(std::slice::from_ref(&snapshot), Some(7), &root).unwrap();
        directory(std::slice::from_ref(&snapshot), Some(7), &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("bin/tool")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.join("bin/other")).unwrap(), "kept");
        assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("tool"));
        let meta = fs::metadata(root.join("bin/tool")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.nlink()), (0o755, 7, 2));
        assert_eq!(fs::metadata(root.join("bin/closed")).unwrap().mode() & 0o777, 0o555);

        let tar = temp.path().join("out.tar");
        archive(&[snapshot], Some(7), &tar).unwrap();
        let bytes = fs::read(&tar).unwrap();
        archive(&[Snapshot::at(temp.path().join("s"))], Some(7), &tar).unwrap();
        assert_eq!(fs::read(&tar).unwrap(), bytes);
    }
}
