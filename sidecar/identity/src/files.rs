//! The three files of a node directory, read together and within limits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::pem::Part;
use crate::provider::digest;

/// The node's certificate, leaf first.
pub const TLS_CERT: &str = "tls.crt";

/// The certificate's private key.
pub const TLS_KEY: &str = "tls.key";

/// The trusted roots.
pub const CA_CERT: &str = "ca.crt";

/// The link that kubelet replaces in one step when a Secret changes; all files of one version
/// lie behind it.
const KUBELET_VERSION: &str = "..data";

/// Tries when kubelet removes the version being read. It changes a Secret at most every few
/// seconds, so a second change within one read is already unheard of.
const READ_TRIES: usize = 3;

/// `O_NONBLOCK` of Linux, on all that a node runs on (asm-generic/fcntl.h).
const NONBLOCK: i32 = 0o4000;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// Not there, or not readable.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, pipe or device. A pipe without a writer would block for ever.
    #[error("{} is not a regular file: put the file itself there", .path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Over its cap.
    #[error("{} has more than {most} bytes: it is not what it should be", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The cap.
        most: usize,
    },
}

/// The bytes of one version of the three files.
pub struct NodeFiles {
    /// `tls.crt`
    pub cert: Vec<u8>,
    /// `tls.key`
    pub key: Vec<u8>,
    /// `ca.crt`
    pub ca: Vec<u8>,
}

impl NodeFiles {
    /// Reads all three, out of one version when kubelet keeps the directory.
    pub fn read(dir: &Path) -> Result<Self, FilesError> {
        let mut left = READ_TRIES;
        loop {
            let version = version_dir(dir);
            let files = Self::read_version(&version);
            left -= 1;
            // Kubelet removes the old version as soon as the link points to the new one.
            if files.is_ok() || left == 0 || version_dir(dir) == version {
                return files;
            }
        }
    }

    /// Reads all three straight from `version`.
    fn read_version(version: &Path) -> Result<Self, FilesError> {
        Self::read_each(&version.join(TLS_CERT), &version.join(TLS_KEY), &version.join(CA_CERT))
    }

    /// Reads three files that lie wherever somebody put them.
    pub fn read_each(cert: &Path, key: &Path, ca: &Path) -> Result<Self, FilesError> {
        Ok(Self {
            cert: read_file(cert, Part::Certificate)?,
            key: read_file(key, Part::Key)?,
            ca: read_file(ca, Part::Bundle)?,
        })
    }

    /// SHA-256 over all three, in hex: whether anything changed.
    #[must_use]
    pub fn content_hash(&self) -> String {
        digest(&[&self.cert, &self.key, &self.ca])
    }
}

impl std::fmt::Debug for NodeFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeFiles").finish_non_exhaustive()
    }
}

/// A cheap mark of the three files: as long as it is equal, reading them again is needless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    version: PathBuf,
    files: [Option<FileMark>; 3],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileMark {
    modified: (i64, i64),
    len: u64,
    inode: u64,
}

impl FileMark {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        let modified = (about.mtime(), about.mtime_nsec());
        Some(Self { modified, len: about.len(), inode: about.ino() })
    }
}

impl Stamp {
    /// Looks at the files behind `dir` without opening them. A missing one is part of the mark.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        let version = version_dir(dir);
        let files = [TLS_CERT, TLS_KEY, CA_CERT].map(|name| FileMark::of(&version.join(name)));
        Self { version, files }
    }

    /// The same for three files that lie wherever somebody put them.
    #[must_use]
    pub fn of_each(cert: &Path, key: &Path, ca: &Path) -> Self {
        Self { version: PathBuf::new(), files: [cert, key, ca].map(FileMark::of) }
    }
}

/// Where the current version of the files lies: behind `..data` if kubelet keeps the directory.
///
/// Resolved once, so that a change in between cannot mix two versions.
fn version_dir(dir: &Path) -> PathBuf {
    fs::canonicalize(dir.join(KUBELET_VERSION)).unwrap_or_else(|_| dir.to_owned())
}

/// The bytes of the regular file at `path`, at most as many as `part` may have.
pub(crate) fn read_file(path: &Path, part: Part) -> Result<Vec<u8>, FilesError> {
    let failed = |source| FilesError::Io { path: path.to_owned(), source };
    let regular = |about: fs::Metadata| {
        if about.is_file() { Ok(()) } else { Err(FilesError::NotAFile { path: path.to_owned() }) }
    };
    // Before opening too: to open a device may be to do something with it.
    regular(fs::metadata(path).map_err(failed)?)?;
    let file = open(path).map_err(failed)?;
    regular(file.metadata().map_err(failed)?)?;
    let most = part.max_bytes();
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        return Err(FilesError::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Opens for reading, and never waits: a pipe without a writer would never come to be open, and
/// one may have taken the file's place since it was looked at.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn version(dir: &Path, name: &str, text: &str) {
        fs::create_dir(dir.join(name)).expect("a version");
        for file in [TLS_CERT, TLS_KEY, CA_CERT] {
            fs::write(dir.join(name).join(file), text).expect("a file");
        }
    }

    /// As kubelet does it: a new link, renamed over the old one.
    fn flip(dir: &Path, name: &str) {
        symlink(name, dir.join("..data_tmp")).expect("a link");
        fs::rename(dir.join("..data_tmp"), dir.join(KUBELET_VERSION)).expect("renamed");
    }

    fn mounted() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        version(dir.path(), "..1", "one");
        version(dir.path(), "..2", "two");
        flip(dir.path(), "..1");
        for file in [TLS_CERT, TLS_KEY, CA_CERT] {
            symlink(Path::new(KUBELET_VERSION).join(file), dir.path().join(file)).expect("a link");
        }
        dir
    }

    #[test]
    fn a_flip_in_the_middle_of_reading_does_not_mix_two_versions() {
        let dir = mounted();
        let version = version_dir(dir.path());
        let first = read_file(&version.join(TLS_CERT), Part::Certificate).expect("read");
        flip(dir.path(), "..2");
        let second = read_file(&version.join(TLS_KEY), Part::Key).expect("read");
        assert_eq!((first, second), (b"one".to_vec(), b"one".to_vec()));
        assert_eq!(NodeFiles::read(dir.path()).expect("read").ca, b"two");
    }

    #[test]
    fn a_version_without_one_of_the_files_is_refused_by_its_path() {
        let dir = mounted();
        fs::remove_file(dir.path().join("..1").join(TLS_KEY)).expect("removed");
        let error = NodeFiles::read(dir.path()).expect_err("incomplete").to_string();
        assert!(error.contains("..1/tls.key"), "{error}");
    }

    #[test]
    fn a_pipe_without_a_writer_is_opened_without_waiting_for_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(TLS_KEY);
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo of coreutils");
        assert!(made.success());
        let opened = open(&path).expect("opened");
        assert!(!opened.metadata().expect("it is there").is_file());
    }

    #[test]
    fn the_stamp_changes_with_a_flip_a_rewrite_and_a_removal_only() {
        let dir = mounted();
        let before = Stamp::of(dir.path());
        assert_eq!(Stamp::of(dir.path()), before);
        flip(dir.path(), "..2");
        let flipped = Stamp::of(dir.path());
        assert_ne!(flipped, before);
        fs::write(dir.path().join(TLS_CERT), "longer").expect("written");
        let rewritten = Stamp::of(dir.path());
        assert_ne!(rewritten, flipped);
        fs::remove_file(dir.path().join("..2").join(CA_CERT)).expect("removed");
        assert_ne!(Stamp::of(dir.path()), rewritten);
    }
}
