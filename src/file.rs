//! Opening a file that others may replace at any time.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a regular file for reading, or says at once that it is none. To open a pipe in the usual way waits for its writer, perhaps for
/// ever. On Linux that is so, too, where a pipe takes the file's place after the look at it.
///
/// # Errors
/// As [`File::open`]'s; [`IsADirectory`](io::ErrorKind::IsADirectory), and
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for a pipe or a device.
pub fn regular_file(path: &Path) -> io::Result<File> {
    // To open a device may have an effect.
    is_regular(&std::fs::metadata(path)?)?;
    let file = match at_once().open(path) {
        // Another process has a lease on it: the kernel sees to its end.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => File::open(path)?,
        opened => opened?,
    };
    // It may be another by now.
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Without waiting for a pipe's writer, and without taking a terminal for this process.
fn at_once() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options
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
