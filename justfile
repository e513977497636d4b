# What developers type often. CI runs scripts/test and nothing else.

# Everything that has to pass.
test:
    scripts/test

# Format and lint.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# The docs as docs.rs would show them.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --open

# Random canvases against the reference evaluator; scripts/test runs 2,000.
random count="100000" seed="1":
    CELERIAC_RANDOM_COUNT={{count}} CELERIAC_RANDOM_SEED={{seed}} cargo test --release --test it random:: -- --nocapture

# Kills coordinators, workers and Redis under random canvases; scripts/test runs nine kills with each appendfsync.
# `just chaos spoil` writes faults into the keys of a live system instead; scripts/test writes forty.
chaos *options:
    scripts/chaos {{options}}

# Plants the bugs of tests/mutants one by one; the suite has to find each.
mutants *options:
    scripts/mutants {{options}}

# Coordinators, workers and clients of this version and of older ones on one Redis.
mixed *revisions:
    scripts/mixed {{revisions}}

# Throughput of the embedded engine.
bench:
    cargo bench --bench embedded

# How long leaves wait for a free lane, memory and Redis; --long also beside runs of 1,000,000 nodes.
bench-hands *options:
    cargo bench --bench hands -- {{options}}

# Leaves per second over Redis, beside Celery on the same Redis: scripts/bench-redis --help says what can be chosen.
bench-redis *options:
    scripts/bench-redis {{options}}

# Two million small leaves, and what grows with them: memory, keys, commands of idle processes.
soak *options:
    cargo bench --bench soak -- {{options}}

# One fuzz target for so many seconds, on stable: text, canvas_json, message or plan.
fuzz target seconds="600":
    cargo run --release --manifest-path fuzz/Cargo.toml --bin drive -- {{target}} {{seconds}}

# Licences, bans, sources and advisories of what is in either lock file.
deny:
    scripts/supply-chain

# Capture Celery's JSON forms anew (needs Python with celery).
golden:
    python3 scripts/golden/capture.py
