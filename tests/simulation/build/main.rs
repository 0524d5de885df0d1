//! Plants bugs in copies of the sources. So the production code has no switches for them. If an edit no longer fits the
//! source, the build fails and names the bug.

use std::{env, error::Error, path::Path};

mod group_commit;
mod sessions;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    let out = env::var("OUT_DIR")?;
    group_commit::plant(Path::new(&out))?;
    sessions::plant(Path::new(&out))
}
