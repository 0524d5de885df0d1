//! The conformance suite without bounds, and with bounds that it does not reach.

use larder_testkit::{Factory, Runner, SingleOpener, Suite, factory};

/// A store per space, each from one URL.
fn suite(name: &str, url: &'static str) -> Suite<impl Factory> {
    Suite::new(name, SingleOpener::new(factory(move |_| larder_memory::connect(url))))
}

fn main() {
    Runner::new()
        .suite(suite("memory", "memory:"))
        .suite(suite("memory_refusing", "memory:?max_entries=50000&max_bytes=20000000&sweep=off"))
        .suite(suite(
            "memory_evicting",
            "memory:?max_entries=50000&max_bytes=20000000&when_full=evict&sweep=off",
        ))
        .main()
}
