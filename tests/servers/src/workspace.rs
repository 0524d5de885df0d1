//! The files of this checkout that outlive a test binary.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The target directory, by the same rule as `ci/servers`.
pub(crate) fn target() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = crate_root.ancestors().nth(2).unwrap_or(crate_root);
    // Joining an absolute path gives that path.
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The directory for state that test binaries share. Created if it is missing.
pub(crate) fn state() -> io::Result<PathBuf> {
    let directory = target().join("test-servers");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Waits for the lock under which servers are started, so that concurrent test binaries do not start the shared servers
/// twice. Dropping the file, or the end of the process, releases the lock.
pub(crate) async fn lock() -> io::Result<File> {
    let file = File::create(state()?.join("lock"))?;
    tokio::task::spawn_blocking(move || {
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(io::Error::other)?
}
