//! TLS by two files: a chain of certificates and its key, in PEM. They are read again when they change, so that a new
//! certificate needs no restart; while the new ones can't be used, the old ones go on.
//!
//! Deliberately absent: HTTP/2, certificates of clients, and any file that is made here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::units::Millis;

/// How often it is looked whether the files changed, while somebody connects.
const LOOK_EACH: Millis = Millis::from_secs(10);
/// The most certificates of a chain.
const CHAIN_MAX: usize = 16;
/// The protocol that is spoken inside.
const PROTOCOL: &[u8] = b"http/1.1";

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It isn't there, or says nothing in PEM.
    #[error("the {what} in `{}` can't be read: {why}", path.display())]
    File {
        /// `certificate` or `key`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Both can be read and don't fit.
    #[error("the certificate in `{}` can't be used with the key in `{}`: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

/// What connections are secured with.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Files>);

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    read: Mutex<Read>,
}

struct Read {
    config: Arc<ServerConfig>,
    /// When the files were written that it is of.
    written: Written,
    looked: Instant,
}

type Written = [Option<SystemTime>; 2];

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// One can't be read, or they don't fit.
    pub fn read(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let written = written(&cert, &key);
        let read = Mutex::new(Read { config: config(&cert, &key)?, written, looked: Instant::now() });
        Ok(Self(Arc::new(Files { cert, key, read })))
    }

    /// Who secures the next connection, by the files as they are now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let Files { cert, key, read } = &*self.0;
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.elapsed() >= LOOK_EACH.duration() {
            read.looked = Instant::now();
            let written = written(cert, key);
            if written != read.written {
                read.written = written;
                match config(cert, key) {
                    Ok(config) => read.config = config,
                    Err(error) => tracing::warn!(%error, "the certificate that was read before stays in use"),
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&read.config))
    }
}

fn written(cert: &Path, key: &Path) -> Written {
    [cert, key].map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
}

fn config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unread = |what, path: &Path| {
        let path = path.to_owned();
        move |error: pem::Error| TlsError::File { what, path, why: told(&error) }
    };
    let chain = CertificateDer::pem_file_iter(cert).map_err(unread("certificate", cert))?.take(CHAIN_MAX);
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(unread("certificate", cert))?;
    if chain.is_empty() {
        return Err(unread("certificate", cert)(pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread("key", key))?;
    let unfit = |error: tokio_rustls::rustls::Error| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        why: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// In words that name no line of the file: a key is never shown.
fn told(error: &pem::Error) -> String {
    if let pem::Error::Io(error) = error {
        return error.to_string();
    }
    let is_none = matches!(error, pem::Error::NoItemsFound);
    if is_none { "it has none in PEM, which begins with `-----BEGIN`" } else { "it isn't whole PEM" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("it writes");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("it writes");
        (cert, key)
    }

    fn age(path: &Path) {
        let file = std::fs::File::options().append(true).open(path).expect("it opens");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("it is aged");
    }

    fn in_use(tls: &Tls) -> Arc<ServerConfig> {
        Arc::clone(tls.acceptor().config())
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_read_and_broken_ones_change_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = write(folder.path());
        let tls = Tls::read(cert.clone(), key.clone()).expect("they fit");
        let first = in_use(&tls);
        write(folder.path());
        age(&cert);
        assert!(Arc::ptr_eq(&first, &in_use(&tls)), "nobody looked yet");
        tokio::time::advance(LOOK_EACH.duration()).await;
        let second = in_use(&tls);
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&key, "-----BEGIN").expect("it writes");
        tokio::time::advance(LOOK_EACH.duration()).await;
        assert!(Arc::ptr_eq(&second, &in_use(&tls)), "what can't be read changes nothing");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_and_no_key_is_shown() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (cert, key) = write(one.path());
        let (_, foreign) = write(other.path());
        let told =
            |cert: &Path, key: &Path| Tls::read(cert.to_owned(), key.to_owned()).expect_err("refused").to_string();
        assert!(told(&cert, &foreign).contains("can't be used with the key"), "{}", told(&cert, &foreign));
        assert!(told(&one.path().join("none.pem"), &key).contains("none.pem"));
        assert!(told(&key, &key).contains("none in PEM"), "{}", told(&key, &key));
        let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!!\n-----END PRIVATE KEY-----\n";
        std::fs::write(&key, secret).expect("it writes");
        assert!(!told(&cert, &key).contains("c2VjcmV0"), "{}", told(&cert, &key));
    }
}
