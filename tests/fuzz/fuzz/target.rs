//! One program for all targets. `LARDER_FUZZ_TARGET` names the target.

#![no_main]

use std::{env, sync::LazyLock};

use larder_fuzz::{Target, check};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("LARDER_FUZZ_TARGET").expect("LARDER_FUZZ_TARGET names the target");
    Target::find(&name).expect("a target of larder-fuzz")
});

fuzz_target!(|input: &[u8]| {
    if let Err(broken) = check(TARGET.parse, input) {
        panic!("{}: {broken}", TARGET.name);
    }
});
