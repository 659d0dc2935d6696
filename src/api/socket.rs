//! Serves the API on a private Unix socket in a store's folder.
//!
//! Only the process that holds the store's lock may do so: what lies there is then from a process that is gone, and is
//! removed. The folder is its owner's alone where we made it, the socket in any case, and whoever connects is asked by
//! the system who they are.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::guest::{ACCEPT_PAUSE, Guest};
use super::place::{Place, PlaceError, SOCKET_FILE};
use super::router::{REQUEST_TIME_MAX, router};
use super::service::Service;
use crate::store::lock::LOCK_FILE;
use crate::units::Millis;

/// Connections at once; more wait until one is over.
const CONNECTIONS_MAX: usize = 64;
/// The longest that a connection lives, busy or not.
const CONNECTION_TIME_MAX: Millis = Millis::from_secs(120);
const _: () = assert!(CONNECTION_TIME_MAX.0 > REQUEST_TIME_MAX.0, "a request may take its time");
/// Read and written by its owner alone.
const PRIVATE: u32 = 0o600;

/// Why a store isn't served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The folder lies too deep.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The system refuses it.
    #[error("can't {what} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A socket that is bound. Dropped, its file is gone.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
    owner: u32,
}

/// The file, and which one it is: another holder's is not ours to remove.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket's file stays; the next holder of the store removes it");
        }
    }
}

impl Socket {
    /// Binds the socket of a store that this process holds.
    ///
    /// # Errors
    /// The folder lies too deep, or the system refuses it.
    pub fn bind(folder: &Path) -> Result<Self, SocketError> {
        let path = folder.join(SOCKET_FILE);
        let fault = |what| {
            let path = path.clone();
            move |error| SocketError::Io { what, path, error }
        };
        let lock = folder.join(LOCK_FILE);
        let owner = std::fs::metadata(&lock).map_err(|error| SocketError::Io { what: "look at", path: lock, error })?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("remove")(error)),
            Ok(()) | Err(_) => {}
        }
        let place = Place::of(folder)?;
        let listener = UnixListener::bind(place.path()).map_err(fault("bind"))?;
        std::fs::set_permissions(&path, Permissions::from_mode(PRIVATE)).map_err(fault("protect"))?;
        let found = std::fs::symlink_metadata(&path).map_err(fault("look at"))?;
        let file = SocketFile { id: (found.dev(), found.ino()), path };
        Ok(Self { listener, file, owner: owner.uid() })
    }

    /// Answers until `stop` turns true, and then those who have asked already.
    pub async fn serve(self, service: Service, mut stop: watch::Receiver<bool>) {
        let Self { listener, file, owner } = self;
        let door = Door { listener, owner, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let stopped = async move {
            // Whoever could stop it is gone: that stops it, too.
            stop.wait_for(|stop| *stop).await.map(|_| ()).unwrap_or_default();
        };
        let served = axum::serve(door, router(service)).with_graceful_shutdown(stopped).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the store is no longer served to other processes");
        }
        drop(file);
    }
}

/// Lets in who owns the store, and not too many at once.
struct Door {
    listener: UnixListener,
    owner: u32,
    room: Arc<Semaphore>,
}

impl Listener for Door {
    type Io = Guest<UnixStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Guest<UnixStream>, ()) {
        loop {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                // Nobody closes it.
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, _)) if is_from(&stream, self.owner) => {
                    return (Guest::new(stream, room, CONNECTION_TIME_MAX), ());
                }
                Ok(_) => tracing::warn!("another user asked at the store's socket, and was sent away"),
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE.duration()).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

fn is_from(stream: &UnixStream, owner: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == owner)
}
