//! Where a store's socket lies, and how it is reached where the path is longer than the system takes.

use std::fs::File;
use std::path::{Path, PathBuf};

/// The socket's name in the store's folder.
pub const SOCKET_FILE: &str = "socket";
/// The longest path of a socket that is given to the system as it is; systems take 104 to 108.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;

/// A path that the system takes, good for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Keeps the short way to the folder open.
    _folder: Option<File>,
}

/// A store's folder that lies too deep for a socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path of its socket has {bytes} bytes, and the system takes {SOCKET_PATH_BYTES_MAX}; give `store` in plimsoll.toml a shorter path"
)]
pub struct PlaceError {
    bytes: usize,
}

impl Place {
    /// The place in a folder.
    ///
    /// # Errors
    /// The folder lies too deep, and the system has no shorter way to it.
    pub(super) fn of(folder: &Path) -> Result<Self, PlaceError> {
        let path = folder.join(SOCKET_FILE);
        let bytes = path.as_os_str().len();
        if bytes <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        short(folder).ok_or(PlaceError { bytes })
    }

    /// What to give to the system.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The way over the folder's descriptor, whose length doesn't depend on the folder's.
#[cfg(target_os = "linux")]
fn short(folder: &Path) -> Option<Place> {
    use std::os::fd::AsRawFd as _;

    let file = File::open(folder).ok()?;
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    path.is_dir().then(|| Place { path: path.join(SOCKET_FILE), _folder: Some(file) })
}

#[cfg(not(target_os = "linux"))]
fn short(_folder: &Path) -> Option<Place> {
    None
}
