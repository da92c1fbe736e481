//! Your own backend, in less than a hundred lines: secrets that a platform mounts as files. And the laws that it must keep.
//!
//! `cargo run --example backend`
//!
//! A record is a folder, a field is a file in it: `prod/db#password` is `FOLDER/prod/db/password`.

#![allow(clippy::print_stdout, reason = "an example speaks to a person")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::conformance::{self, Subject};
use secret_resolver::{Error, ErrorKind, Record, Resolver, SecretBuf, SecretResolver};
use zeroize::Zeroizing;

/// Reads secrets from the files below a folder. It keeps nothing: the cache above it does.
#[derive(Clone, Debug)]
struct FilesBackend {
    folder: PathBuf,
}

impl SecretResolver for FilesBackend {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        // No segment of a name is empty, `.` or `..`, and none starts at a root, so the path cannot lead out of the folder.
        let folder = self.folder.join(request.name().path());
        ResolveFuture::new(async move {
            // A file system can hang, and other reads wait on this thread.
            let read = tokio::task::spawn_blocking(move || read(&folder));
            let record = read
                .await
                .map_err(|_| failed(ErrorKind::Unavailable, "the read was ended"))??;
            // The last step of every backend: the field that was asked for, in a version that the request accepts.
            request.admit(record.select(request.name().field()))
        })
    }
}

/// All files of the folder as one record. Files have no version, so the record has none.
fn read(folder: &Path) -> Result<Record, Error> {
    let mut record = Record::builder("files");
    for entry in fs::read_dir(folder).map_err(|error| ours(&error, folder))? {
        let file = entry.map_err(|error| ours(&error, folder))?.path();
        let name = file.file_name().and_then(|name| name.to_str());
        // Platforms keep their own files under names that start with a dot.
        if let Some(name) = name.filter(|name| !name.starts_with('.'))
            && file.is_file()
        {
            record = record.field(name, value(&file)?);
        }
    }
    record.build()
}

/// A larger file is not a secret. The cache has its own bound, but only for what has been read already.
const LARGEST: u64 = 64 * 1024;

/// The file's bytes, with no copy left behind: `fs::read` may grow its buffer, and frees the old one as it is.
fn value(file: &Path) -> Result<SecretBuf, Error> {
    let ours = |error| ours(&error, file);
    let mut opened = File::open(file).map_err(ours)?;
    let size = opened.metadata().map_err(ours)?.len();
    let size = usize::try_from(size.min(LARGEST)).unwrap_or(0);
    let mut value = SecretBuf::with_capacity(size)?;
    let mut chunk = Zeroizing::new([0; 1024]);
    loop {
        let count = opened.read(chunk.as_mut()).map_err(ours)?;
        if count == 0 {
            return Ok(value);
        }
        // It fails where the file is larger than the bound, or has grown meanwhile.
        value.push(&chunk[..count])?;
    }
}

/// The one place where a foreign error becomes ours: a kind by which callers decide, a path of the configuration, no foreign text.
fn ours(error: &io::Error, path: &Path) -> Error {
    let error = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            failed(ErrorKind::NotFound, "there is no such file or folder")
        }
        io::ErrorKind::PermissionDenied => failed(
            ErrorKind::Denied,
            "the file may not be read: check its owner and mode",
        ),
        _ => failed(ErrorKind::Unavailable, "the file cannot be read"),
    };
    error.with_detail(path.display().to_string())
}

fn failed(kind: ErrorKind, what: &'static str) -> Error {
    Error::new(kind, what).with_backend("files")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for (file, value) in [
        ("prod/db/user", "app-of-this-example"),
        ("prod/db/password", "password-of-this-example"),
        ("prod/token/value", "token-of-this-example"),
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap_or(folder.path()))?;
        fs::write(file, value)?;
    }
    let backend = FilesBackend {
        folder: folder.path().to_owned(),
    };
    let resolver = Resolver::builder(backend.clone()).build()?;

    let user = resolver.get("prod/db#user").await?;
    println!("resolved     prod/db#user is {}", user.expose_str()?);
    println!(
        "             prod/token has one field, which needs no name: {:?}",
        resolver.get("prod/token").await?
    );
    if let Err(error) = resolver.get("prod/no-such").await {
        println!("not there    {error}");
    }

    keeps_the_laws("alone", Arc::new(backend)).await?;
    keeps_the_laws("in the stack", Arc::new(resolver)).await
}

/// What a test of the backend calls: every law of the suite, on files that the test knows.
async fn keeps_the_laws(
    how: &str,
    resolver: Arc<dyn SecretResolver>,
) -> Result<(), Box<dyn std::error::Error>> {
    let subject = Subject::new(resolver, "prod/no-such")?
        .stores("prod/db#user", "app-of-this-example")?
        .stores("prod/db#password", "password-of-this-example")?
        .stores("prod/token", "token-of-this-example")?;
    match conformance::all(&subject).await {
        Ok(()) => {
            println!("conformance  {how}: it keeps all laws");
            Ok(())
        }
        Err(violation) => {
            Err(format!("{how}, it breaks {}: {}", violation.law, violation.found).into())
        }
    }
}
