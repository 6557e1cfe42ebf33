//! The file operations of snapshot files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;
use tempfile::Builder;

/// The maximum size of a file in bytes, which is enough for about 200,000 instances. Reading needs a few times this
/// memory.
const MAX_LEN: u64 = 64 << 20;

/// The prefix of the extension of draft files.
const DRAFT: &str = "draft-";

/// The age at which a draft must be from a crashed process, since writing one takes moments.
const MAX_DRAFT_AGE: Duration = Duration::from_secs(600);

/// Returns the content of a file, if it exists. The error says why the file is unusable.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match open(path) {
        Ok(file) => content(file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a file, and refuses anything but a regular file: reading a FIFO or a device may never end, and opening one may
/// have side effects.
fn open(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(irregular());
    }
    // The path may name another file by now, so the opened file is checked again.
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::other("it is not a regular file")
}

fn content(file: File) -> Result<Vec<u8>, String> {
    let len = file.metadata().map_err(|error| error.to_string())?.len();
    check_len(len)?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    // The file may grow during the read.
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    check_len(bytes.len() as u64)?;
    Ok(bytes)
}

fn check_len(len: u64) -> Result<(), String> {
    if len > MAX_LEN {
        return Err(format!("the file is larger than {MAX_LEN} bytes, len=`{len}`"));
    }
    Ok(())
}

/// Replaces the content of a file atomically, even if other processes write it at the same time. Only its owner may
/// read it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    check_len(bytes.len() as u64).map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    // The name is random, since processes in containers may share a folder and have equal process ids.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut draft = Builder::new().prefix(&format!("{stem}.{DRAFT}")).tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path).map(drop).map_err(|error| error.error)
}

/// Removes the drafts of crashed processes from `folder`.
pub(super) fn remove_old_drafts(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        if !extension.to_string_lossy().starts_with(DRAFT) {
            continue;
        }
        let metadata = entry.metadata()?;
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if metadata.is_file() && age > MAX_DRAFT_AGE {
            fs::remove_file(&path).ok(); // fails if another process removed it first
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::SystemTime;
    use tempfile::tempdir;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "content").unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        symlink(path("file"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        assert_eq!(read(&path("file")).unwrap().unwrap(), b"content");
        assert_eq!(read(&path("missing")).unwrap(), None);
        for name in ["fifo", "device", "link", "dangling", "."] {
            assert_eq!(read(&path(name)).unwrap_err(), "it is not a regular file", "{name}");
        }
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err(), "it is not a regular file");
    }

    #[test]
    fn a_file_that_is_too_large_is_neither_read_nor_written() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_LEN + 1).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
        file.set_len(MAX_LEN).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, MAX_LEN);
        let bytes = vec![0; usize::try_from(MAX_LEN + 1).unwrap()];
        assert!(replace(&path, &bytes).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a draft was left");
    }

    #[test]
    fn replacing_sets_owner_only_permissions_and_does_not_follow_a_link() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new").join("a.snapshot");
        replace(&path, b"1").unwrap();
        let mode = || fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode() & 0o7777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"2").unwrap();
        assert_eq!((mode() & 0o7777, fs::read(&path).unwrap()), (0o600, b"2".to_vec()));

        let other = folder.path().join("other");
        fs::write(&other, "untouched").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        replace(&path, b"3").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"3");
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // file times are system times
    fn only_old_drafts_are_removed() {
        let folder = tempdir().unwrap();
        let create = |name: &str, age: u64| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        create("a.draft-x1", 700);
        create("a.draft-x2", 10); // may still be written
        create("a.snapshot", 700);
        create("draft-x3", 700);
        fs::create_dir(folder.path().join("b.draft-x4")).unwrap();
        remove_old_drafts(folder.path()).unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["a.draft-x2", "a.snapshot", "b.draft-x4", "draft-x3"]);
    }
}
