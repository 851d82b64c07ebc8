//! Real tools on real files, byte for byte against the same run in an ordinary directory.
//!
//! `scripts/test.sh` installs the tools. One that is missing fails its tests with a line that says
//! so.

mod bench_dir;
mod case;
mod rgbds;
mod table;
