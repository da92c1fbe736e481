//! Opening a file that others may replace at any time.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a regular file for reading, or says at once that it is none. To open a pipe in the usual way waits for its writer, perhaps for
/// ever, and to look before opening leaves time to replace the file.
///
/// # Errors
/// As [`File::open`]'s; [`IsADirectory`](io::ErrorKind::IsADirectory), and
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for a pipe or a device.
pub fn regular_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // It changes nothing for a regular file.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    #[cfg(not(target_os = "linux"))]
    is_regular(&std::fs::metadata(path)?)?;
    let file = options.open(path)?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

fn is_regular(file: &Metadata) -> io::Result<()> {
    let kind = match file.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => io::ErrorKind::IsADirectory,
        _ => io::ErrorKind::InvalidInput,
    };
    Err(kind.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for (path, kind) in [
            (folder.path(), io::ErrorKind::IsADirectory),
            (&pipe, io::ErrorKind::InvalidInput),
            (Path::new("/dev/zero"), io::ErrorKind::InvalidInput),
            (&folder.path().join("none"), io::ErrorKind::NotFound),
        ] {
            let error = regular_file(path).unwrap_err();
            assert_eq!(error.kind(), kind, "{path:?}");
        }
        // A link to one is one: Kubernetes mounts secrets as links.
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "content").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut content = String::new();
        regular_file(&link)
            .unwrap()
            .read_to_string(&mut content)
            .unwrap();
        assert_eq!(content, "content");
    }
}
